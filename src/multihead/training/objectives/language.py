"""Objectives of language models whose labels are made at each use of an example."""

from __future__ import annotations

from typing import Any

from ...errors import UnsupportedOption
from ..data.collators import Collator, DataCollatorForLanguageModeling
from ..data.features import Example
from ..data.masked_lm import Masking, mask_tokens
from .token import CausalLMObjective, Objective, TokenLabelObjective


class MaskedLMObjective(TokenLabelObjective):
    """Masked language modelling; tokens are masked again in each epoch."""

    columns = ("input_ids", "word_ids")

    def __init__(self, model: Any, masking: Masking, smoothing: float = 0.0) -> None:
        super().__init__(model, smoothing)
        self.masking = masking

    def prepare_example(self, example: Example, seed: tuple[int, int, int]) -> Example:
        ids, labels = mask_tokens(example, seed, self.masking)
        return {**example, "input_ids": ids, "labels": labels}


class CollatorMaskedLMObjective(TokenLabelObjective):
    """Masked language modelling with the settings of a data collator."""

    columns = ("input_ids",)

    def __init__(self, model: Any, smoothing: float, collator: DataCollatorForLanguageModeling) -> None:
        super().__init__(model, smoothing)
        self.collator = collator

    def prepare_example(self, example: Example, seed: tuple[int, int, int]) -> Example:
        return self.collator.add_labels(example, seed)


class UnlabeledCausalLMObjective(CausalLMObjective):
    """Causal language modelling that ignores the labels of examples."""

    def prepare_example(self, example: Example, seed: tuple[int, int, int]) -> Example:
        return {name: value for name, value in example.items() if name != "labels"}


def objective_with(collator: Collator, objective: Objective) -> Objective:
    """Return the objective with the settings of a data collator.

    Raises:
        UnsupportedOption: a language-modelling collator for a model that is no such language model.
    """
    if not isinstance(collator, DataCollatorForLanguageModeling):
        return objective
    if type(objective) is not (TokenLabelObjective if collator.mlm else CausalLMObjective):
        raise UnsupportedOption(
            f"DataCollatorForLanguageModeling(mlm={collator.mlm}) is for models of "
            f"AutoModelFor{'MaskedLM' if collator.mlm else 'CausalLM'}, not for {type(objective.model).__name__}."
        )
    if collator.mlm:
        return CollatorMaskedLMObjective(objective.model, objective.smoothing, collator)
    return UnlabeledCausalLMObjective(objective.model, objective.smoothing)
