"""Greedy decode steps in one native call, from token ids to logits and from one step to the next."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..kernels.cpu import native
from ..kernels.cpu.linear import most_rows
from ..kernels.layout import plain
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.cache.layer_cache import KVLayerCache
from ..nn.cache.store import KVCacheManager
from ..nn.embeddings import Embeddings, LearnedPositions, SinusoidalPositions, Tensor2TensorPositions
from ..nn.encoder_output import EncoderOutput
from ..nn.layer import CrossLayer, Layer, ParallelLayer
from ..nn.positions import Positions, Rotary
from ..nn.stack import Stack
from ..nn.weights import Dropout, Embedding, ScaledEmbedding
from .cpu_stack import (
    SCORE_BIASES,
    FusedStack,
    address_of,
    fits_kernel_attention,
    groups,
    set_layer,
    set_source,
    workspace_width,
)  # fmt: skip
from .delta_layers import DeltaSteps, fits_delta_step, has_delta
from .expert_layers import EXPERTS
from .fused_layers import LINEARS, FusedAttention
from .layer_blocks import blocks
from .layer_spec import LayerSpec, NormSpec, norm_spec
from .refusals import all_options
from .strided_weight import StridedWeight
from .strided_weights import LayerWeights, Weight, attention_of, has_fused_weights, has_strided_weights

POSITION_TABLES = (
    None,
    LearnedPositions,
    SinusoidalPositions,
    Tensor2TensorPositions,
)  # position embeddings read as a table
# options of attention that decode steps alone compute; the first changes nothing at positions before `scaled_from`
OPTIONS = ("query_scale", "sinks")
MIN_POSITIONS = 256  # smallest size of tables of rotary angles, position embeddings and biases


def fits_cpu_decode(stack: LayerSpec | None, dtype: torch.dtype) -> bool:
    """Return True if the kernels compute a whole decode step of a decoder's stack, with states of this dtype."""
    if stack is None or not stack.complete or stack.options or type(stack.layer) not in (Stack, FusedStack):
        return False
    if type(stack.layer) is Stack:
        layers = stack.part("layers").parts.values()
        fits = all(_fits_layer(layer, dtype) for layer in layers)
        # all layers have cross-attention, or none has
        fits = fits and len({type(layer) for layer in stack.layer.layers}) == 1
    else:
        fits = stack.layer.native is not None and stack.layer.native.snapshot.holds()
    if not fits or not stack.layer.causal or not _fits_embeddings(stack.part("embed"), dtype):
        return False
    positions = {type(attention_of(layer).positions) for layer in stack.layer.layers if not has_delta(layer)}
    # the LM head reads the normed states, so nothing may come between
    last = stack.part("norm").norm is not None and stack.kind("out") in (nn.Identity, Dropout)
    return last and positions <= {Positions, Rotary, *SCORE_BIASES}


def decode_refusal(stack: LayerSpec, dtype: torch.dtype) -> str:
    """Return the reason why the kernels do not compute a stack for which `fits_cpu_decode` is false."""
    if stack.options:
        return f"its decoder sets {sorted(stack.options)[0]!r}, which the kernels do not compute"
    if not _fits_embeddings(stack.part("embed"), dtype):
        return "the kernels do not compute its embeddings"
    layers = stack.part("layers").parts.items() if type(stack.layer) is Stack else ()
    for number, layer in layers:
        if not _fits_layer(layer, dtype):
            options = "" if layer is None else ", ".join(sorted(all_options(layer)))
            because = f"its {options}" if options else _unknown_kind(layer) or "its shapes or its weights"
            return f"the kernels do not compute layer {number} of its decoder: {because}"
    return "the kernels do not compute its decoder's positions, norm or mix of layers"


def _unknown_kind(layer: LayerSpec | None) -> str:
    """Name the part of a layer, or the layer, of a class that the kernels do not compute; empty where there is none."""
    if layer is None or type(layer.layer) not in (Layer, CrossLayer, ParallelLayer):
        return "" if layer is None else f"it is a {type(layer.layer).__name__}"
    known = (*LINEARS, *EXPERTS)
    found = next((block for block in blocks(layer) if block.step and type(block.step.layer) not in known), None)
    return "" if found is None or found.step is None else f"its {found.name} is a {type(found.step.layer).__name__}"


def _fits_layer(layer: LayerSpec | None, dtype: torch.dtype) -> bool:
    """Return True if the kernels compute all of a layer of a stack that does not run fused as a whole."""
    if has_fused_weights(layer):
        assert layer is not None
        return fits_kernel_attention(layer.part("attention").part("step"), FusedAttention, OPTIONS)
    return has_strided_weights(layer, dtype) and _fits_attention(layer)


