"""Training on preferences (DPO)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..data import preference
from ..evaluation import metrics
from ..evaluation.loop import EvaluationResult
from ..objectives.preference import PreferenceObjective
from ..objectives.token import Objective
from .dataset import DatasetJob


class PreferenceTraining(DatasetJob):
    """Direct preference optimization: a chosen and a rejected answer for each prompt."""

    name = "preference"
    reader: ClassVar = preference
    options_class, auto_class = preference.PreferenceOptions, "AutoModelForCausalLM"
    objective_options = ("beta", "loss", "reference")

    def needs_scores(self, arguments: Any) -> bool:
        return True

    def build_objective(self) -> Objective:
        names = {"beta": "beta", "loss": "kind", "reference": "reference"}
        options = {names[name]: value for name, value in self.objective_kwargs.items()}
        return PreferenceObjective(self.model, smoothing=self.smoothing, **options)

    def metrics(self, features: Any, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        rewards = np.asarray(result.scores)
        scores = metrics.preference(rewards[:, 0], rewards[:, 1])
        return {f"rewards_{name}": value for name, value in scores.items()}
