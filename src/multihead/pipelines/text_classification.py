"""text-classification: a label for each text or pair of texts, by a trained head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from .answers import WithNotices
from .base import ForwardPipeline, PipelineOptions, text_of, top_scores
from .calibration import ABSTAIN, Calibration, find_calibration
from .emoji import name_emoji
from .streaming_batcher import ModelInput, Preprocessed
from .text_checks import NamedText

FUNCTIONS = ("sigmoid", "softmax", "none")
BEST = "best"  # default of top_k: the best label, not in a list


@dataclass(frozen=True, kw_only=True)
class TextClassificationOptions(PipelineOptions):
    """Options of text-classification.

    Args:
        top_k: labels of an answer, best first; None for all. Default: the best label, not in a list.
        function_to_apply: "sigmoid", "softmax" or "none". Default: by the kind of problem.
        truncation: reads the beginning of a text that is too long, instead of refusing it.
        calibration: True applies the calibration that is stored with the model, if any; False applies none. Or a
            `Calibration`, or a file with one (docs/labels.md).
        emoji_names: reads the names of emoji instead of emoji, which many vocabularies lack.
    """

    top_k: int | str | None = BEST
    function_to_apply: str | None = None
    truncation: bool = False
    calibration: Any = True
    emoji_names: bool = False

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
    regression, the numbers themselves. A pair of texts is `{"text": ..., "text_pair": ...}`. A best label below its
    threshold becomes `ABSTAIN`, with a notice; a list keeps all labels, or of several at once those that reach theirs.
    """

    auto = "AutoModelForSequenceClassification"
    Options: ClassVar[type[PipelineOptions]] = TextClassificationOptions

    def resolve_options(self, **options: Any) -> Any:
        o = super().resolve_options(**options)
        calibration = find_calibration(o.calibration, self.model)
        if calibration is not None:
            calibration.check_labels(self.label_names)
        return replace(o, calibration=calibration or False)

    def validate(self, item: Any, o: TextClassificationOptions) -> Any:
        texts = text_or_pair(item)
        if not o.emoji_names:
            return texts
        return name_emoji(texts) if isinstance(texts, str) else (name_emoji(texts[0]), name_emoji(texts[1]))

    def texts(self, item: Any, o: Any) -> Sequence[NamedText]:
        return [NamedText("", item)] if isinstance(item, str) else [*map(NamedText, ("text", "text_pair"), item)]

    def preprocess(self, items: Sequence[Any], o: TextClassificationOptions) -> list[Preprocessed]:
        encoded: dict[int, Preprocessed] = {}
        for kind in (str, tuple):  # texts and pairs need separate tokenizer calls
            numbers = [number for number, item in enumerate(items) if isinstance(item, kind)]
            encoded |= zip(numbers, self.encode([items[n] for n in numbers], o.truncation), strict=True)
        return [encoded[number] for number in range(len(items))]

    def postprocess(
        self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TextClassificationOptions
    ) -> Any:
        calibration: Calibration | None = o.calibration or None
        function = self.output_function(outputs[0], o.function_to_apply)
        if function == "none":
            calibration = None
        scores = outputs[0] if calibration is None else calibration.apply(outputs[0], self.label_names)
        best = top_scores(self.apply_function(scores, function), o.count)
        labels = [{"label": self.label_names[i], "score": score} for i, score in best]
        if calibration is not None and o.top_k != BEST and function == "sigmoid":
            labels = [row for row in labels if calibration.accepts(row["label"], row["score"])]
        if o.top_k != BEST:
            return labels
        return labels[0] if calibration is None else abstain_below(calibration, labels[0])

    @property
    def label_names(self) -> list[Any]:
        """Names of the labels, in the order of the scores."""
        names = self.model.config.id2label or {}
        return [names.get(number, f"LABEL_{number}") for number in range(self.model.config.num_labels)]

    def format_single(self, answer: Any, inputs: Any, o: TextClassificationOptions) -> Any:
        return [answer] if o.top_k == BEST and isinstance(inputs, str) else answer

    def output_function(self, scores: Tensor, function: str | None = None) -> str:
        """Return the name of the function that makes probabilities of scores (labels,); "none" for a regression."""
        kind = self.model.config.problem_type
        if function is not None:
            return function
        if kind == "regression":
            return "none"
        return "sigmoid" if kind == "multi_label_classification" or len(scores) == 1 else "softmax"

    def apply_function(self, scores: Tensor, function: str | None = None) -> Tensor:
        """Return the probabilities of scores (labels,), or the scores of a regression."""
        name = self.output_function(scores, function)
        return {"none": scores, "sigmoid": scores.sigmoid(), "softmax": scores.softmax(-1)}[name]


def abstain_below(calibration: Calibration, best: dict[str, Any]) -> Any:
    """Return the best label, or `ABSTAIN` with a notice if its score is below its threshold."""
    label, score = best["label"], best["score"]
    if calibration.accepts(label, score):
        return best
    least = calibration.thresholds[str(label)]
    text = f"the best label, {label}, has the score {score:.3f}, below its threshold {least:.3f}"
    return WithNotices({"label": ABSTAIN, "score": score}, [text])


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