def _fits_attention(layer: LayerSpec | None) -> bool:
    kinds = {"attention": Attention, "cross": CrossAttention}
    return layer is not None and all(
        fits_delta_step(block.step) or fits_kernel_attention(block.step, kinds[block.name], OPTIONS)
        for block in blocks(layer)
        if block.name in kinds
    )


def _fits_embeddings(spec: LayerSpec, dtype: torch.dtype) -> bool:
    """Return True if embeddings are norm(scale * token embedding + position embedding)."""
    token, position = spec.part("token"), spec.parts.get("position")
    if type(spec.layer) is not Embeddings or spec.options or token.options or (position and position.options):
        return False
    if type(token.layer) not in (Embedding, ScaledEmbedding) or spec.kind("position") not in POSITION_TABLES:
        return False
    if spec.part("norm").norm is None or (type(token.layer) is ScaledEmbedding and spec.layer.scale != 1.0):
        return False
    table = token.layer.weight  # (vocabulary, width)
    # a vector of the kernels has 16 numbers
    return table.dtype is dtype and table.is_contiguous() and table.shape[1] % 16 == 0


@dataclass
class DecodeSlots:
    """Cache slots of a decode step, one entry a sequence.

    Args:
        writes: slot of the new key. begins, lengths: first visible slot and number of visible keys, with the new one.
        index: slots in the order of visible keys, (keys,), int64: `begins` are then positions in it.
        copies: first slot, target slot and count of runs of slots that must be copied first, one after the other.
    """

    writes: Sequence[int]
    begins: Sequence[int]
    lengths: Sequence[int]
    index: Tensor | None = None
    copies: Sequence[int] = ()


