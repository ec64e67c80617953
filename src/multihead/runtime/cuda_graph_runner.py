"""Steps of one token a text as CUDA graphs: recorded once for so many texts, then replayed without Python between."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from ..errors import MemoryFull, warn
from ..generation.engine.step_output import Passed, likeliest
from ..kernels.ragged import BLOCK
from ..kernels.triton import launch as gpu
from ..nn.cache.store import Store, Text
from ..nn.forward_context import EncoderOutput
from .graph_cache import Standing, settle, stands
from .layer_spec import Snapshot

OFTEN = 2  # steps of one size before it is recorded
SHARE = 16  # of the GPU's memory, a part that a model keeps for its next texts at most
SPARE = 8  # blocks of a text more than it has now, at least

recording = Lock()  # torch records one graph of a process at a time


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
        self._storage: list[tuple[ref[Tensor], int]] = []
        self._weights = self._held()
        self._told = Snapshot([part for part in model.modules() if part is not model], whole=True)
        self._pool: Any = None
        self._refused = False

    @classmethod
    def of(cls, model: Any, store: Store) -> Graphs | None:
        """Graphs of a model on a GPU; None where its steps cannot be recorded."""
        can = model.device.type == "cuda" and gpu.programs() is not None and not store.slots
        can = can and os.environ.get("MULTIHEAD_GRAPHS") != "0"
        return cls(model, store) if can and hasattr(model, "backbone") and stands(model) else None

    @torch.inference_mode()
    def step(
        self,
        texts: Sequence[Text],
        tokens: Sequence[int],
        ahead: int = 1,
        ends: Iterable[int] = (),
        source: EncoderOutput | None = None,
    ) -> Passed | None:
        """Reads one token of each text, for which the texts have taken blocks.

        Args:
            ahead: steps, of which each reads the tokens that the one before found likeliest.
            ends: tokens after which nothing is wanted; the GPU does not ask for them, and reads on.
            source: what the texts read besides, which is not recorded.

        Returns:
            What the last step gave; None where no step of this size was asked for often enough, or none can be
            recorded.
        """
        if source is not None:
            return None
        size = rounded(len(texts))
        self._asked[size] += 1
        cast = torch.is_autocast_enabled("cuda")  # whose casts are kept elsewhere
        if self._asked[size] < OFTEN or cast or self._refused:
            return None
        here = self.model.device
        with torch.cuda.device(here) if here.type == "cuda" else nullcontext():
            return self._step(size, texts, tokens, taken(texts, ahead))

    def _step(self, size: int, texts: Sequence[Text], tokens: Sequence[int], ahead: int) -> Passed | None:
        settle(self.store, texts, self.model.device)
        if self._moved():
            self._forget()
        blocks = max(len(table.blocks) for text in texts for table in text.tables.values())
        found = self._recorded.get(size)
        if found is None or found.told.blocks < blocks:
            expected = max(max(text.expected, text.length + 1) for text in texts)
            found = self._recorder(size, blocks_for(max(expected, blocks * BLOCK)))
            if found is None:
                return None
            self._recorded[size] = found
        found.told.tell(texts, tokens)
        count, steps = len(texts), list[Tensor]()
        for _ in range(ahead):
            found.graph.replay()
            steps.append(found.likeliest[:count].clone())
        for text in texts:
            text.advance(ahead)
        return Passed(found.states[:count].clone(), found.scores[:count].clone(), torch.stack(steps))

    def _forget(self) -> None:
        """Lets all recorded steps go, and the memory with them."""
        self._recorded.clear()
        self._pool = None  # which ends with the last step that was recorded into it

    def _recorder(self, size: int, blocks: int) -> Graph | None:
        """A recorded step; None, and no more from now on, where there is no memory for one or torch refuses."""
        try:
            return self._record(size, blocks)
        except RuntimeError as error:
            self._forget()
            self._refused = True
            why = str(error).splitlines()[0]
            warn(f"A step of {size} texts could not be recorded as a CUDA graph ({why}); Python leads each one now.")
            return None

    def _held(self) -> list[tuple[Tensor, int]]:
        return [(x, x.data_ptr()) for x in (*self.model.parameters(), *self.model.buffers())]

    @property
    def lasting(self) -> bool:
        """Whether these may serve the model's next texts too: its weights are where they were, and little is held."""
        held = sum(x.nbytes for x in self._leaves())
        held += sum(graph.scores.nbytes + graph.states.nbytes for graph in self._recorded.values())
        total = torch.cuda.get_device_properties(self.model.device).total_memory if held else 0
        now = self._held()
        same = len(now) == len(self._weights) and all(
            a is b and place == other for (a, place), (b, other) in zip(now, self._weights, strict=True)
        )
        return same and held * SHARE <= total and self._told.holds() and stands(self.model)

    def _leaves(self) -> list[Tensor]:
        """Storage of keys and values, as far as there is any."""
        found = [x for layer in self.store.layers for leaf in layer.leaves() for x in (leaf.k, leaf.v)]  # type: ignore[union-attr]
        return [x for x in found if x is not None]

    def _moved(self) -> bool:
        """Whether storage is not where it was when steps were recorded."""
        storage = self._leaves()
        known = [(held(), place) for held, place in self._storage]
        same = [(id(x), place) for x, place in known] == [(id(x), x.data_ptr()) for x in storage]
        self._storage = [(ref(x), x.data_ptr()) for x in storage]  # which goes as soon as it is replaced
        return not same

    def _record(self, size: int, blocks: int) -> Graph:
        device = self.model.device
        told = Standing(self.store, size, blocks, device)
        stream = stream_of(device)
        with recording:
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):  # what is compiled or allocated once is so before
                self._compute(told)
            torch.cuda.current_stream(device).wait_stream(stream)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # "thread_local": others may launch; a stream of this GPU: torch's own is of the one that recorded first
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                states, scores, best = self._compute(told)
        return Graph(told, graph, states, scores, best)

    def _compute(self, told: Standing) -> tuple[Tensor, Tensor, Tensor]:
        states = self.model.read(told.ids, told.runs, told)
        scores = self.model.score(states).float()
        best = likeliest(scores)
        told.follow(best.clamp(min=0))  # of nothing a token follows; the step's own answer says so
        return states, scores, best


@cache
def stream_of(device: torch.device) -> Any:
    """The stream on which steps are recorded on a GPU."""
    return torch.cuda.Stream(device)


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
