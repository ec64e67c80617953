"""Training of extractive question answering."""

from __future__ import annotations

from typing import Any, ClassVar

from ..data import question_answering
from ..data.features import Features
from ..evaluation.loop import EvaluationResult
from ..evaluation.squad import squad_metrics
from .dataset import EXAMPLE_WORDS, DatasetJob


class QuestionAnsweringTraining(DatasetJob):
    """Extractive question answering: the span of a context that answers a question."""

    name = "question-answering"
    reader: ClassVar = question_answering
    options_class, auto_class = question_answering.QuestionAnsweringOptions, "AutoModelForQuestionAnswering"
    labels_optional = True

    def needs_scores(self, arguments: Any) -> bool:
        return True

    def metrics(self, features: Features, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        return squad_metrics(features, result.scores, self.tokenizer, self.options)

    def example_input(self, features: Features) -> dict[str, str]:
        example = question_answering.Questions.of(features.rows, self.options)[0]
        return {"question": example.question, "context": " ".join(example.context.split()[: 3 * EXAMPLE_WORDS])}
