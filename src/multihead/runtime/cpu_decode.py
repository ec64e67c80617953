"""Steps of one token a text as one call of the C++ kernels: from word vectors to scores, and from one to the next."""

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
from ..nn.cache.layer_cache import KeyValues
from ..nn.cache.store import Store
from ..nn.embeddings import CountedSinusoids, Embeddings, LearnedPositions, SinusoidalPositions
from ..nn.forward_context import EncoderOutput
from ..nn.layer import CrossLayer
from ..nn.positions import Positions, Rotary
from ..nn.stack import Stack
from ..nn.weights import Dropout, Embedding, ScaledEmbedding
from .cpu_stack import BIASED, PreparedStack, address_of, attends, describe, groups, room_of, tell_source
from .fused_linear_cpu import Norm, Product
from .strided_weights import Parts, Unpacked, can_stay, unpacked

PLACES = (type(None), LearnedPositions, SinusoidalPositions, CountedSinusoids)  # whose vectors are told as a table
SHORTEST = 256  # places of which the angles are computed, at least


def walks(stack: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the kernels compute all that a decoder's stack does with one token a text, in this precision."""
    if type(stack) not in (Stack, PreparedStack) or stack.adjust is not None or not stack.causal:
        return False
    layers: list[Any] = list(stack.layers)
    if type(stack) is Stack:
        fine = all(can_stay(layer, dtype) and _attends(layer) for layer in layers)
        fine = fine and len({type(layer) for layer in layers}) == 1
    else:
        fine = stack.steps is not None and stack.steps.unchanged()
    last = type(stack.norm) is nn.Identity or Norm.of(stack.norm) is not None
    last = last and type(stack.out) in (nn.Identity, Dropout)  # which nobody trains
    positions = {type(layer.attention.step.positions) for layer in layers} if fine else {nn.Module}
    return last and positions <= {Positions, Rotary, *BIASED} and _embeds(stack.embed, dtype)


def _attends(layer: Any) -> bool:
    cross = not isinstance(layer, CrossLayer) or attends(layer.cross.step, CrossAttention)
    return cross and attends(layer.attention.step, Attention)


def _embeds(embed: Any, dtype: torch.dtype) -> bool:
    """Whether word vectors are looked up and scaled, and nothing is added but vectors of places, then normed."""
    if type(embed) is not Embeddings or embed.segment is not None:
        return False
    if type(embed.token) not in (Embedding, ScaledEmbedding) or type(embed.position) not in PLACES:
        return False
    token, counts = embed.token.weight, getattr(embed.position, "padding", None) is not None
    plain = not counts or type(embed.position) is CountedSinusoids
    plain = plain and all(type(part) is nn.Identity for part in (embed.widen, embed.project))
    plain = plain and (type(embed.norm) is nn.Identity or Norm.of(embed.norm) is not None)
    plain = plain and (type(embed.token) is Embedding or embed.scale == 1.0) and embed.token.max_norm is None
    return plain and token.dtype is dtype and token.is_contiguous() and token.shape[1] % 16 == 0


@dataclass
class Rows:
    """Rows of storage, a number for each text.

    Args:
        writes: where the next key is written. begins, lengths: where those that it sees begin, and how many they are,
            its own included. index: places in it, not in storage, are what `begins` are then; (rows,), int64.
        copies: from, to and how many, of rows that must be copied first, one after the other.
    """

    writes: Sequence[int]
    begins: Sequence[int]
    lengths: Sequence[int]
    index: Tensor | None = None
    copies: Sequence[int] = ()


class Walk:
    """What the kernels are told of a decoder.

    Args:
        stack: that `walks` lets through. scorer: of the vocabulary. store: where its layers remember.
        dtype: of states. rounded: whether scores are rounded to it too, else they are float32.
    """

    def __init__(
        self, stack: Any, scorer: Product | Unpacked, store: Store, dtype: torch.dtype, *, rounded: bool
    ) -> None:
        self.stack, self.scorer, self.store, self.dtype = stack, scorer, store, dtype
        self.score_dtype = dtype if rounded else torch.float32
        layers: list[Any] = list(stack.layers)
        prepared = isinstance(stack, PreparedStack)
        parts = [Parts.of(layer) if prepared else unpacked(layer) for layer in layers]
        self._steps = (native.Step * len(layers))()
        self._held = [parts, *[describe(*one) for one in zip(self._steps, layers, parts, strict=True)]]
        kinds = [one.qkv.kind for one in parts if isinstance(one.qkv, Unpacked)]
        self.most = most_rows(dtype, max(kinds)) if kinds else None  # texts up to which torch is not faster
        self._table = np.frombuffer(memoryview(self._steps).cast("B"), np.dtype(native.Step))
        self._room = room_of(parts)
        self._windows = groups([layer.memory().window for layer in layers])
        turned = groups([layer.attention.step.positions for layer in layers])
        self._turned = [(positions, each) for positions, each in turned.items() if type(positions) is Rotary]
        self._biased = [(positions, each) for positions, each in turned.items() if type(positions) in BIASED]
        self._angles: list[tuple[Tensor, Tensor]] = []
        self._biases: list[Tensor] = []
        self.crosses, self.words = isinstance(layers[0], CrossLayer), stack.embed.token.num_embeddings
        self._first, self._norm = Norm.of(stack.embed.norm) or Norm(), Norm.of(stack.norm) or Norm()
        self._learned: Tensor | None = None
        self._source: tuple[EncoderOutput, Any] | None = None
        token = stack.embed.token
        self._scale = token.factor if isinstance(token, ScaledEmbedding) else stack.embed.factor

    @property
    def placeless(self) -> int | None:
        """A token that takes no place in its text, which is not for these steps."""
        return getattr(self.stack.embed.position, "padding", None)

    @property
    def longest(self) -> int | None:
        """Places that have a vector; None where all have."""
        position = self.stack.embed.position
        return position.count if isinstance(position, LearnedPositions) else None

    def settled(self) -> bool:
        """Notes where keys and values are from now on; whether the kernels can read them there."""
        for number, memory in enumerate(self.store.layers):
            step = self._steps[number]
            assert isinstance(memory, KeyValues)
            for x in (memory.k, memory.v):
                if x is None or not plain(x, x, self.dtype, len(x), step.key_heads, step.width) or not x.is_cpu:
                    return False
            assert memory.k is not None
            assert memory.v is not None
            step.k, step.v = memory.k.data_ptr(), memory.v.data_ptr()
        return True

    def reads(self, source: EncoderOutput | None) -> bool:
        """Whether the next steps' texts may read this besides."""
        return self.crosses == (source is not None) and (source is None or source.hidden.dtype is self.dtype)

    def tell_source(self, source: EncoderOutput | None) -> None:
        """Says what the next steps' texts read besides."""
        if source is not None and (self._source is None or self._source[0] is not source):
            self._source = source, tell_source(self._table, self.stack.layers, source)

    def run(
        self,
        tokens: Sequence[int],
        places: Sequence[int],
        rows: Mapping[int | None, Rows],
        steps: int,
        ends: Sequence[int],
        expected: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reads a token of each text, then those that follow, up to the first that is one of `ends`.

        Args:
            places: of the tokens in their texts. rows: of storage, by window. steps: one where texts lie in pieces.
            expected: tokens that texts may grow to.

        Returns:
            States (texts, width) and scores (texts, vocabulary) of the last step; the likeliest tokens after each of
            the steps that were made, (steps, texts), -1 where no score is more than minus infinity and -2 where one is
            not a number or infinite.
        """
        count = len(tokens)
        x = torch.empty(count, self.stack.embed.token.embedding_dim, dtype=self.dtype)
        scores = torch.empty(count, self.scorer.outputs, dtype=self.score_dtype)
        found = torch.empty(steps + 1, count, dtype=torch.long)
        found[0] = torch.tensor(tokens)
        here, ending, held = native.numbers(places), native.numbers(ends), list[Any]()
        keys = (native.Keys * len(rows))()
        for entry, (window, lie) in zip(keys, rows.items(), strict=True):
            self._lie(entry, window, lie, held)
        last = max(max(places) + steps, expected)
        self._add(last)
        angles, embed, norms = self._turn(count, last, held), self.stack.embed, (self._first, self._norm)
        room = torch.empty(count * (self._room + x.shape[1]), dtype=self.dtype)
        first_weight, first_bias, norm_weight, norm_bias = (
            address_of(x) for norm in norms for x in (norm.weight, norm.bias)
        )
        told = native.Walk(
            stack=native.Pass(
                steps=ctypes.addressof(self._steps), x=x.data_ptr(), room=room.data_ptr(), layers=len(self._steps),
                texts=count, tokens=count, states=x.shape[1], type=native.TYPES[self.dtype], causal=1,
            ),
            keys=ctypes.addressof(keys), angles=ctypes.addressof(angles), words=embed.token.weight.data_ptr(),
            learned=self._vectors(last), first_weight=first_weight, first_bias=first_bias, norm_weight=norm_weight,
            norm_bias=norm_bias, scorer=self.scorer.address, scores=scores.data_ptr(), tokens=found.data_ptr(),
            places=ctypes.addressof(here), ends=ctypes.addressof(ending), steps=steps, windows=len(keys),
            turned=len(angles), vocabulary=self.words, end_count=len(ends), scale=self._scale,
            first_eps=self._first.eps, norm_eps=self._norm.eps, first=self._first.kind, norm=self._norm.kind,
            score_type=native.TYPES[self.score_dtype],
        )  # fmt: skip
        made = native.library().mh_walk(ctypes.byref(told), torch.get_num_threads())
        return x, scores, found[1 : made + 1]

    def _lie(self, entry: Any, window: int | None, rows: Rows, held: list[Any]) -> None:
        """Puts rows of storage where layers with a window, and the steps between, find them."""
        numbers = [native.numbers(each) for each in (rows.writes, rows.begins, rows.lengths, rows.copies)]
        held.extend(numbers)
        writes, begins, lengths, copies = map(address_of, numbers)
        entry.writes, entry.begins, entry.lengths, entry.copies = writes, begins, lengths, copies
        entry.copied, entry.window = len(rows.copies) // 3, window or 0
        layers, index = self._windows[window], address_of(rows.index)
        for name, told in (("writes", writes), ("begins", begins), ("lengths", lengths), ("index", index)):
            self._table[name][layers] = told

    def _vectors(self, places: int) -> int:
        """Where the vectors of so many places are; 0 where places have none."""
        position = self.stack.embed.position
        if isinstance(position, LearnedPositions):
            self._learned = position.table.weight[position.offset :].to(self.dtype)
        elif position is not None and (self._learned is None or len(self._learned) < places):
            self._learned = position(torch.arange(max(places, SHORTEST))).to(self.dtype)
        return address_of(self._learned)

    def _add(self, places: int) -> None:
        """Tells what is added to the scores of so many keys, where anything is."""
        if not self._biased or (self._biases and self._biases[0].shape[1] >= places):
            return
        self._biases = []
        for positions, layers in self._biased:
            found = positions.biases(max(places, SHORTEST))
            assert found is not None
            biases = found[0].to(self.dtype).float()  # rounded as where they are added layer by layer
            self._biases.append(biases)
            told = ("bias", biases.data_ptr()), ("biases", biases.shape[1]), ("by_place", int(found[1]))
            for name, value in told:
                self._table[name][layers] = value

    def _turn(self, count: int, places: int, held: list[Any]) -> Any:
        """The angles of so many places, and room for those of the texts' own."""
        if self._turned and (not self._angles or len(self._angles[0][0]) < places):
            every = torch.arange(max(places, SHORTEST))
            self._angles = [positions.of(every) for positions, _ in self._turned]
        told = (native.Angles * len(self._turned))()
        for entry, (_, layers), angles in zip(told, self._turned, self._angles, strict=True):
            half = angles[0].shape[1]
            here = torch.empty(2, count, half)
            held.append(here)
            entry.cosines, entry.sines = (part.data_ptr() for part in angles)
            entry.here_cosines, entry.here_sines = (part.data_ptr() for part in here)
            entry.half = half
            self._table["cosines"][layers], self._table["sines"][layers] = entry.here_cosines, entry.here_sines
            self._table["rotated"][layers] = 2 * half
        return told
