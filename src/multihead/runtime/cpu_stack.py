"""Layers that run as one call of the C++ kernels: Python's share of a pass is small."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..kernels.cpu import native
from ..kernels.cpu.attention import prefills, spans
from ..kernels.ops import fused_attention
from ..nn.attention.alibi import Alibi
from ..nn.attention.attention import CrossAttention
from ..nn.attention.position_bias import BucketedBias
from ..nn.cache.layer_cache import KeyValues, Plan
from ..nn.forward_context import EncoderOutput, ForwardContext
from ..nn.layer import CrossLayer, Layer
from ..nn.positions import Positions, Rotary, RotaryByLength
from ..nn.stack import Stack
from .fused_layers import PreparedAttention, PreparedCrossAttention, PreparedFeedForward, PreparedResidual
from .fused_linear_cpu import Norm
from .layer_spec import Snapshot, all_known, learn
from .strided_weights import NOTHING, Parts

BIASED = (BucketedBias, Alibi)  # positions that add to scores: read by steps of one token a text alone


class PreparedStack(Stack):
    """A stack that does not go back to Python between layers, while nobody hooks, sets or replaces any part of them."""

    steps: Steps | None = None

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        steps, selected = self.steps, context.selected
        if steps is None or self.adjust is not None or not steps.serves(words, context):
            return super().forward(words, context)
        x = steps.run(
            self.embed(words, context),
            context if selected is None else replace(context, selected=None),
            selected is None,
        )
        if selected is not None:
            x = self.layers[-1](x, context, None)
        if context.cache is not None:
            context.cache.advance(context.runs)
        return self.out(self.norm(x))


learn(PreparedStack)


def prepare_steps(stack: nn.Module) -> None:
    """Makes a stack of prepared layers a `PreparedStack`, where the kernels compute all that its layers do."""
    if type(stack) is not Stack or not len(stack.layers) or not all(map(_plain, stack.layers)):
        return
    if not all_known(part for layer in stack.layers for part in layer.modules()):
        return
    layers: list[Any] = list(stack.layers)
    if len({layer.attention.step.causal for layer in layers}) == 1:
        stack.__class__ = PreparedStack
        stack.steps = Steps(stack.layers)  # type: ignore[assignment]


@dataclass
class Place:
    """Where keys and values of layers with one window lie in a pass: tensors or `native.numbers`.

    Args:
        plan: of what is remembered. writes: rows of storage; None for the pass's own order.
    """

    plan: Plan | None
    writes: Any
    begins: Any
    lengths: Any

    @property
    def index(self) -> Tensor | None:
        return None if self.plan is None or self.plan.fresh else self.plan.reads


class Steps:
    """What the kernels are told of each layer.

    Args:
        layers: a stack's, prepared, all of the kinds that `prepare_steps` lets through.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        self.layers: list[Any] = list(layers)
        self._list = layers
        self.crosses = isinstance(layers[0], CrossLayer)
        self._table: Any = None  # numpy's array of native.Step
        self._own: list[Any] = []  # the products that the table points at, one a layer
        self._held: list[list[Tensor]] = []  # what else it points at
        steps = [layer.attention.step for layer in self.layers]
        alike = groups([step.window if step.causal else None for step in steps])  # where keys lie
        turned = groups([step.positions if isinstance(step.positions, Rotary) else None for step in steps])
        self._alike = list(alike.values())
        self._turned = [(positions, numbers) for positions, numbers in turned.items() if positions is not None]
        self.biased = any(type(step.positions) in BIASED for step in steps)
        self._room = 0  # numbers that a pass needs of a token, beside its states
        self._lost = False  # whether they were others when they were copied
        self._told: Snapshot | None = self._snapshot()

    def serves(self, words: Tensor, context: ForwardContext) -> bool:
        """Whether the kernels compute this pass."""
        record = context.capture
        shown = record.hidden is record.attentions is record.cross_attentions is None
        if not shown or context.attend is not fused_attention or torch.is_grad_enabled() or not native.serves(words):
            return False
        if not self.unchanged():
            return False
        if self.biased or self.crosses != (context.encoder_output is not None):
            return False
        if context.encoder_output is not None and context.encoder_output.hidden.dtype is not words.dtype:
            return False
        if _single(words, context):
            return True
        plans = [self._place(numbers, context).plan for numbers in self._alike]
        if any(plan and not plan.fresh and plan.reads is not None for plan in plans):
            return False  # rows are gathered first
        seen = [
            context.runs,
            *(plan.runs for plan in plans if plan),
            *([context.encoder_output.runs] if context.encoder_output else []),
        ]
        return all(prefills(words, runs) for runs in seen)

    def _snapshot(self) -> Snapshot:
        return Snapshot([self._list, *(part for layer in self.layers for part in layer.modules())])

    def unchanged(self) -> bool:
        """Whether the layers are those that were described, as they were."""
        if self._told is None:
            self._told = self._snapshot()
        return not self._lost and self._told.holds()

    def run(self, x: Tensor, context: ForwardContext, last: bool = True) -> Tensor:
        """States (tokens, width) of word vectors (tokens, width).

        Args:
            last: whether the last layer is among those that run.
        """
        x = x.clone(memory_format=torch.contiguous_format)
        table = self._layers()
        queries = None if _single(x, context) else spans(context.runs)
        for numbers in self._alike:
            found = self._place(numbers, context)
            for name in ("writes", "begins", "lengths", "index"):
                told = getattr(found, name)
                table[name][numbers] = address_of(told)
            if context.cache is not None and found.plan is not None:
                self._remember(table, numbers, found.plan, context, x)
        for positions, numbers in self._turned:
            angles = positions.angles(context)
            table["cosines"][numbers], table["sines"][numbers] = (part.data_ptr() for part in angles)
            table["rotated"][numbers] = 2 * angles[0].shape[1]
        held = [] if context.encoder_output is None else [tell_source(table, self.layers, context.encoder_output)]
        room = x.new_empty(x.shape[0] * (self._room + x.shape[1]))
        begins, lengths = (None, None) if queries is None else map(address_of, queries)
        said = native.Pass(
            steps=table.ctypes.data, x=x.data_ptr(), room=room.data_ptr(), q_begins=begins, q_lengths=lengths,
            layers=len(table) - (not last), texts=len(context.runs), tokens=x.shape[0], states=x.shape[1],
            type=native.TYPES[x.dtype], causal=int(self.layers[0].attention.step.causal),
        )  # fmt: skip
        native.library().mh_pass(ctypes.byref(said), torch.get_num_threads())
        del held
        return x

    def _place(self, numbers: Sequence[int], context: ForwardContext) -> Place:
        """Where the keys and values of layers that remember alike lie."""
        memory: Any = context.cache.layers[numbers[0]] if context.cache else None
        return context.cached((self, numbers[0]), partial(_found, memory, context))

    def _remember(self, table: Any, numbers: Sequence[int], plan: Plan, context: ForwardContext, x: Tensor) -> None:
        """Makes room for the keys and values of layers that remember alike, and says where it is."""
        assert context.cache is not None
        shape = x.shape[0], int(table["key_heads"][numbers[0]]), int(table["width"][numbers[0]])
        places = []
        for number in numbers:
            memory: Any = context.cache.layers[number]
            if plan.fresh:
                k, v = x.new_empty(shape), x.new_empty(shape)
                memory.wait(k, v, plan)
            else:
                like = x.new_empty(0, *shape[1:])
                memory.make_room(plan, context, like, like)
                k, v = memory.k, memory.v
            places.append((k.data_ptr(), v.data_ptr()))
        table["k"][numbers], table["v"][numbers] = zip(*places, strict=True)

    def _layers(self) -> Any:
        """A table of the pass's own, with what does not change from pass to pass."""
        if self._table is None or not all(product.placed for product in self._own):
            parts = [Parts.of(layer) for layer in self.layers]
            table = (native.Step * len(parts))()
            self._held = [describe(*one) for one in zip(table, self.layers, parts, strict=True)]
            self._table, self._room = np.frombuffer(bytes(table), np.dtype(native.Step)), room_of(parts)
            self._own = [one.qkv for one in parts]
        return self._table.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__, "_table": None, "_own": [], "_held": [], "_told": None, "_lost": not self.unchanged(),
        }  # fmt: skip


