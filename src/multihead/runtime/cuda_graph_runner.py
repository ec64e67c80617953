"""Decode steps on a GPU as CUDA graphs: captured once per batch size, then replayed without Python between."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from ..errors import warn
from ..kernels.ops import BACKENDS
from ..kernels.ragged import BLOCK
from ..nn.cache.store import KVCacheManager
from .graph_cache import GraphStaticCache, capture_refusal
from .layer_spec import Snapshot
from .runner import EagerRunner, ForwardBatch, reserve_blocks
from .step_output import StepOutput, argmax_tokens

MIN_USES = 2  # decode steps of one batch size before it is captured
MAX_SHARE = 16  # a model keeps at most this part of the GPU's memory, a sixteenth, between uses
MIN_BLOCKS = 8  # of a sequence in a captured step

capturing = Lock()  # torch captures one graph of a process at a time


@dataclass
class Graph:
    """A captured decode step, the buffers that it reads, and those that hold its results after each replay."""

    inputs: GraphStaticCache
    graph: Any
    states: Tensor
    logits: Tensor
    argmax: Tensor


class CudaGraphRunner(EagerRunner):
    """Captures the decode step in a CUDA graph per batch size, on its second use, and replays it from then on.

    A pass that is no decode step, or reads an encoded source, runs layer by layer.
    """

    name = "graph"
    max_steps = 8

    def __init__(self, model: Any, store: KVCacheManager) -> None:
        super().__init__(model, store)
        self._graphs: dict[int, Graph] = {}
        self._uses: Counter[int] = Counter()
        self._storage: list[tuple[ref[Tensor], int]] = []
        self._weights = self._addresses()
        self._derived: list[tuple[Tensor, int]] = []  # of the last capture
        self._snapshot = Snapshot([part for part in model.modules() if part is not model], whole=True)
        self._pool: Any = None
        self._failed = False

    @classmethod
    def unavailable(cls) -> str:
        if os.environ.get("MULTIHEAD_GRAPHS") == "0":
            return "MULTIHEAD_GRAPHS=0 turns CUDA graphs off"
        reason = BACKENDS["triton"].reason()
        return f"the Triton kernels are not in use ({reason})" if reason else ""

    @classmethod
    def refusal(cls, model: Any, store: KVCacheManager) -> str:
        if model.device.type != "cuda":
            return f"the model is on {model.device}, and CUDA graphs are of GPUs"
        if reason := cls.unavailable():
            return reason
        if store.slots:
            return "its layers cache recurrent states"
        return capture_refusal(model) if hasattr(model, "backbone") else "it has no backbone of known layers"

    def forward(self, batch: ForwardBatch) -> StepOutput:
        output = self._decode(batch) if batch.is_decode and batch.encoder_output is None else None
        return super().forward(batch) if output is None else output

    @torch.inference_mode()
    def _decode(self, batch: ForwardBatch) -> StepOutput | None:
        """Replay decode steps; None before the second use of a batch size, and where no graph can be captured.

        The GPU does not look for stop tokens, and makes all steps.
        """
        size = rounded(len(batch.sequences))
        self._uses[size] += 1
        # autocast keeps its casts of the weights in memory that a graph must not read later
        if self._uses[size] < MIN_USES or torch.is_autocast_enabled("cuda") or self._failed:
            return None
        here = self.model.device
        with torch.cuda.device(here) if here.type == "cuda" else nullcontext():
            return self._replay(size, batch, reserve_blocks(batch.sequences, batch.steps))

    def _replay(self, size: int, batch: ForwardBatch, count: int) -> StepOutput | None:
        sequences = batch.sequences
        self.store.flush(sequences, self.model.device)
        if self._moved():  # a graph has addresses of storage in it, which are wrong once storage has grown
            self._forget()
        blocks = max(len(table.blocks) for sequence in sequences for table in sequence.tables.values())
        graph = self._graphs.get(size)
        # a graph has a fixed number of blocks: longer sequences need another one
        if graph is None or graph.inputs.blocks < blocks:
            expected = max(max(sequence.expected, sequence.length + 1) for sequence in sequences)
            graph = self._try_capture(size, blocks_for(max(expected, blocks * BLOCK)))
            if graph is None:
                return None
            self._graphs[size], self._derived = graph, self._derived_addresses()
        graph.inputs.set_inputs(sequences, [new[0] for new in batch.tokens])
        rows, steps = len(sequences), list[Tensor]()
        for _ in range(count):
            graph.graph.replay()
            steps.append(graph.argmax[:rows].clone())  # (sequences,); the next replay overwrites it
        for sequence in sequences:
            sequence.advance(count)
        # (sequences, width), (sequences, vocabulary), (steps, sequences)
        return StepOutput(graph.states[:rows].clone(), graph.logits[:rows].clone(), torch.stack(steps))

    def _forget(self) -> None:
        """Free all captured graphs and their memory."""
        self._graphs.clear()
        self._pool = None  # torch frees the pool with the last graph that was captured into it

    def _try_capture(self, size: int, blocks: int) -> Graph | None:
        """Capture a graph; None, and no further try, where memory is full or torch refuses."""
        try:
            return self._capture(size, blocks)
        except RuntimeError as error:
            self._forget()
            self._failed = True
            why = str(error).splitlines()[0]
            warn(f"CUDA graph capture failed for batch size {size} ({why}). Decode steps now run layer by layer.")
            return None

    def _addresses(self) -> list[tuple[Tensor, int]]:
        return [(x, x.data_ptr()) for x in (*self.model.parameters(), *self.model.buffers())]

    def _derived_addresses(self) -> list[tuple[Tensor, int]]:
        """Tensors that are neither parameters nor buffers, as rotary frequencies, where captured steps read them."""
        values = (x for part in self.model.modules() for x in vars(part).values())
        return [(x, x.data_ptr()) for x in values if isinstance(x, Tensor)]

    @property
    def reusable(self) -> bool:
        """True if the graphs still fit the model, its weights have not moved, and little memory is held."""
        held = sum(x.nbytes for x in self._leaves())
        held += sum(graph.logits.nbytes + graph.states.nbytes for graph in self._graphs.values())
        total = torch.cuda.get_device_properties(self.model.device).total_memory if held else 0
        same = _same(self._addresses(), self._weights)
        same = same and (not self._graphs or _same(self._derived_addresses(), self._derived))
        return same and held * MAX_SHARE <= total and self._snapshot.holds() and not capture_refusal(self.model)

    def _leaves(self) -> list[Tensor]:
        """Return the storage of keys and values of all layers, where it exists yet."""
        found = [x for layer in self.store.layers for leaf in layer.leaves() for x in (leaf.k, leaf.v)]  # type: ignore[union-attr]
        return [x for x in found if x is not None]

    def _moved(self) -> bool:
        """Return whether storage has moved since the last call."""
        storage = self._leaves()
        known = [(held(), place) for held, place in self._storage]
        same = [(id(x), place) for x, place in known] == [(id(x), x.data_ptr()) for x in storage]
        self._storage = [(ref(x), x.data_ptr()) for x in storage]  # which goes as soon as it is replaced
        return not same

    def _capture(self, size: int, blocks: int) -> Graph:
        device = self.model.device
        inputs = GraphStaticCache(self.store, size, blocks, device)
        stream = stream_of(device)
        with capturing:
            # a capture needs a stream that is not the default one
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):  # what is compiled or allocated once is so before
                self._compute(inputs)
            torch.cuda.current_stream(device).wait_stream(stream)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # "thread_local": others may launch; a stream of this GPU: torch's own is of the one that recorded first
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                states, logits, argmax = self._compute(inputs)
        return Graph(inputs, graph, states, logits, argmax)

    def _compute(self, inputs: GraphStaticCache) -> tuple[Tensor, Tensor, Tensor]:
        states = self.model.read(inputs.ids, inputs.runs, inputs)  # (rows, width)
        logits = self.model.score_states(states).float()  # (rows, vocabulary)
        argmax = argmax_tokens(logits)  # (rows,)
        inputs.advance_tokens(argmax.clamp(min=0))  # no token follows a negative answer; the step's output reports that
        return states, logits, argmax


def _same(now: list[tuple[Tensor, int]], then: list[tuple[Tensor, int]]) -> bool:
    """Return whether two lists hold the same tensors at the same addresses."""
    return len(now) == len(then) and all(
        a is b and place == other for (a, place), (b, other) in zip(now, then, strict=True)
    )


@cache
def stream_of(device: torch.device) -> Any:
    """Return the stream on which a GPU's graphs are captured."""
    return torch.cuda.Stream(device)


def rounded(count: int) -> int:
    """Return the batch size of the graph that serves `count` sequences: a power of two, or one and a half times it."""
    size = 1
    while size < count:
        half = size + size // 2
        # finer sizes waste fewer rows, but each one is a capture of its own
        size = half if size >= 32 and half >= count else size * 2
    return size


def blocks_for(length: int) -> int:
    """Return the blocks of each sequence that a graph has room for, for sequences of up to `length` tokens."""
    blocks = MIN_BLOCKS
    while blocks * BLOCK < length + BLOCK:
        blocks *= 2
    return blocks
