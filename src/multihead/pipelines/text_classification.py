"""text-classification: a label for each text or pair of texts, by a trained head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from .base import Options, Reader, ranked, text_of
from .streaming_batcher import Piece

FUNCTIONS = ("sigmoid", "softmax", "none")
ONE = "best"  # what top_k is where nothing is asked: the best label, not in a list


@dataclass(frozen=True, kw_only=True)
class Labelling(Options):
    """Of text-classification.

    Args:
        top_k: labels of an answer, best first; None for all. Left out, an answer is the best label itself.
        function_to_apply: "sigmoid", "softmax" or "none"; by the kind of problem when left out.
        truncation: reads the beginning of a text that is too long, instead of refusing it.
    """

    top_k: int | str | None = ONE
    function_to_apply: str | None = None
    truncation: bool = False

    def check(self) -> None:
        super().check()
        if self.top_k not in (None, ONE) and (not isinstance(self.top_k, int) or self.top_k < 1):
            raise InvalidInput(f"top_k is a number of labels from 1, or None for all; not {self.top_k!r}.")
        if self.function_to_apply not in (None, *FUNCTIONS):
            raise UnsupportedOption(
                f"function_to_apply is one of {', '.join(FUNCTIONS)}, not {self.function_to_apply!r}."
            )


class TextClassification(Reader):
    """Labels texts with a sequence classifier: `[{"label": ..., "score": ...}]`.

    Scores are probabilities: of a sigmoid for several labels at once or a single one, else of a softmax; for a
    regression, the numbers themselves. A pair of texts is `{"text": ..., "text_pair": ...}`.
    """

    auto = "AutoModelForSequenceClassification"
    Options: ClassVar[type[Options]] = Labelling

    def accept(self, item: Any, o: Labelling) -> Any:
        return pair_of(item)

    def pieces(self, items: Sequence[Any], o: Labelling) -> list[Any]:
        found: list[Any] = [None] * len(items)
        for kind in (str, tuple):
            places = [place for place, item in enumerate(items) if isinstance(item, kind)]
            for place, pieces in zip(places, self.encoded([items[p] for p in places], o.truncation), strict=True):
                found[place] = pieces
        return found

    def finish(self, item: Any, pieces: Sequence[Piece], found: Sequence[Any], o: Labelling) -> Any:
        names = self.model.config.id2label or {}
        best = ranked(self.shares(found[0], o.function_to_apply), 1 if o.top_k == ONE else o.top_k)  # type: ignore[arg-type]
        labels = [{"label": names.get(i, f"LABEL_{i}"), "score": p} for i, p in best]
        return labels[0] if o.top_k == ONE else labels

    def alone(self, answer: Any, inputs: Any, o: Labelling) -> Any:
        return [answer] if o.top_k == ONE and isinstance(inputs, str) else answer

    def shares(self, scores: Tensor, function: str | None = None) -> Tensor:
        """What scores (labels,) mean."""
        kind = self.model.config.problem_type
        if function is None and kind == "regression":
            function = "none"
        elif function is None:
            function = "sigmoid" if kind == "multi_label_classification" or len(scores) == 1 else "softmax"
        return {"none": scores, "sigmoid": scores.sigmoid(), "softmax": scores.softmax(-1)}[function]


def pair_of(item: Any) -> str | tuple[str, str]:
    """A text or a pair. Raises InvalidInput."""
    if isinstance(item, Mapping) and "text" in item:
        if item.get("text_pair") is None:
            return text_of(item["text"])
        return text_of(item["text"]), text_of(item["text_pair"])
    if isinstance(item, (Mapping, list, tuple)):
        raise InvalidInput(
            f'must be a text (a string) or {{"text": ..., "text_pair": ...}} for a pair, not {str(item)[:80]!r}.'
        )
    return text_of(item)