def address_of(held: Any) -> int:
    """Where a tensor's or a C array's numbers are; 0, which is null, for none."""
    if held is None:
        return 0
    return held.data_ptr() if isinstance(held, Tensor) else ctypes.addressof(held)


def groups(keys: Sequence[Any]) -> dict[Any, list[int]]:
    """Places of equal keys."""
    found: dict[Any, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return found


def describe(entry: Any, layer: Any, parts: Parts) -> list[Tensor]:
    """Tells the kernels of a layer; what must be kept for as long as they are told."""
    step, held = layer.attention.step, []
    entry.qkv, entry.out, entry.into, entry.down = (x.address for x in (parts.qkv, parts.out, parts.into, parts.down))
    entry.width, entry.heads = step.head_width, parts.widths[0] // step.head_width
    entry.key_heads, entry.scale, entry.window = parts.widths[1] // step.head_width, step.scale, step.window or 0
    for name, norm in (("q_norm", step.q_norm), ("k_norm", step.k_norm)):
        told = Norm.of(norm)
        if told is not None and told.weight is not None:
            held.append(told.weight)  # float32
            setattr(entry, name, told.weight.data_ptr())
            entry.norm_eps = told.eps
    if parts.query is not None and parts.cross is not None:
        entry.query, entry.cross, entry.cross_scale = parts.query.address, parts.cross.address, layer.cross.step.scale
    return held


def tell_source(table: Any, layers: Sequence[Any], source: EncoderOutput) -> tuple[Any, Any]:
    """Tells the kernels of what a pass's texts read besides; where it lies, to be kept as long as they are told."""
    held = spans(source.runs)
    table["source_begins"], table["source_lengths"] = map(address_of, held)
    for entry, layer in zip(table, layers, strict=True):
        k, v = layer.cross.step.projected(source)
        entry["source_k"], entry["source_v"], entry["source_stride"] = k.data_ptr(), v.data_ptr(), k.stride(0)
    return held


def room_of(parts: Sequence[Parts]) -> int:
    """Widths of what a layer makes of a token: of the wider joined product, and of what its heads give."""
    return max(max(one.qkv.outputs, one.into.outputs) for one in parts) + max(one.out.shape[1] for one in parts)


def _single(x: Tensor, context: ForwardContext) -> bool:
    """Whether a pass reads one token of each text."""
    return context.runs.longest == 1 and len(context.runs) == x.shape[0]


def _found(memory: KeyValues | None, context: ForwardContext) -> Place:
    if memory is None:
        return Place(None, None, *spans(context.runs))
    plan = memory.plan(context)
    if plan.fresh:
        return Place(plan, None, *spans(plan.runs))
    rows = plan.writes
    writes = native.numbers(range(rows.start, rows.stop)) if isinstance(rows, slice) else rows
    return Place(plan, writes, *spans(plan.runs, memory.window if context.runs.longest == 1 else None))


def _plain(layer: nn.Module) -> bool:
    """Whether the kernels compute all that a layer does."""
    if type(layer) not in (Layer, CrossLayer):
        return False
    parts: Any = layer
    residuals = [parts.attention, parts.ffn, *([parts.cross] if type(layer) is CrossLayer else [])]
    for residual in residuals:
        outside = residual.before, residual.after, residual.out
        if type(residual) is not PreparedResidual or any(type(part) not in NOTHING for part in outside):
            return False
    fine = attends(parts.attention.step, PreparedAttention) and type(parts.ffn.step) is PreparedFeedForward
    return fine and (type(layer) is Layer or attends(parts.cross.step, PreparedCrossAttention))


def _as_wide(step: Any) -> bool:
    """Whether a source has as many heads as what reads it."""
    if isinstance(step, PreparedCrossAttention):
        return step.widths[0] == step.output.shape[1]
    return len({len(part.weight) for part in (step.q, step.k, step.v)}) == 1


def attends(step: Any, kind: type[nn.Module]) -> bool:
    """Whether the kernels compute all that attention of a kind does."""
    made: Any = step
    if type(step) is not kind or type(made.positions) not in (Positions, Rotary, RotaryByLength, *BIASED):
        return False
    norms = [norm for norm in (made.q_norm, made.k_norm) if type(norm) is not nn.Identity]
    told = [Norm.of(norm) for norm in norms]
    if any(norm is None or norm.kind != 1 for norm in told) or len({norm.eps for norm in told if norm}) > 1:
        return False
    if isinstance(step, CrossAttention) and (norms or not _as_wide(step)):
        return False
    return made.head_width % 16 == 0 and made.clip is made.softcap is made.sinks is None
