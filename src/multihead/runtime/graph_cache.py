"""A step of one token a text whose numbers are read on the device: it can be recorded once and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.ragged import BLOCK, Pages, Runs
from ..kernels.torch.attention import fused
from ..kernels.triton import launch as gpu
from ..nn.attention.attention import Attention
from ..nn.cache.cache_rows import copied_rows
from ..nn.cache.layer_cache import KeyValues, Plan
from ..nn.cache.store import Cache, Store, Text
from ..nn.embeddings import CountedSinusoids, Embeddings, LearnedPositions, SinusoidalPositions
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.hooks import hooked
from ..nn.layer import Layer, ParallelLayer, Residual
from ..nn.norms import AcrossHeads, HeadNorm, PlainLayerNorm, RMSNorm, WideRMSNorm
from ..nn.positions import Positions, Rotary
from ..nn.stack import Stack
from ..nn.weights import Dropout, Embedding, LayerNorm, Linear, ScaledEmbedding
from .fused_layers import FusedAttention, FusedFeedForward, FusedResidualGPU, FusedStackGPU
from .fused_linear_gpu import FusedLinearGPU
from .layer_spec import describe

OWN = 3  # columns of a text before those of its windows: its token, the token's place, and how many places it has
KINDS = {  # whose passes ask the device nothing and depend on host numbers through the cache alone
    nn.ModuleList, nn.Identity, Stack, FusedStackGPU, Layer, ParallelLayer, Residual, FusedResidualGPU, Attention,
    FusedAttention, FeedForward, GatedFeedForward, FusedFeedForward, FusedLinearGPU, Linear, Embeddings, Embedding,
    LearnedPositions, SinusoidalPositions, CountedSinusoids, LayerNorm, RMSNorm, WideRMSNorm, PlainLayerNorm, HeadNorm,
    AcrossHeads, Dropout, Positions, Rotary, ScaledEmbedding,
}  # fmt: skip


def stands(model: Any) -> bool:
    """Whether a step of a model's can be recorded: layers of known kinds, read by a backend that reads pages."""
    parts = list(model.backbone.modules())
    if model.training or model.attend is not fused or model.dtype not in gpu.TYPES:
        return False
    spec = describe(model.backbone) if {type(part) for part in parts} <= KINDS else None
    if spec is None or not spec.complete or "adjust" in spec.options or any(map(hooked, model.modules())):
        return False
    return all(part.head_width <= gpu.WIDEST for part in parts if isinstance(part, Attention))


class Kept:
    """A place for what a model keeps from one use to the next; a copy of the model has an empty one."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def take(self) -> Any:
        """What is kept, which is then no longer here: one thread gets it. None where nothing is."""
        try:
            return self._held.pop()
        except IndexError:
            return None

    def put(self, value: Any) -> None:
        self._held[:] = [value]

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()


class Standing(Cache):
    """So many texts of a store, one new token each, of which nothing is fixed but their number.

    Args:
        texts: how many, at most; those that are not there have no places. blocks: of each text, at most.
    """

    def __init__(self, store: Store, texts: int, blocks: int, device: torch.device) -> None:
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
    def runs(self) -> Runs:
        return Runs.of((1,) * self.size)

    def tell(self, texts: Sequence[Text], tokens: Sequence[int]) -> None:
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
        gpu.followed(self.told, tokens, len(self.store.windows), self.blocks)

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

    def places(self, runs: Runs, device: torch.device) -> Tensor:
        return self.told[:, 1].long()

    def advance(self, runs: Runs) -> None:
        pass  # once a step, by who replays it

    def plan(self, runs: Runs, window: int | None, device: torch.device) -> Plan:
        column = self._column(self.store.windows.index(window))
        table = self.told[:, column + 1 : column + 1 + self.blocks]
        pages = Pages((), runs.lengths, table, self.told[:, 2].contiguous(), _nowhere)
        return Plan(self.told[:, column].contiguous(), None, _nowhere, lambda: pages, False)


def _nowhere() -> Any:
    raise AssertionError("What a recorded step sees is known on the device alone.")


def settle(store: Store, texts: Sequence[Text], device: torch.device) -> None:
    """Puts all that was read into storage, which gets room for what these texts' next tokens need."""
    for window, pool in store.pools.items():
        copies = [copy for text in texts for copy in text.tables[window].copies]
        for text in texts:
            text.tables[window].copies = []
        rows = copied_rows(copies, device)
        for layer in store.layers:
            for leaf in layer.leaves():
                if isinstance(leaf, KeyValues) and leaf.window == window:
                    leaf.settle(pool.top * BLOCK, rows)
