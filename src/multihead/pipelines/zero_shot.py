"""zero-shot-classification: any labels, by a model of inference that says which of them a text entails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, MultiheadError, UnsupportedConfig
from .base import Options, Reader, ranked, too_long
from .streaming_batcher import Piece

TEMPLATE = "This example is {}."


@dataclass(frozen=True, kw_only=True)
class Choosing(Options):
    """Of zero-shot-classification.

    Args:
        candidate_labels: a list, or one string with commas between them.
        hypothesis_template: a sentence with `{}` where the label comes.
        multi_label: each label is judged by itself, so that several may hold.
    """

    candidate_labels: Any = ()
    hypothesis_template: str = TEMPLATE
    multi_label: bool = False

    @property
    def labels(self) -> list[str]:
        given = self.candidate_labels
        if isinstance(given, str):
            return [label.strip() for label in given.split(",") if label.strip()]
        return list(given)

    def check(self) -> None:
        super().check()
        if "LABEL" not in self.hypothesis("LABEL"):
            raise InvalidInput(
                f"hypothesis_template needs {{}} where the label comes; it is {self.hypothesis_template!r}."
            )
        if any(not isinstance(label, str) for label in self.labels):
            raise InvalidInput(f"candidate_labels are strings, not {self.candidate_labels!r}.")

    def hypothesis(self, label: str) -> str:
        """The sentence about a label. Raises InvalidInput for a template with other braces than the label's."""
        try:
            return self.hypothesis_template.format(label)
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            raise InvalidInput(
                "hypothesis_template has one {}, where the label comes, and no other braces; it is "
                f"{self.hypothesis_template!r}."
            ) from error


class Chooser(Reader):
    """What every way of choosing among labels shares: `{"sequence": ..., "labels": [...], "scores": [...]}`."""

    Options: ClassVar[type[Options]] = Choosing

    def __call__(self, sequences: Any, candidate_labels: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """The labels of each text, likeliest first.

        Raises:
            InvalidInput: no labels, a template without a place for them, an input that is no string.
        """
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        if not self.given(**options).labels:
            raise InvalidInput("zero-shot-classification needs candidate_labels, one at least.")
        return super().__call__(sequences, **options)

    def ordered(self, item: str, shares: Tensor, o: Choosing) -> dict[str, Any]:
        """The answer, of each label's share (labels,)."""
        best = ranked(shares, None)
        return {"sequence": item, "labels": [o.labels[i] for i, _ in best], "scores": [share for _, share in best]}


class ZeroShotClassification(Chooser):
    """Chooses by how far a text entails a sentence about each label (Yin et al., 2019, arXiv:1909.00161)."""

    auto = "AutoModelForSequenceClassification"

    def pieces(self, items: Sequence[str], o: Choosing) -> list[list[Piece] | MultiheadError]:
        hypotheses = [o.hypothesis(label) for label in o.labels]
        pairs = [(text, hypothesis) for text in items for hypothesis in hypotheses]
        limits = self.cuts("only_first")  # the text gives way, never the label
        found = [
            self.piece(encoding) for encoding in self.tokenizer.run(pairs, words=False, special=True, limits=limits)
        ]
        rows = [found[i : i + len(hypotheses)] for i in range(0, len(found), len(hypotheses))]
        return [too_long(max(len(piece.ids) for piece in row), self.room) or row for row in rows]

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Any], o: Choosing) -> dict[str, Any]:
        scores, yes = torch.stack(list(found)), self.entailment
        if o.multi_label or len(pieces) == 1:
            no = -1 if yes == 0 else 0
            shares = scores[:, [no, yes]].softmax(-1)[:, 1]
        else:
            shares = scores[:, yes].softmax(-1)
        return self.ordered(item, shares, o)

    @property
    def entailment(self) -> int:
        """The number of the label that says yes. Raises UnsupportedConfig where none does."""
        for number, label in (self.model.config.id2label or {}).items():
            if str(label).lower().startswith("entail"):
                return number
        raise UnsupportedConfig(
            f"{self.model.name_or_path} has no label that begins with 'entail' (its labels: "
            f"{', '.join(map(str, (self.model.config.id2label or {}).values()))}); zero-shot-classification needs a "
            "model of natural language inference, or a language model."
        )
