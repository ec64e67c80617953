"""text-classification: a label for each text or pair of texts, by a trained head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from .base import ForwardPipeline, PipelineOptions, text_of, top_scores
from .streaming_batcher import ModelInput, Preprocessed

FUNCTIONS = ("sigmoid", "softmax", "none")
BEST = "best"  # default of top_k: the best label, not in a list


@dataclass(frozen=True, kw_only=True)
class TextClassificationOptions(PipelineOptions):
    """Options of text-classification.

    Args:
        top_k: labels of an answer, best first; None for all. Default: the best label, not in a list.
        function_to_apply: "sigmoid", "softmax" or "none". Default: by the kind of problem.
        truncation: reads the beginning of a text that is too long, instead of refusing it.
    """

    top_k: int | str | None = BEST
    function_to_apply: str | None = None
    truncation: bool = False

    def check(self) -> None:
        super().check()
        if self.top_k not in (None, BEST) and (not isinstance(self.top_k, int) or self.top_k < 1):
            raise InvalidInput(f"top_k is a number of labels from 1, or None for all; not {self.top_k!r}.")
        if self.function_to_apply not in (None, *FUNCTIONS):
            raise UnsupportedOption(
                f"function_to_apply is one of {', '.join(FUNCTIONS)}, not {self.function_to_apply!r}."
            )

    @property
    def count(self) -> int | None:
        """Number of labels of an answer; None for all."""
        return self.top_k if isinstance(self.top_k, int) else None if self.top_k is None else 1


class TextClassification(ForwardPipeline):
    """Labels texts with a sequence classifier: `[{"label": ..., "score": ...}]`.

    Scores are probabilities: of a sigmoid for several labels at once or a single one, else of a softmax; for a
    regression, the numbers themselves. A pair of texts is `{"text": ..., "text_pair": ...}`.
    """

    auto = "AutoModelForSequenceClassification"
    Options: ClassVar[type[PipelineOptions]] = TextClassificationOptions

    def validate(self, item: Any, o: TextClassificationOptions) -> Any:
        return text_or_pair(item)

    def preprocess(self, items: Sequence[Any], o: TextClassificationOptions) -> list[Preprocessed]:
        encoded: dict[int, Preprocessed] = {}
        for kind in (str, tuple):  # texts and pairs need separate tokenizer calls
            numbers = [number for number, item in enumerate(items) if isinstance(item, kind)]
            encoded |= zip(numbers, self.encode([items[n] for n in numbers], o.truncation), strict=True)
        return [encoded[number] for number in range(len(items))]

    def postprocess(
        self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TextClassificationOptions
    ) -> Any:
        names = self.model.config.id2label or {}
        best = top_scores(self.apply_function(outputs[0], o.function_to_apply), o.count)
        labels = [{"label": names.get(i, f"LABEL_{i}"), "score": score} for i, score in best]
        return labels[0] if o.top_k == BEST else labels

    def format_single(self, answer: Any, inputs: Any, o: TextClassificationOptions) -> Any:
        return [answer] if o.top_k == BEST and isinstance(inputs, str) else answer

    def apply_function(self, scores: Tensor, function: str | None = None) -> Tensor:
        """Return the probabilities of scores (labels,), or the scores of a regression."""
        kind = self.model.config.problem_type
        if function is None and kind == "regression":
            function = "none"
        elif function is None:
            function = "sigmoid" if kind == "multi_label_classification" or len(scores) == 1 else "softmax"
        return {"none": scores, "sigmoid": scores.sigmoid(), "softmax": scores.softmax(-1)}[function]


def text_or_pair(item: Any) -> str | tuple[str, str]:
    """Return a text or a pair of texts. Raises InvalidInput."""
    if isinstance(item, Mapping) and "text" in item:
        if item.get("text_pair") is None:
            return text_of(item["text"])
        return text_of(item["text"]), text_of(item["text_pair"])
    if isinstance(item, (Mapping, list, tuple)):
        raise InvalidInput(
            f'must be a text (a string) or {{"text": ..., "text_pair": ...}} for a pair, not {str(item)[:80]!r}.'
        )
    return text_of(item)
