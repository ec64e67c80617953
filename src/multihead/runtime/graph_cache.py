"""A decode step that reads its inputs from GPU buffers, so it can be captured in a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.ops import backend_of, fused_attention
from ..kernels.ragged import PagedLayout, SequenceLayout
from ..nn.attention.attention import Attention
from ..nn.cache.layer_cache import CachePlan
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

OWN = 3  # columns of a sequence before those of its windows: token, position of the token, length with it
CAPTURABLE_LAYERS = {  # whose forward waits for no result of the GPU, and reads host numbers through the cache alone
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


class GraphStaticCache(BatchCache):
    """Buffers for one new token of each of some sequences; only their greatest number and block count are fixed.

    Args:
        texts: sequences, at most; rows without one have no positions. blocks: of each sequence, at most.
    """

    def __init__(self, store: KVCacheManager, texts: int, blocks: int, device: torch.device) -> None:
        super().__init__(store, ())
        self.blocks = blocks
        # for each window the slot to write, and the block table
        columns = OWN + len(store.windows) * (1 + blocks)
        # (sequences, columns): one copy to the GPU sets all inputs of a step
        self.inputs = torch.zeros(texts, columns, dtype=torch.int32, device=device)
        # pinned memory, so that the copy does not wait
        self._host = torch.zeros(texts, columns, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._rows = self._host.numpy()
        # the sequence whose block table each row holds, and its count of changes then
        self._buffered_tables: list[list[Any]] = [[None] * texts for _ in store.windows]
        self._clear_rows(0)
        self.inputs.copy_(self._host)

    @property
    def size(self) -> int:
        return len(self.inputs)

    @property
    def runs(self) -> SequenceLayout:
        return SequenceLayout.packed((1,) * self.size)

    def set_inputs(self, sequences: Sequence[CachedSequence], tokens: Sequence[int]) -> None:
        """Write sequences, which have blocks for one more token, and these tokens into the buffers."""
        rows, count = self._rows, len(sequences)
        rows[:count, 0] = tokens
        rows[:count, 1] = places = [text.length for text in sequences]
        rows[:count, 2] = [place + 1 for place in places]
        for number, window in enumerate(self.store.windows):
            column, tables = self._column(number), [text.tables[window] for text in sequences]
            rows[:count, column] = [table.row(place) for table, place in zip(tables, places, strict=True)]
            for row, (text, table) in enumerate(zip(sequences, tables, strict=True)):
                known = text.number, table.changes
                # most tables are as in the step before, and writing them is slow in Python
                if known != self._buffered_tables[number][row]:
                    self._buffered_tables[number][row] = known
                    rows[row, column + 1 : column + 1 + len(table.blocks)] = [block or 0 for block in table.blocks]
        self._clear_rows(count)
        self.inputs.copy_(self._host, non_blocking=True)

    def advance_tokens(self, tokens: Tensor) -> None:
        """Make tokens (sequences,) the inputs of the next step, without the host."""
        backend_of(self.inputs.device).advance_step(self.inputs, tokens, len(self.store.windows), self.blocks)

    def _clear_rows(self, first: int) -> None:
        self._rows[first:, :OWN] = 0  # length 0: such a row sees no key
        for number in range(len(self.store.windows)):
            self._rows[first:, self._column(number)] = -1  # a slot below 0 is not written

    def _column(self, window: int) -> int:
        return OWN + window * (1 + self.blocks)

    @property
    def ids(self) -> Tensor:
        """Token ids of the step, (sequences,)."""
        return self.inputs[:, 0].long()

    def places(self, runs: SequenceLayout, device: torch.device) -> Tensor:
        return self.inputs[:, 1].long()

    def advance(self, runs: SequenceLayout) -> None:
        pass  # the runner advances the sequences after each replay

    def plan(self, runs: SequenceLayout, window: int | None, device: torch.device) -> CachePlan:
        column = self._column(self.store.windows.index(window))
        table = self.inputs[:, column + 1 : column + 1 + self.blocks]  # (sequences, blocks)
        pages = PagedLayout((), runs.lengths, table, self.inputs[:, 2].contiguous(), _not_on_host)
        return CachePlan(self.inputs[:, column].contiguous(), None, _not_on_host, lambda: pages, False)


def _not_on_host() -> Any:
    raise AssertionError("A captured step reads its block tables on the GPU, and the host does not know them.")
