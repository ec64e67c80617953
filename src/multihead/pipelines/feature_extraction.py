"""feature-extraction: a vector a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from .base import Options, Reader, segments_of
from .streaming_batcher import Piece


@dataclass(frozen=True, kw_only=True)
class Extracting(Options):
    """Of feature-extraction.

    Args:
        return_tensors: tensors instead of lists.
        truncation: reads the beginning of a text that is too long, instead of refusing it.
        tokenize_kwargs: the reference's way to say `{"truncation": True}`.
    """

    return_tensors: bool | str = False
    truncation: bool = False
    tokenize_kwargs: Mapping[str, Any] | None = None

    def check(self) -> None:
        super().check()
        if set(self.tokenize_kwargs or {}) - {"truncation"}:
            raise InvalidInput("tokenize_kwargs takes truncation only.")


class FeatureExtraction(Reader):
    """The last hidden states of each text: [1][tokens][width] nested lists, or tensors (1, tokens, width)."""

    Options: ClassVar[type[Options]] = Extracting

    def pieces(self, items: Sequence[str], o: Extracting) -> list[list[Piece] | MultiheadError]:
        return self.encoded(items, o.truncation or bool((o.tokenize_kwargs or {}).get("truncation")))

    def read(self, pieces: Sequence[Piece], o: Extracting) -> Sequence[Tensor]:
        result = self.model.run([piece.ids for piece in pieces], segments_of(pieces))
        return result.hidden.float().cpu().split(result.runs.lengths)

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Tensor], o: Extracting) -> Any:
        return found[0][None].clone() if o.return_tensors else [found[0].tolist()]
