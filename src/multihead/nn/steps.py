"""A decoder's layers over one token of each text as one call of the C++ kernels: Python's share of a step is small."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import native
from ..kernels.fused import spans
from .call import Call
from .layer import CrossLayer, Layer
from .memories import KeyValues, Plan
from .packed import Norm
from .positions import Positions, Rotary, RotaryByLength
from .prepared import PreparedAttention, PreparedCrossAttention, PreparedFeedForward, PreparedResidual
from .stack import Stack


class PreparedStack(Stack):
    """A stack that reads one new token of each text without going back to Python between layers."""

    steps: Steps | None = None

    def forward(self, words: Tensor, call: Call) -> Tensor:
        steps, cache = self.steps, call.cache
        if steps is None or cache is None or self.adjust is not None or not steps.serves(words, call):
            return super().forward(words, call)
        x = steps.run(self.embed(words, call), call)
        cache.advance(call.runs)
        return self.out(self.norm(x))


def prepare_steps(stack: nn.Module) -> None:
    """Makes a decoder of prepared layers a `PreparedStack`, where the kernels compute all that its layers do."""
    if type(stack) is Stack and stack.causal and len(stack.layers) and all(map(_plain, stack.layers)):
        stack.__class__ = PreparedStack
        stack.steps = Steps(list(stack.layers))  # type: ignore[assignment]


@dataclass
class Place:
    """Where layers with one window remember in this pass: what the kernels are told, and the tensors that hold it."""

    plan: Plan
    writes: Tensor
    begins: Tensor
    lengths: Tensor


class Steps:
    """What the kernels are told of each layer.

    Args:
        layers: prepared, all of the kinds that `prepare_steps` lets through.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers: list[Any] = list(layers)
        self.crosses = isinstance(layers[0], CrossLayer)
        self._table: Any = None
        self._told: tuple[int, ...] = ()

    def serves(self, words: Tensor, call: Call) -> bool:
        """Whether this pass is one token of each text, of which something is remembered already."""
        cache, record = call.cache, call.record
        assert cache is not None
        if len(call.runs) != words.shape[0] or call.runs.longest != 1 or call.asked is not None:
            return False
        if self.crosses != (call.encoded is not None) or not native.serves(words) or torch.is_grad_enabled():
            return False
        return record.hidden is record.attentions is record.cross_attentions is None and any(cache.lengths)

    def run(self, x: Tensor, call: Call) -> Tensor:
        """The last layer's states (texts, width), of word vectors (texts, width)."""
        cache = call.cache
        assert cache is not None
        library = native.library()
        assert library is not None
        x = x.clone(memory_format=torch.contiguous_format)
        table = self._layers()
        source = None if call.encoded is None else spans(call.encoded.runs)
        memories: list[Any] = cache.layers
        for entry, layer, memory in zip(table, self.layers, memories, strict=True):
            step, found = layer.attention.step, call.once(("place", memory.window), partial(_place, memory, call))
            memory.make_room(found.plan, call)
            entry.k, entry.v = memory.k.data_ptr(), memory.v.data_ptr()
            entry.writes, entry.begins = found.writes.data_ptr(), found.begins.data_ptr()
            entry.lengths = found.lengths.data_ptr()
            entry.index = None if found.plan.reads is None else found.plan.reads.data_ptr()
            if isinstance(step.positions, Rotary):
                angles = step.positions.angles(call)
                entry.cosines, entry.sines = (x.data_ptr() for x in angles)
                entry.rotated = 2 * angles[0].shape[1]
            if source is not None and call.encoded is not None:
                k, v = layer.cross.step.projected(call.encoded)
                entry.source_k, entry.source_v, entry.source_stride = k.data_ptr(), v.data_ptr(), k.stride(0)
                entry.source_begins, entry.source_lengths = (part.data_ptr() for part in source)
        said = native.Pass(
            steps=ctypes.addressof(table), x=x.data_ptr(), layers=len(table), texts=x.shape[0], states=x.shape[1],
            type=native.TYPES[x.dtype],
        )  # fmt: skip
        library.mh_pass(ctypes.byref(said), torch.get_num_threads())
        return x

    def _layers(self) -> Any:
        """A table of the pass's own, with what does not change from pass to pass."""
        now = tuple(layer.attention.step.qkv.address for layer in self.layers)
        if self._table is None or now != self._told:
            self._table, self._told = (native.Step * len(self.layers))(), now
            for entry, layer in zip(self._table, self.layers, strict=True):
                _describe(entry, layer)
        return type(self._table).from_buffer_copy(self._table)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None, "_told": ()}


def _describe(entry: Any, layer: Any) -> None:
    step, ffn = layer.attention.step, layer.ffn.step
    entry.qkv, entry.out = step.qkv.address, step.output.address
    entry.into, entry.down = ffn.into.address, ffn.output.address
    entry.width, entry.heads = step.head_width, step.widths[0] // step.head_width
    entry.key_heads, entry.scale = step.widths[1] // step.head_width, step.scale
    for name, norm in (("q_norm", step.q_norm), ("k_norm", step.k_norm)):
        told = Norm.of(norm)
        if told is not None and told.weight is not None:
            step.__dict__[f"_{name}"] = told.weight  # float32, kept as long as the layer is
            setattr(entry, name, told.weight.data_ptr())
            entry.norm_eps = told.eps
    if isinstance(layer, CrossLayer):
        cross: Any = layer.cross.step
        entry.query, entry.cross, entry.cross_scale = cross.query.address, cross.output.address, cross.scale


def _place(memory: KeyValues, call: Call) -> Place:
    plan = memory.plan(call)
    rows = plan.writes
    writes = torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
    return Place(plan, writes, *spans(plan.runs, memory.window))


def _plain(layer: nn.Module) -> bool:
    """Whether the kernels compute all that a layer does."""
    if type(layer) not in (Layer, CrossLayer):
        return False
    parts: Any = layer
    residuals = [parts.attention, parts.ffn, *([parts.cross] if type(layer) is CrossLayer else [])]
    for residual in residuals:
        outside = residual.before, residual.after, residual.out
        if type(residual) is not PreparedResidual or any(type(part) is not nn.Identity for part in outside):
            return False
    fine = _attends(parts.attention.step, PreparedAttention) and type(parts.ffn.step) is PreparedFeedForward
    return fine and (type(layer) is Layer or _attends(parts.cross.step, PreparedCrossAttention))


def _attends(step: Any, kind: type[nn.Module]) -> bool:
    made: Any = step
    if type(step) is not kind or type(made.positions) not in (Positions, Rotary, RotaryByLength):
        return False
    norms = [norm for norm in (made.q_norm, made.k_norm) if type(norm) is not nn.Identity]
    told = [Norm.of(norm) for norm in norms]
    if any(norm is None or norm.kind != 1 for norm in told) or len({norm.eps for norm in told if norm}) > 1:
        return False
    if kind is PreparedCrossAttention and (norms or made.widths[0] != made.output.shape[1]):
        return False
    return made.head_width % 16 == 0 and made.clip is made.softcap is made.sinks is None
