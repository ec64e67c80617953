"""Steps of one token a text as CUDA graphs: recorded once for so many texts, then replayed without Python between."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import MemoryFull
from ..kernels import gpu
from ..kernels.sight import BLOCK
from ..nn.cache import Store, Text
from ..nn.standing import Standing, settle, stands
from .passed import Passed, likeliest

OFTEN = 2  # steps of one size before it is recorded
SHARE = 16  # of the GPU's memory, a part that a model keeps for its next texts at most
SPARE = 8  # blocks of a text more than it has now, at least


@dataclass
class Graph:
    """A recorded step: what it reads, and where its results are after each replay."""

    told: Standing
    graph: Any
    states: Tensor
    scores: Tensor
    likeliest: Tensor


class Graphs:
    """The recorded steps of one model over one store.

    Args:
        model: whose layers `stands` lets through.
    """

    def __init__(self, model: Any, store: Store) -> None:
        self.model, self.store = model, store
        self._recorded: dict[int, Graph] = {}
        self._asked: Counter[int] = Counter()
        self._storage: list[Tensor | None] = []
        self._weights = self._held()
        self._pool: Any = None

    @classmethod
    def of(cls, model: Any, store: Store) -> Graphs | None:
        """Graphs of a model on a GPU; None where its steps cannot be recorded."""
        can = model.device.type == "cuda" and gpu.programs() is not None and not store.slots
        can = can and os.environ.get("MULTIHEAD_GRAPHS") != "0"
        return cls(model, store) if can and hasattr(model, "backbone") and stands(model) else None

    @torch.inference_mode()
    def step(self, texts: Sequence[Text], tokens: Sequence[int], ahead: int = 1) -> Passed | None:
        """Reads one token of each text, for which the texts have taken blocks.

        Args:
            ahead: steps, of which each reads the tokens that the one before found likeliest.

        Returns:
            What the last step gave; None where no step of this size was asked for often enough.
        """
        size = rounded(len(texts))
        self._asked[size] += 1
        if self._asked[size] < OFTEN or torch.is_autocast_enabled("cuda"):  # whose casts are kept elsewhere
            return None
        here = self.model.device
        with torch.cuda.device(here) if here.type == "cuda" else nullcontext():
            return self._step(size, texts, tokens, taken(texts, ahead))

    def _step(self, size: int, texts: Sequence[Text], tokens: Sequence[int], ahead: int) -> Passed:
        settle(self.store, texts, self.model.device)
        if self._moved():
            self._recorded.clear()
            self._pool = None  # which ends with the last step that was recorded into it
        blocks = max(len(table.blocks) for text in texts for table in text.tables.values())
        found = self._recorded.get(size)
        if found is None or found.told.blocks < blocks:
            expected = max(max(text.expected, text.length + 1) for text in texts)
            found = self._recorded[size] = self._record(size, blocks_for(max(expected, blocks * BLOCK)))
        found.told.tell(texts, tokens)
        count, steps = len(texts), list[Tensor]()
        for _ in range(ahead):
            found.graph.replay()
            steps.append(found.likeliest[:count].clone())
        for text in texts:
            text.advance(ahead)
        return Passed(found.states[:count].clone(), found.scores[:count].clone(), torch.stack(steps))

    def _held(self) -> list[tuple[Tensor, int]]:
        return [(x, x.data_ptr()) for x in (*self.model.parameters(), *self.model.buffers())]

    @property
    def lasting(self) -> bool:
        """Whether these may serve the model's next texts too: its weights are where they were, and little is held."""
        held = sum(x.nbytes for x in self._storage if x is not None)
        total = torch.cuda.get_device_properties(self.model.device).total_memory if held else 0
        now = self._held()
        same = len(now) == len(self._weights) and all(
            a is b and place == other for (a, place), (b, other) in zip(now, self._weights, strict=True)
        )
        return same and held * SHARE <= total and stands(self.model)

    def _moved(self) -> bool:
        """Whether storage is not where it was when steps were recorded."""
        storage = [x for layer in self.store.layers for leaf in layer.leaves() for x in (leaf.k, leaf.v)]  # type: ignore[union-attr]
        same = len(storage) == len(self._storage) and all(a is b for a, b in zip(storage, self._storage, strict=True))
        self._storage = storage
        return not same

    def _record(self, size: int, blocks: int) -> Graph:
        device = self.model.device
        told = Standing(self.store, size, blocks, device)
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):  # what is compiled or allocated once is so before
            self._compute(told)
        torch.cuda.current_stream(device).wait_stream(stream)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # others may use the GPU
            states, scores, best = self._compute(told)
        return Graph(told, graph, states, scores, best)

    def _compute(self, told: Standing) -> tuple[Tensor, Tensor, Tensor]:
        states = self.model.read(told.ids, told.runs, told)
        scores = self.model.score(states).float()
        best = likeliest(scores)
        told.follow(best)
        return states, scores, best


def taken(texts: Sequence[Text], ahead: int) -> int:
    """Takes blocks for so many steps; as many as there is room for."""
    if ahead > 1:
        try:
            for text in texts:
                text.prepare(ahead)
        except MemoryFull:
            return 1
    return ahead


def rounded(count: int) -> int:
    """Texts of a recorded step that so many fit: a power of two, or one and a half times such."""
    size = 1
    while size < count:
        half = size + size // 2
        size = half if size >= 32 and half >= count else size * 2
    return size


def blocks_for(length: int) -> int:
    """Blocks to leave room for, where texts are expected to have so many tokens."""
    blocks = SPARE
    while blocks * BLOCK < length + BLOCK:
        blocks *= 2
    return blocks
