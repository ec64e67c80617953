"""Run a whole stack of fused layers in one native call."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..kernels.cpu import native
from ..kernels.cpu.attention import spans
from ..kernels.ops import fused_attention
from ..nn.attention.alibi import Alibi
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.attention.gated import GatedAttention
from ..nn.attention.position_bias import BucketedBias
from ..nn.cache.layer_cache import CachePlan, KVLayerCache
from ..nn.encoder_output import EncoderOutput
from ..nn.forward_context import ForwardContext
from ..nn.layer import CrossLayer, Layer, ParallelLayer
from ..nn.positions import Positions, Rotary, RotaryByLength
from ..nn.stack import Stack
from .delta_layers import head_factor
from .fused_layers import FusedAttention, FusedCrossAttention, FusedFeedForward, is_joined
from .heads_norm import as_kernels_read, fits_heads_norms, norm_parameters, set_heads_norms
from .layer_spec import LayerSpec, Snapshot, adopt, describe, register
from .strided_weights import LayerWeights, attention_of

SCORE_BIASES = (BucketedBias, Alibi)  # positions that add to scores, which decode steps alone compute
POSITIONS = (Positions, Rotary, RotaryByLength, *SCORE_BIASES)


class FusedStack(Stack):
    """Stack of fused layers that runs in one native call, while no part is hooked, set or replaced."""

    native: NativeStack | None

    def __init__(self, stack: Stack) -> None:
        nn.Module.__init__(self)
        adopt(self, stack)
        self.native = NativeStack(self.layers)

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        layers, selected = self.native, context.selected
        if layers is None or self.adjust is not None or not layers.serves(words, context):
            return super().forward(words, context)
        # the last layer reads all tokens but computes the selected ones alone, so it runs apart
        x = layers.run(
            self.embed(words, context),
            context if selected is None else replace(context, selected=None),
            selected is None,
        )
        if selected is not None:
            x = self.layers[-1](x, context, None)
        if context.cache is not None:
            context.cache.advance(context.runs)
        return self.out(self.norm(x))


register(FusedStack, "native", base=Stack)


def fused_stack(stack: Stack) -> FusedStack | None:
    """Return a `FusedStack` for a stack of fused layers; None where the kernels do not compute all of it."""
    spec = describe(stack)
    layers = None if spec is None else spec.parts["layers"]
    if layers is None or not layers.complete or not layers.parts:
        return None
    if not all(map(fits_native_stack, layers.parts.values())):
        return None
    fused: list[Any] = list(stack.layers)
    # one call has one mask for all layers
    return FusedStack(stack) if len({layer.attention.step.causal for layer in fused}) == 1 else None


def fits_native_stack(layer: LayerSpec | None) -> bool:
    """Return True if the kernels compute all that a layer of fused steps does."""
    if layer is None or type(layer.layer) not in (Layer, CrossLayer):
        return False
    for name in layer.parts:
        if not is_joined(layer.part(name)):
            return False
    kinds = {"attention": FusedAttention, "cross": FusedCrossAttention}
    steps = [
        fits_kernel_attention(layer.part(name).parts["step"], kinds[name]) for name in layer.parts if name in kinds
    ]
    return all(steps) and layer.part("ffn").kind("step") is FusedFeedForward


def fits_kernel_attention(spec: LayerSpec | None, kind: type[nn.Module], more: Iterable[str] = ()) -> bool:
    """Return True if the kernels compute all that attention of a class does, but for the options in `more`."""
    kinds = (Attention, GatedAttention) if kind is Attention else (kind,)  # which prefill in C++ does not compute
    if spec is None or type(spec.layer) not in kinds or spec.kind("positions") not in POSITIONS:
        return False
    if not spec.options <= {"clip", "norm_last", "softcap", *more}:
        return False
    step: Any = spec.layer
    if isinstance(spec.layer, CrossAttention):
        plain = spec.kind("q_norm") is spec.kind("k_norm") is nn.Identity and spec.options <= {"softcap"}
        if not plain or not _as_many_key_heads(step):
            return False
    elif not fits_heads_norms(spec, rows_of(step)):
        return False
    return bool(step.head_width % 16 == 0)  # a vector of the kernels has 16 numbers


def rows_of(step: Any) -> tuple[int, int]:
    """Return the channels of all heads' queries and keys of an attention."""
    if isinstance(step, FusedAttention):
        return step.widths[:2]
    return len(step.q.weight) // head_factor(step), len(step.k.weight)


