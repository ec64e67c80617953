"""Draft heads: small models that read the hidden states of the model that they draft for, as the engine runs them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.folder import open_checkpoint
from ..errors import UnsupportedOption
from ..kernels.ragged import SequenceLayout
from ..models.common.token_prediction import load_predictors
from ..nn.cache.layer_cache import LayerCache
from ..nn.cache.store import BatchCache, LengthDependent
from ..nn.forward_context import ForwardContext, OutputCapture
from ..nn.token_predictor import TokenPredictor


class DraftHead(nn.Module):
    """A predictor of further tokens with the embeddings and the scores of its model.

    Args:
        owner: the model, which the head does not keep alive. predictor: the head's own layers.
    """

    decode_runner = "eager"  # other runners know stacks alone
    max_positions = None
    layers: tuple[int, ...] = ()  # of the model, whose inputs the first head reads; empty for its last hidden states

    def __init__(self, owner: Any, predictor: TokenPredictor) -> None:
        super().__init__()
        self.predictor, self._owner = predictor, weakref.ref(owner)

    @property
    def owner(self) -> Any:
        """The model that the head drafts for."""
        return self._owner()

    @property
    def weight(self) -> Tensor:
        return next(self.parameters())

    @property
    def device(self) -> torch.device:
        return self.weight.device

    @property
    def by_length(self) -> Sequence[LengthDependent]:
        """Rotary positions whose frequencies depend on the length of the sequence."""
        return self.predictor.by_length

    def memories(self) -> list[LayerCache]:
        """Return an empty cache for each layer."""
        return self.predictor.memories()

    def project(self, states: Tensor) -> Tensor:
        """Map the model's states to those that `read` takes."""
        return states

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings (tokens, width) of ids (tokens,)."""
        return self.owner.backbone.embed.look_up(ids)

    def read(
        self,
        ids: Tensor,
        runs: SequenceLayout,
        memory: BatchCache,
        capture: OutputCapture | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Read ids (tokens,) and features (tokens, width) into a cache; return states (tokens, width)."""
        words = self.embed(ids).to(self.weight.dtype)  # (tokens, width)
        given = torch.zeros_like(words) if features is None else features.to(words.dtype)  # none to measure a cache
        context = ForwardContext(memory.places(runs, ids.device), runs, ids=ids, cache=memory, attend=self.owner.attend)
        return self.predictor(words, given, context).to(words.dtype if features is None else features.dtype)

    def score(self, states: Tensor) -> Tensor:
        """Return logits (rows, vocabulary) of states (rows, width)."""
        return self.owner.score(states)


def own_heads(model: Any) -> list[DraftHead]:
    """Return the heads that a model's own checkpoint holds, the first for the token after next; loaded once.

    Raises:
        UnsupportedOption: a model that was loaded from no file, or whose files have none.
    """
    heads = getattr(model, "draft_heads", None)
    if heads is None:
        folder = getattr(model, "checkpoint_folder", None)
        if folder is None:
            raise UnsupportedOption("use_mtp reads further layers of the model's checkpoint, and it comes from none.")
        checkpoint = open_checkpoint(folder)
        if checkpoint.layout != "huggingface":
            raise UnsupportedOption(f"use_mtp is not read from a {checkpoint.layout} file.")
        found = load_predictors(
            model.config, checkpoint.tensors, checkpoint.source, dtype=model.dtype, device=model.device
        )
        heads = model.draft_heads = [DraftHead(model, predictor).eval() for predictor in found]
    for head in heads:
        head.to(model.device)
    return heads