class CpuDecodeStep:
    """Decode steps of a decoder in the C++ kernels.

    Args:
        spec: stack of the decoder; `fits_cpu_decode` must be true. scorer: weight (vocabulary, width) of the LM head.
        store: the KV cache. dtype: of hidden states. rounded: logits have this dtype too; else they are float32.
        softcap: of the logits.

    Attributes:
        vocabulary: number of tokens. max_rows: sequences up to which torch is not faster; None for no limit.
        padding_id: a token without a position, which these steps do not read; None for none.
        max_positions: number of positions with an embedding; None for any number.
        scaled_from: first position whose queries are scaled, which these steps do not do; None for none.
    """

    def __init__(
        self,
        spec: LayerSpec,
        scorer: Weight,
        store: KVCacheManager,
        dtype: torch.dtype,
        *,
        rounded: bool,
        softcap: float | None = None,
    ) -> None:
        stack = spec.layer
        self.stack, self.scorer, self.store, self.dtype = stack, scorer, store, dtype
        self.score_dtype, self.softcap = dtype if rounded else torch.float32, softcap
        layers: list[Any] = list(stack.layers)
        if isinstance(stack, FusedStack):
            weights = [LayerWeights.fused(layer) for layer in layers]
        else:
            specs = [layer for layer in spec.part("layers").parts.values() if layer is not None]
            weights = [
                LayerWeights.fused(one.layer) if has_fused_weights(one) else LayerWeights.strided(one) for one in specs
            ]
        self._steps = (native.LayerCall * len(layers))()
        self._tensors = [weights, *[set_layer(*one) for one in zip(self._steps, layers, weights, strict=True)]]
        kinds = [one.qkv.kind for one in weights if isinstance(one.qkv, StridedWeight)]
        # no limit for packed weights, which torch cannot multiply
        self.max_rows = most_rows(dtype, max(kinds)) if kinds else None
        # the same memory, so that one assignment sets a field of many layers
        self._table = np.frombuffer(memoryview(self._steps).cast("B"), np.dtype(native.LayerCall))
        self._workspace_width = workspace_width(weights)
        self._deltas = DeltaSteps({n: attention_of(x) for n, x in enumerate(layers) if has_delta(x)}, dtype)
        for place, number in enumerate(self._deltas.numbers):
            self._steps[number].delta = self._deltas.address(place)
        attends = [number for number, layer in enumerate(layers) if not has_delta(layer)]
        self._windows = groups([layers[number].memory().window for number in attends], attends)
        by_positions = groups([attention_of(layers[number]).positions for number in attends], attends)
        # layers that share a module share its angles, too
        self._rotary = [(positions, each) for positions, each in by_positions.items() if type(positions) is Rotary]
        self._biased = [
            (positions, each) for positions, each in by_positions.items() if type(positions) in SCORE_BIASES
        ]
        self._angles: list[tuple[Tensor, Tensor]] = []
        self._biases: list[Tensor] = []
        self.crosses, self.vocabulary = isinstance(layers[0], CrossLayer), stack.embed.token.num_embeddings
        self._position: Any = stack.embed.position
        learned = isinstance(self._position, LearnedPositions)
        self.padding_id: int | None = getattr(self._position, "padding", None)
        self.max_positions: int | None = self._position.count if learned else None
        scales = [attention_of(layers[number]).query_scale for number in attends]
        self.scaled_from = min((scale.begin for scale in scales if scale is not None), default=None)
        # (positions, width); OPT and BART count from an offset
        self._positions = self._position.table.weight[self._position.offset :].to(dtype) if learned else None
        self._source: tuple[EncoderOutput, Any] | None = None
        self._arguments = self._constants()

    def _constants(self) -> Any:
        """Return the native call's arguments, with the fields that no step changes."""
        stack, token = self.stack, self.stack.embed.token
        first, last = norm_spec(stack.embed.norm) or NormSpec(), norm_spec(stack.norm) or NormSpec()
        tensors = [token.weight.detach(), first.weight, first.bias, last.weight, last.bias]
        self._tensors.append(tensors)
        # addresses alone: `_tensors` keeps the memory alive
        words, first_weight, first_bias, norm_weight, norm_bias = map(address_of, tensors)
        scorer = self.scorer.address
        self._tensors.append(self.scorer.memory)
        return native.DecodeLoop(
            stack=native.StackCall(
                steps=ctypes.addressof(self._steps), layers=len(self._steps), states=token.embedding_dim,
                type=native.TYPES[self.dtype], causal=1,
            ),
            token_table=words, vocabulary=self.vocabulary, scorer=scorer, first_weight=first_weight,
            first_bias=first_bias, norm_weight=norm_weight, norm_bias=norm_bias, first_eps=first.eps,
            norm_eps=last.eps, first=first.kind, norm=last.kind, windows=len(self._windows),
            rotary_count=len(self._rotary),
            scale=token.factor if isinstance(token, ScaledEmbedding) else stack.embed.factor,
            score_type=native.TYPES[self.score_dtype], softcap=self.softcap or 0.0,
        )  # fmt: skip

    def bind_cache(self) -> bool:
        """Set the addresses of keys and values. Return True if the kernels can read them there."""
        for number, memory in enumerate(self.store.layers):
            step = self._steps[number]
            if step.delta:  # `bind_states` sets its addresses
                continue
            assert isinstance(memory, KVLayerCache)
            for x in (memory.k, memory.v):
                # (rows, key heads, head width)
                if x is None or not plain(x, x, self.dtype, len(x), step.key_heads, step.width) or not x.is_cpu:
                    return False
            assert memory.k is not None
            assert memory.v is not None
            step.k, step.v = memory.k.data_ptr(), memory.v.data_ptr()
        return True

    def bind_states(self, slots: Sequence[int]) -> bool:
        """Set the addresses of recurrent states, for sequences with these slots. Return True if they can be read."""
        if not self._deltas.numbers:
            return True
        self._slots = native.numbers(slots)
        return self._deltas.bind(self.store.layers, self._slots)

    def accepts(self, source: EncoderOutput | None) -> bool:
        """Return True if the next steps' cross-attention can read this source."""
        return self.crosses == (source is not None) and (source is None or source.hidden.dtype is self.dtype)

    def bind_source(self, source: EncoderOutput | None) -> None:
        """Set the addresses of the source that the next steps' cross-attention reads."""
        if source is not None and (self._source is None or self._source[0] is not source):
            self._source = source, set_source(self._table, self.stack.layers, source)

    def run(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        slots: Mapping[int | None, DecodeSlots],
        steps: int,
        ends: Sequence[int],
        expected: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run up to `steps` greedy decode steps from one token of each sequence, until one chooses a stop token.

        Args:
            tokens, positions: one a sequence. slots: by window. steps: 1 if a sequence's slots are not contiguous.
            ends: stop tokens. expected: number of tokens that sequences may grow to.

        Returns:
            Hidden states (sequences, width) and logits (sequences, vocabulary) of the last step; the likeliest tokens
            after each of the steps that ran, (steps, sequences): -1 where no logit is more than minus infinity, -2
            where one is infinite or not a number.
        """
        count = len(tokens)
        arguments, width = self._arguments, self._arguments.stack.states
        x = torch.empty(count, width, dtype=self.dtype)  # (sequences, width)
        scores = torch.empty(count, self.scorer.outputs, dtype=self.score_dtype)  # (sequences, vocabulary)
        # (steps + 1, sequences): row 0 is read by the first step
        chosen = torch.empty(steps + 1, count, dtype=torch.long)
        chosen[0] = torch.tensor(tokens)
        here, ending, arrays = (
            native.numbers(positions),
            native.numbers(ends),
            list[Any](),
        )  # arrays: referenced here until the call has read them
        keys = (native.CacheWindow * len(slots))()
        for entry, (window, each) in zip(keys, slots.items(), strict=True):
            self._set_slots(entry, window, each, arrays)
        # tables for the longest length that is expected, so that they are not made again
        last = max(max(positions) + steps, expected)
        self._set_biases(last)
        angles = self._set_angles(count, last, arrays)
        # products, outputs of heads and hidden states of one layer at a time
        workspace = torch.empty(count * (self._workspace_width + width), dtype=self.dtype)
        stack = arguments.stack
        stack.x, stack.workspace, stack.sequences, stack.tokens = x.data_ptr(), workspace.data_ptr(), count, count
        arguments.keys, arguments.angles = ctypes.addressof(keys), ctypes.addressof(angles)
        arguments.position_table, arguments.scores = self._position_table(last), scores.data_ptr()
        arguments.tokens, arguments.positions = chosen.data_ptr(), ctypes.addressof(here)
        arguments.ends, arguments.end_count, arguments.steps = ctypes.addressof(ending), len(ends), steps
        # fewer than `steps` where a stop token was chosen
        num_steps = native.library().mh_decode_loop(ctypes.byref(arguments), torch.get_num_threads())
        return x, scores, chosen[1 : num_steps + 1]

    def _set_slots(self, entry: Any, window: int | None, slots: DecodeSlots, arrays: list[Any]) -> None:
        """Set the addresses of a window's cache slots, for its layers and for the code between steps."""
        numbers = [native.numbers(each) for each in (slots.writes, slots.begins, slots.lengths, slots.copies)]
        arrays.extend(numbers)
        writes, begins, lengths, copies = map(ctypes.addressof, numbers)
        entry.writes, entry.begins, entry.lengths, entry.copies = writes, begins, lengths, copies
        # three numbers for each run: first slot, target slot, count
        entry.copied, entry.window = len(slots.copies) // 3, window or 0
        layers, index = self._windows[window], address_of(slots.index)
        for name, address in (("writes", writes), ("begins", begins), ("lengths", lengths), ("index", index)):
            self._table[name][layers] = address

    def _position_table(self, count: int) -> int:
        """Return the address of position embeddings (count, width); 0 for a model without."""
        if self._position is None:
            return 0
        if self._positions is None or (self.max_positions is None and len(self._positions) < count):
            # (positions, width)
            self._positions = self._position(torch.arange(max(count, MIN_POSITIONS))).to(self.dtype)
        return self._positions.data_ptr()

    def _set_biases(self, count: int) -> None:
        """Set the score biases for `count` keys in layers that have any, such as ALiBi."""
        if not self._biased or (self._biases and self._biases[0].shape[1] >= count):
            return
        self._biases = []
        for positions, layers in self._biased:
            found = positions.biases(max(count, MIN_POSITIONS))  # (heads, keys)
            assert found is not None
            biases = found[0].to(self.dtype).float()  # rounded as in the layer-by-layer path
            self._biases.append(biases)
            fields = ("bias", biases.data_ptr()), ("biases", biases.shape[1]), ("by_place", int(found[1]))
            for name, value in fields:
                self._table[name][layers] = value

    def _set_angles(self, count: int, positions: int, arrays: list[Any]) -> Any:
        """Return the rotary angles of `positions` positions, and buffers for those of `count` sequences."""
        if self._rotary and (not self._angles or len(self._angles[0][0]) < positions):
            every = torch.arange(max(positions, MIN_POSITIONS))  # (positions,)
            self._angles = [rotary.of(every) for rotary, _ in self._rotary]  # cosines and sines (positions, half)
        entries = (native.RotaryAngles * len(self._rotary))()
        for entry, (_, layers), angles in zip(entries, self._rotary, self._angles, strict=True):
            half = angles[0].shape[1]
            here = torch.empty(2, count, half)  # the sequences' own cosines and sines, which each step fills in
            arrays.append(here)
            entry.cosines, entry.sines = (part.data_ptr() for part in angles)
            entry.here_cosines, entry.here_sines = (part.data_ptr() for part in here)
            entry.half = half
            self._table["cosines"][layers], self._table["sines"][layers] = entry.here_cosines, entry.here_sines
            self._table["rotated"][layers] = 2 * half
        return entries
