"""A step of one token a text whose numbers are read on the device: it can be recorded once and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.ops import backend_of, fused_attention
from ..kernels.ragged import BLOCK, PagedLayout, SequenceLayout
from ..nn.attention.attention import Attention
from ..nn.cache.cache_rows import copied_rows
from ..nn.cache.layer_cache import CachePlan, KVLayerCache
from ..nn.cache.store import BatchCache, CachedSequence, KVCacheManager
from ..nn.embeddings import Embeddings, LearnedPositions, SinusoidalPositions, Tensor2TensorPositions
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.layer import Layer, ParallelLayer, Residual
from ..nn.norms import AllHeadsNorm, HeadNorm, PlainLayerNorm, RMSNorm, WideRMSNorm
from ..nn.positions import Positions, Rotary
from ..nn.stack import Stack
from ..nn.weights import Dropout, Embedding, LayerNorm, Linear, ScaledEmbedding
from .fused_layers import FusedAttention, FusedFeedForward, FusedResidualGPU, FusedStackGPU
from .fused_linear_gpu import FusedLinearGPU
from .refusals import hooked_layer, undescribed_layer

OWN = 3  # columns of a text before those of its windows: its token, the token's place, and how many places it has
CAPTURABLE_LAYERS = {  # whose passes ask the device nothing and depend on host numbers through the cache alone
    nn.ModuleList, nn.Identity, Stack, FusedStackGPU, Layer, ParallelLayer, Residual, FusedResidualGPU, Attention,
    FusedAttention, FeedForward, GatedFeedForward, FusedFeedForward, FusedLinearGPU, Linear, Embeddings, Embedding,
    LearnedPositions, SinusoidalPositions, Tensor2TensorPositions, LayerNorm, RMSNorm, WideRMSNorm, PlainLayerNorm,
    HeadNorm, AllHeadsNorm, Dropout, Positions, Rotary, ScaledEmbedding,
}  # fmt: skip


def capture_refusal(model: Any) -> str:
    """Say why a model's decode step cannot be captured in a CUDA graph; empty where it can."""
    if model.training:
        return "it is in training mode"
    if model.attend is not fused_attention:
        return 'its attention is set to "eager"'
    backend = backend_of(model.device)
    if not backend.captures(model.dtype, 0):
        return f"the model is {model.dtype}"
    for name, part in model.backbone.named_modules(prefix="backbone"):
        if type(part) not in CAPTURABLE_LAYERS:
            return f"{name} is a {type(part).__name__}, which cannot be captured"
        if getattr(part, "adjust", None) is not None:
            return f"{name} has an `adjust`, which cannot be captured"
        if isinstance(part, Attention) and not backend.captures(model.dtype, part.head_width):
            return f"{name} has heads of {part.head_width}, too wide for the backend {backend.name!r}"
    return hooked_layer(model) or undescribed_layer("backbone", model.backbone)


class Standing(BatchCache):
    """So many texts of a store, one new token each, of which nothing is fixed but their number.

    Args:
        texts: how many, at most; those that are not there have no places. blocks: of each text, at most.
    """

    def __init__(self, store: KVCacheManager, texts: int, blocks: int, device: torch.device) -> None:
        super().__init__(store, ())
        self.blocks = blocks
        columns = OWN + len(store.windows) * (1 + blocks)
        self.told = torch.zeros(texts, columns, dtype=torch.int32, device=device)
        self._here = torch.zeros(texts, columns, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._rows = self._here.numpy()
        # which text's blocks each row has, and how often they had changed
        self._known: list[list[Any]] = [[None] * texts for _ in store.windows]
        self._absent(0)
        self.told.copy_(self._here)

    @property
    def size(self) -> int:
        return len(self.told)

    @property
    def runs(self) -> SequenceLayout:
        return SequenceLayout.packed((1,) * self.size)

    def tell(self, texts: Sequence[CachedSequence], tokens: Sequence[int]) -> None:
        """Puts texts, whose blocks for one token more were taken, and these tokens into the next step."""
        rows, count = self._rows, len(texts)
        rows[:count, 0] = tokens
        rows[:count, 1] = places = [text.length for text in texts]
        rows[:count, 2] = [place + 1 for place in places]
        for number, window in enumerate(self.store.windows):
            column, tables = self._column(number), [text.tables[window] for text in texts]
            rows[:count, column] = [table.row(place) for table, place in zip(tables, places, strict=True)]
            for row, (text, table) in enumerate(zip(texts, tables, strict=True)):
                known = text.number, table.changes
                if known != self._known[number][row]:
                    self._known[number][row] = known
                    rows[row, column + 1 : column + 1 + len(table.blocks)] = [block or 0 for block in table.blocks]
        self._absent(count)
        self.told.copy_(self._here, non_blocking=True)

    def follow(self, tokens: Tensor) -> None:
        """Makes these (texts,) the next step's tokens, on the device alone."""
        backend_of(self.told.device).advance_step(self.told, tokens, len(self.store.windows), self.blocks)

    def _absent(self, first: int) -> None:
        self._rows[first:, :OWN] = 0
        for number in range(len(self.store.windows)):
            self._rows[first:, self._column(number)] = -1

    def _column(self, window: int) -> int:
        return OWN + window * (1 + self.blocks)

    @property
    def ids(self) -> Tensor:
        """(texts,), as the step's own operations read them."""
        return self.told[:, 0].long()

    def places(self, runs: SequenceLayout, device: torch.device) -> Tensor:
        return self.told[:, 1].long()

    def advance(self, runs: SequenceLayout) -> None:
        pass  # once a step, by who replays it

    def plan(self, runs: SequenceLayout, window: int | None, device: torch.device) -> CachePlan:
        column = self._column(self.store.windows.index(window))
        table = self.told[:, column + 1 : column + 1 + self.blocks]
        pages = PagedLayout((), runs.lengths, table, self.told[:, 2].contiguous(), _nowhere)
        return CachePlan(self.told[:, column].contiguous(), None, _nowhere, lambda: pages, False)


def _nowhere() -> Any:
    raise AssertionError("What a recorded step sees is known on the device alone.")


def settle(store: KVCacheManager, texts: Sequence[CachedSequence], device: torch.device) -> None:
    """Puts all that was read into storage, which gets room for what these texts' next tokens need."""
    for window, pool in store.pools.items():
        copies = [copy for text in texts for copy in text.tables[window].copies]
        for text in texts:
            text.tables[window].copies = []
        rows = copied_rows(copies, device)
        for layer in store.layers:
            for leaf in layer.leaves():
                if isinstance(leaf, KVLayerCache) and leaf.window == window:
                    leaf.settle(pool.top * BLOCK, rows)
