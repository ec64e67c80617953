"""Runners compute the forward passes of a batch of sequences for one model over one KV cache.

The engine hands every pass to one `DecodeRunner` and never asks which one it is. `EagerRunner` runs any model layer by
layer. The other runners compute decode steps faster, and leave passes that they do not serve to the eager one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ..errors import MemoryFull
from ..kernels.ragged import SequenceLayout
from ..nn.cache.layer_cache import LayerCache
from ..nn.cache.store import BatchCache, CachedSequence, KVCacheManager, LengthDependent
from ..nn.encoder_output import EncoderOutput
from ..nn.forward_context import OutputCapture
from ..nn.masked_next import MaskedNext
from .step_output import StepOutput


class DecoderModel(Protocol):
    """The part of a model that runners and the engine use."""

    @property
    def device(self) -> torch.device: ...

    @property
    def max_positions(self) -> int | None:
        """Number of positions that the model has learned; None where positions are computed."""

    @property
    def by_length(self) -> Sequence[LengthDependent]:
        """Rotary positions whose frequencies depend on the sequence's length."""

    def memories(self) -> list[LayerCache]:
        """Return an empty cache for each layer."""

    def read(
        self, ids: Tensor, runs: SequenceLayout, memory: BatchCache, capture: OutputCapture | None = None
    ) -> Tensor:
        """Run ids (tokens,) through the layers: hidden states (tokens, width). `capture` collects what it asks for."""

    def score_states(self, states: Tensor) -> Tensor:
        """Return logits (rows, vocabulary) of hidden states (rows, width)."""


@dataclass(slots=True)
class ForwardBatch:
    """Input of one forward pass.

    Args:
        sequences: their caches, which have taken blocks for the new tokens. tokens: the new tokens of each.
        num_logits: how many last tokens of each sequence logits are computed for; 0 for an unfinished prompt.
        num_states: how many last tokens of each sequence hidden states are needed of, one at least.
        encoder_output: the source that an encoder-decoder's sequences read. record: collects states and attentions.
        features: (tokens, width), what a draft head reads beside the tokens; None for other models.
        segments: types of the tokens, where prompts have some.
        is_decode: every sequence has cached tokens and one new one, and only its logits and last hidden state count.
        steps: decode steps that a runner may make at once, each of the argmax tokens of the one before.
        stop_tokens: after one of which no further step is needed.
    """

    sequences: list[CachedSequence] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    num_logits: list[int] = field(default_factory=list)
    num_states: list[int] = field(default_factory=list)
    encoder_output: EncoderOutput | None = None
    record: OutputCapture | None = None
    features: Tensor | None = None
    segments: list[int] | None = None
    is_decode: bool = True
    steps: int = 1
    stop_tokens: set[int] = field(default_factory=set)


class DecodeRunner(Protocol):
    """Forward passes of one model with one KV cache.

    Attributes:
        name: as `model.decode_runner` and MULTIHEAD_RUNNER name it. max_steps: decode steps of one call, at most.
    """

    name: ClassVar[str]
    max_steps: ClassVar[int]
    model: Any
    store: KVCacheManager

    @property
    def max_length(self) -> int | None:
        """Tokens of the longest sequence that the model can read; None without a limit."""

    def __init__(self, model: Any, store: KVCacheManager) -> None: ...

    @classmethod
    def unavailable(cls) -> str:
        """Return why the runner can serve no model on this machine; empty where it can."""

    @classmethod
    def refusal(cls, model: Any, store: KVCacheManager) -> str:
        """Return why the runner cannot serve a model, which names the layer; empty where it can."""

    @property
    def reusable(self) -> bool:
        """True if the runner may serve the model's next `generate` too, with its storage and what it has compiled."""

    def storage_changed(self) -> None:
        """Learn that something else has written into the cache's storage."""

    def forward(self, batch: ForwardBatch) -> StepOutput:
        """Run one pass, or several decode steps; the caches of the sequences advance."""


class EagerRunner:
    """Runs every pass layer by layer."""

    name: ClassVar[str] = "eager"
    max_steps: ClassVar[int] = 1

    def __init__(self, model: Any, store: KVCacheManager) -> None:
        self.model, self.store = model, store

    @cached_property
    def max_length(self) -> int | None:
        return self.model.max_positions

    @classmethod
    def unavailable(cls) -> str:
        return ""

    @classmethod
    def refusal(cls, model: Any, store: KVCacheManager) -> str:
        return ""

    @property
    def reusable(self) -> bool:
        return False

    def storage_changed(self) -> None: ...

    def forward(self, batch: ForwardBatch) -> StepOutput:
        if (masked := getattr(self.model, "masked_next", None)) is not None:
            return self._at_masks(batch, masked)
        runs = SequenceLayout.packed(tuple(map(len, batch.tokens)))
        # (tokens,)
        ids = torch.tensor([token for tokens in batch.tokens for token in tokens], device=self.model.device)
        cache, rows = BatchCache(self.store, batch.sequences, batch.encoder_output), list[int]()
        for begin, length, count in zip(runs.begins, runs.lengths, batch.num_logits, strict=True):
            # the sequence's last tokens
            rows.extend(range(begin + length - count, begin + length))
        with torch.inference_mode():
            # only some models leave out other tokens in their last layers
            stack = getattr(self.model, "backbone", None)
            fewer = batch.record is None and not batch.is_decode and getattr(stack, "num_borrowing", None)
            more: dict[str, Any] = {"last": batch.num_states} if fewer else {}
            if batch.features is not None:
                more["features"] = batch.features
            if batch.segments is not None:
                more["segments"] = torch.tensor(batch.segments, device=ids.device)
            states = self.model.read(ids, runs, cache, batch.record, **more)  # (tokens, width)
            if not rows:
                return StepOutput(states, None)
            # (rows, width); the head is a large product, so it reads requested rows alone
            selected = states if len(rows) == len(ids) else states[torch.tensor(rows, device=ids.device)]
            # float32, since sampling sums up small probabilities
            return StepOutput(states, self.model.score_states(selected).float())

    def _at_masks(self, batch: ForwardBatch, masked: MaskedNext) -> StepOutput:
        """Read each text with a mask behind it, and score the masks."""
        runs = SequenceLayout.packed(tuple(len(tokens) + 1 for tokens in batch.tokens))
        device = self.model.device
        # (tokens,), masks among them
        ids = torch.tensor([token for tokens in batch.tokens for token in (*tokens, masked.token)], device=device)
        with torch.inference_mode():
            cache, inputs = BatchCache(self.store, batch.sequences), masked.inputs(runs, device)
            states = self.model.read(ids, runs, cache, inputs=inputs)  # (tokens, width), or (sequences, width)
            if not masked.alone:
                ends = [begin + length - 1 for begin, length in zip(runs.begins, runs.lengths, strict=True)]
                states = states[torch.tensor(ends, device=device)]  # (sequences, width)
            for sequence in batch.sequences:
                sequence.crop(masked.kept(sequence.length))
            return StepOutput(states, self.model.score_states(states).float())


def reserve_blocks(sequences: Sequence[CachedSequence], steps: int) -> int:
    """Allocate cache blocks for up to `steps` decode steps; return the number of steps that fit."""
    if steps > 1:
        try:
            for sequence in sequences:
                sequence.prepare(steps)
        except MemoryFull:
            return 1  # the engine has reserved one step already
    return steps
