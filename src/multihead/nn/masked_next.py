"""Next tokens of a bidirectional model: a mask behind the text stands for the token to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..kernels.ragged import SequenceLayout
from .cache.layer_cache import LayerCache, NoLayerCache

REREAD = 2  # last tokens of a text, its mask among them, that the next pass reads again


@dataclass(frozen=True)
class MaskedNext:
    """The mask that is read behind each text, whose scores are those of the next token.

    Args:
        token: the mask. inputs: (layout with the masks, device) -> the family's own inputs of the pass.
        alone: whether the stack returns the states of the masks alone.
        memory: makes the cache of a layer, which keeps all tokens but the last ones; None where texts are read whole in
            each pass.
        refusal: why a config's texts cannot be continued; empty where they can.
    """

    token: int
    inputs: Callable[[SequenceLayout, torch.device], Mapping[str, Any]] = lambda runs, device: {}
    alone: bool = False
    memory: Callable[[], LayerCache] | None = None
    refusal: str = ""

    def memories(self, layers: int) -> list[LayerCache]:
        """Return an empty cache for each layer."""
        return [self.memory() if self.memory else NoLayerCache() for _ in range(layers)]

    def kept(self, length: int) -> int:
        """Return how many of a text's first tokens stay cached, of `length` with its mask."""
        return 0 if self.memory is None else max(length - REREAD, 0)