def _as_many_key_heads(step: Any) -> bool:
    """Return True if cross-attention has as many heads of keys and values as of queries."""
    if isinstance(step, FusedCrossAttention):
        return step.widths[0] == step.output.shape[1]
    return len({len(part.weight) for part in (step.q, step.k, step.v)}) == 1


@dataclass
class KeyPlacement:
    """Cache slots of keys and values in a pass, of layers with one window: tensors or `native.numbers`.

    Args:
        plan: of the layers' cache. writes: slot of each new key; None for the order of the pass's own tokens.
        begins, lengths: first visible slot and number of visible keys, a sequence.
    """

    plan: CachePlan | None
    writes: Any
    begins: Any
    lengths: Any

    @property
    def index(self) -> Tensor | None:
        """Slots in the order of visible keys, (keys,), where `begins` are positions in it."""
        return None if self.plan is None or self.plan.fresh else self.plan.reads


class NativeStack:
    """A stack's layers as the kernels read them.

    Args:
        layers: a stack's, all of which `fits_native_stack` holds for.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        self.layers: list[Any] = list(layers)
        self.crosses = isinstance(layers[0], CrossLayer)
        self._table: Any = None  # numpy's array of native.LayerCall
        self._products: list[Any] = []  # the products that the table points at
        self._addresses: list[int] = []  # of the products, in the table
        # norms of heads, the names and addresses of their parameters, and these in float32
        self._norms: list[tuple[nn.Module, str, int, Tensor]] = []
        self._memory: list[Any] = []  # what the table points at
        steps = [layer.attention.step for layer in self.layers]
        self._same_window = list(groups([step.window if step.causal else None for step in steps]).values())
        turned = groups([step.positions if isinstance(step.positions, Rotary) else None for step in steps])
        self._rotary = [(positions, numbers) for positions, numbers in turned.items() if positions is not None]
        self.biased = any(type(step.positions) in SCORE_BIASES for step in steps)
        self._workspace_width = 0  # workspace numbers a token, without its hidden states
        self.snapshot = Snapshot([layers, *(part for layer in self.layers for part in layer.modules())])

    def serves(self, words: Tensor, context: ForwardContext) -> bool:
        """Return True if the kernels compute this pass."""
        record = context.capture
        shown = record.hidden is record.attentions is record.cross_attentions is None
        if not shown or context.attend is not fused_attention or torch.is_grad_enabled() or not native.serves(words):
            return False
        if not self.snapshot.holds():
            return False
        # only the decode loop adds biases to scores
        if self.biased or self.crosses != (context.encoder_output is not None):
            return False
        if context.encoder_output is not None and context.encoder_output.hidden.dtype is not words.dtype:
            return False
        if _is_decode_step(words, context):
            return True
        plans = [self._placement(numbers, context).plan for numbers in self._same_window]
        if any(plan and not plan.fresh and plan.reads is not None for plan in plans):
            return False  # rows are gathered first
        return words.dtype is torch.bfloat16  # what the prefill kernel computes

    def run(self, x: Tensor, context: ForwardContext, last: bool = True) -> Tensor:
        """Hidden states (tokens, width) of embeddings (tokens, width).

        Args:
            last: whether the last layer runs, too.
        """
        x = x.clone(memory_format=torch.contiguous_format)  # (tokens, width); the kernels write their result into it
        table = self._layers()
        # without spans of queries the kernels read one token of each sequence
        queries = None if _is_decode_step(x, context) else spans(context.runs)
        for numbers in self._same_window:
            placement = self._placement(numbers, context)
            for name in ("writes", "begins", "lengths", "index"):
                table[name][numbers] = address_of(getattr(placement, name))
            if context.cache is not None and placement.plan is not None:
                self._allocate(table, numbers, placement.plan, context, x)
        for positions, numbers in self._rotary:
            angles = positions.angles(context)  # cosines and sines, (tokens, rotated / 2)
            table["cosines"][numbers], table["sines"][numbers] = (part.data_ptr() for part in angles)
            table["rotated"][numbers] = 2 * angles[0].shape[1]
        source = [] if context.encoder_output is None else [set_source(table, self.layers, context.encoder_output)]
        workspace = x.new_empty(x.shape[0] * (self._workspace_width + x.shape[1]))  # see `steps.h`
        begins, lengths = (None, None) if queries is None else map(address_of, queries)
        arguments = native.StackCall(
            steps=table.ctypes.data, x=x.data_ptr(), workspace=workspace.data_ptr(), q_begins=begins, q_lengths=lengths,
            layers=len(table) - (not last), sequences=len(context.runs), tokens=x.shape[0], states=x.shape[1],
            type=native.TYPES[x.dtype], causal=int(self.layers[0].attention.step.causal),
        )  # fmt: skip
        native.library().mh_run_stack(ctypes.byref(arguments), torch.get_num_threads())
        del source  # it was needed until here: the table points into it
        return x

    def _placement(self, numbers: Sequence[int], context: ForwardContext) -> KeyPlacement:
        """Return the cache slots of the keys and values of layers with one window."""
        memory: Any = context.cache.layers[numbers[0]] if context.cache else None
        return context.cached((self, numbers[0]), partial(_placement, memory, context))

    def _allocate(
        self, table: Any, numbers: Sequence[int], plan: CachePlan, context: ForwardContext, x: Tensor
    ) -> None:
        """Allocate keys and values of layers with one window, and put their addresses in the table."""
        assert context.cache is not None
        # (tokens, key heads, head width)
        shape = x.shape[0], int(table["key_heads"][numbers[0]]), int(table["width"][numbers[0]])
        places = []
        for number in numbers:
            memory: Any = context.cache.layers[number]
            if plan.fresh:
                k, v = x.new_empty(shape), x.new_empty(shape)
                memory.wait(k, v, plan)  # copied into storage only if a second pass follows
            else:
                like = x.new_empty(0, *shape[1:])  # (0, key heads, head width), for dtype and shape alone
                memory.make_room(plan, context, like, like)
                k, v = memory.k, memory.v
            places.append((k.data_ptr(), v.data_ptr()))
        table["k"][numbers], table["v"][numbers] = zip(*places, strict=True)

    def _layers(self) -> Any:
        """Return a table of layers for one pass, with the fields that no pass changes."""
        if not self._table_is_current():
            weights = [LayerWeights.fused(layer) for layer in self.layers]
            table = (native.LayerCall * len(weights))()
            self._memory = [set_layer(*one) for one in zip(table, self.layers, weights, strict=True)]
            self._table = np.frombuffer(bytes(table), np.dtype(native.LayerCall))
            self._workspace_width = workspace_width(weights)
            self._products = [product for one in weights for product in one.products]
            self._addresses = [product.address for product in self._products]
            norms = [each for layer in self.layers for each in norm_parameters(layer.attention.step)]
            copies = [x for memory in self._memory for x in memory if isinstance(x, Tensor)]
            self._norms = [(*each, getattr(*each).data_ptr(), x) for each, x in zip(norms, copies, strict=True)]
        copied = [(norm, name, x) for norm, name, address, x in self._norms if address != x.data_ptr()]
        if copied:  # weights may have been written in place
            with torch.inference_mode():
                # whole values in one copy, since another thread may be reading them
                torch._foreach_copy_(
                    [x.view(-1) for _, _, x in copied], [as_kernels_read(norm, name) for norm, name, _ in copied]
                )
        return self._table.copy()  # a copy, which one pass fills in

    def _table_is_current(self) -> bool:
        """Return True if the table points at the products and norms that the layers have now."""
        if self._table is None or [product.address for product in self._products] != self._addresses:
            return False
        return all(getattr(norm, name).data_ptr() == address for norm, name, address, _ in self._norms)

    def __getstate__(self) -> dict[str, Any]:
        # addresses mean nothing in another process
        return {**self.__dict__, "_table": None, "_products": [], "_norms": [], "_memory": []}


def address_of(x: Any) -> int:
    """Address of a tensor's or a C array's numbers; 0, which is null, for None."""
    if x is None:
        return 0
    return x.data_ptr() if isinstance(x, Tensor) else ctypes.addressof(x)


def groups(keys: Sequence[Any], numbers: Sequence[int] | None = None) -> dict[Any, list[int]]:
    """Return key -> indices of the items with this key, or their `numbers`."""
    indices: dict[Any, list[int]] = {}
    for index, key in zip(range(len(keys)) if numbers is None else numbers, keys, strict=True):
        indices.setdefault(key, []).append(index)
    return indices


def set_layer(entry: Any, layer: Any, weights: LayerWeights) -> list[Any]:
    """Fill a `native.LayerCall` for one layer. Returns what must live as long as the entry."""
    step = attention_of(layer)
    products = weights.qkv, weights.out, weights.into, weights.down
    entry.qkv, entry.out, entry.into, entry.down = (0 if one is None else one.address for one in products)
    entry.experts = 0 if weights.experts is None else weights.experts.address
    if weights.rates is not None:  # the caller sets `delta`
        entry.rates = weights.rates.address
        return weights.memory
    factor = head_factor(step)
    entry.width, entry.heads = step.head_width, weights.widths[0] // (factor * step.head_width)
    entry.gated = int(factor == 2)
    entry.key_heads, entry.scale, entry.window = weights.widths[1] // step.head_width, step.scale, step.window or 0
    entry.softcap = step.softcap or 0.0
    entry.clip, entry.parallel = step.clip or 0.0, int(isinstance(layer, ParallelLayer))
    memory = set_heads_norms(entry, step, (weights.widths[0] // factor, weights.widths[1]))
    if weights.query is not None and weights.cross is not None:
        entry.query, entry.cross = weights.query.address, weights.cross.address
        entry.cross_scale, entry.cross_softcap = layer.cross.step.scale, layer.cross.step.softcap or 0.0
    if step.sinks is not None:
        memory.append(step.sinks.detach().float().contiguous())
        entry.sinks = memory[-1].data_ptr()
    return [*memory, *weights.memory]  # its tensors are float32 weights of norms, and sinks


def set_source(table: Any, layers: Sequence[Any], source: EncoderOutput) -> tuple[Any, Any]:
    """Fill the fields of cross-attention's source. Returns the arrays that must live as long as the table is read."""
    arrays = spans(source.runs)
    table["source_begins"], table["source_lengths"] = map(address_of, arrays)
    for entry, layer in zip(table, layers, strict=True):
        k, v = layer.cross.step.projected(source)  # (source tokens, heads, head width)
        entry["source_k"], entry["source_v"], entry["source_stride"] = k.data_ptr(), v.data_ptr(), k.stride(0)
    return arrays


def workspace_width(weights: Sequence[LayerWeights]) -> int:
    """Return the workspace numbers of a token: the widest fused product of a layer, and the output of its heads."""
    widest = max(product.outputs for one in weights for product in (one.qkv, one.into) if product is not None)
    return widest + max(one.out.shape[1] for one in weights)


def _is_decode_step(x: Tensor, context: ForwardContext) -> bool:
    """Return True if a pass reads one token of each sequence."""
    return context.runs.longest == 1 and len(context.runs) == x.shape[0]


def _placement(memory: KVLayerCache | None, context: ForwardContext) -> KeyPlacement:
    if memory is None:
        return KeyPlacement(None, None, *spans(context.runs))
    plan = memory.plan(context)
    if plan.fresh:
        return KeyPlacement(plan, None, *spans(plan.runs))
    rows = plan.writes
    # the kernels take a list of rows, not a slice
    writes = native.numbers(range(rows.start, rows.stop)) if isinstance(rows, slice) else rows
    return KeyPlacement(plan, writes, *spans(plan.runs, memory.window if context.runs.longest == 1 else None))
