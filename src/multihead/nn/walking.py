"""Steps of one token a text as one call of the C++ kernels: from word vectors to scores, and from one to the next."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..kernels import native
from ..kernels.linear import most_rows
from .attention import Attention
from .cache import Store
from .embeddings import Embeddings, LearnedPositions
from .memories import KeyValues
from .packed import Norm, Product
from .positions import Positions, Rotary
from .stack import Stack
from .steps import PreparedStack, attends, describe, groups, room_of
from .unpacked import Parts, Unpacked, can_stay, unpacked
from .weights import Embedding, ScaledEmbedding

SHORTEST = 256  # places of which the angles are computed, at least


def walks(stack: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the kernels compute all that a decoder's stack does with one token a text, in this precision."""
    if type(stack) not in (Stack, PreparedStack) or stack.adjust is not None or not stack.causal:
        return False
    layers: list[Any] = list(stack.layers)
    if type(stack) is Stack:
        fine = all(can_stay(layer, dtype) and attends(layer.attention.step, Attention) for layer in layers)
    else:
        fine = stack.steps is not None and not stack.steps.crosses
    last = type(stack.norm) is nn.Identity or Norm.of(stack.norm) is not None
    positions = {type(layer.attention.step.positions) for layer in layers} if fine else {nn.Module}
    return last and type(stack.out) is nn.Identity and positions <= {Positions, Rotary} and _embeds(stack.embed, dtype)


def _embeds(embed: Any, dtype: torch.dtype) -> bool:
    """Whether word vectors are looked up and scaled, and nothing is added but vectors that places have learned."""
    if (
        type(embed) is not Embeddings
        or type(embed.token) not in (Embedding, ScaledEmbedding)
        or embed.segment is not None
    ):
        return False
    tables, position = [embed.token.weight], embed.position
    if position is not None:
        if type(position) is not LearnedPositions or position.padding is not None:
            return False
        tables.append(position.table.weight)
    plain = all(type(part) is nn.Identity for part in (embed.widen, embed.norm, embed.project))
    plain = plain and (type(embed.token) is Embedding or embed.scale == 1.0)
    return plain and all(x.dtype is dtype and x.is_contiguous() and x.shape[1] % 16 == 0 for x in tables)


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
        self._parts = parts
        self._held = [describe(*one) for one in zip(self._steps, layers, parts, strict=True)]
        self._table = np.frombuffer(memoryview(self._steps).cast("B"), np.dtype(native.Step))
        self._room = room_of(parts)
        self._windows = groups([layer.memory().window for layer in layers])
        turned = groups([layer.attention.step.positions for layer in layers])
        self._turned = [(positions, each) for positions, each in turned.items() if type(positions) is Rotary]
        self._angles: list[tuple[Tensor, Tensor]] = []
        self._norm = Norm.of(stack.norm) or Norm()
        token = stack.embed.token
        self._scale = token.factor if isinstance(token, ScaledEmbedding) else stack.embed.scale

    @property
    def most(self) -> int | None:
        """Texts up to which torch is not faster; None where it never is."""
        kinds = [one.qkv.kind for one in self._parts if isinstance(one.qkv, Unpacked)]
        return most_rows(self.dtype, max(kinds)) if kinds else None

    @property
    def longest(self) -> int | None:
        """Places that have a vector; None where all have."""
        position = self.stack.embed.position
        return None if position is None else position.count

    def settled(self) -> None:
        """Notes where keys and values are from now on."""
        for number, memory in enumerate(self.store.layers):
            assert isinstance(memory, KeyValues)
            assert memory.k is not None
            assert memory.v is not None
            self._steps[number].k, self._steps[number].v = memory.k.data_ptr(), memory.v.data_ptr()

    def run(
        self,
        tokens: Sequence[int],
        places: Sequence[int],
        rows: Mapping[int | None, tuple[Sequence[int], Sequence[int], Sequence[int]]],
        steps: int,
        ends: Sequence[int],
        expected: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reads a token of each text, then those that follow, up to the first that is one of `ends`.

        Args:
            places: of the tokens in their texts. rows: of storage, by window: where each text's next key is written,
                where those that it sees begin, and how many they are, its own included.
            expected: tokens that texts may grow to.

        Returns:
            States (texts, width) and scores (texts, vocabulary) of the last step; the likeliest tokens after each of
            the steps that were made, (steps, texts), -1 where no score is more than minus infinity.
        """
        library, count = native.library(), len(tokens)
        assert library is not None
        x = torch.empty(count, self.stack.embed.token.embedding_dim, dtype=self.dtype)
        scores = torch.empty(count, self.scorer.outputs, dtype=self.score_dtype)
        found = torch.empty(steps + 1, count, dtype=torch.long)
        found[0] = torch.tensor(tokens)
        here, ending = native.numbers(places), native.numbers(ends)
        keys = (native.Keys * len(rows))()
        held: list[Any] = []
        for entry, (window, lie) in zip(keys, rows.items(), strict=True):
            entry.writes, entry.begins, entry.lengths = self._tell(self._windows[window], lie, held)
            entry.window = window or 0
        angles = self._turn(count, max(max(places) + steps, expected), held)
        room = torch.empty(count * (self._room + x.shape[1]), dtype=self.dtype)
        kind, embed = native.TYPES[self.dtype], self.stack.embed
        told = native.Walk(
            pass_=native.Pass(
                steps=ctypes.addressof(self._steps), x=x.data_ptr(), room=room.data_ptr(), layers=len(self._steps),
                texts=count, tokens=count, states=x.shape[1], type=kind, causal=1,
            ),
            keys=ctypes.addressof(keys), angles=ctypes.addressof(angles), words=embed.token.weight.data_ptr(),
            learned=None if embed.position is None else embed.position.table.weight.data_ptr(),
            norm_weight=_place(self._norm.weight), norm_bias=_place(self._norm.bias), scorer=self.scorer.address,
            scores=scores.data_ptr(), tokens=found.data_ptr(), places=ctypes.addressof(here),
            ends=ctypes.addressof(ending), steps=steps, windows=len(keys), turned=len(angles),
            vocabulary=embed.token.num_embeddings, offset=0 if embed.position is None else embed.position.offset,
            end_count=len(ends), scale=self._scale, norm_eps=self._norm.eps, norm=self._norm.kind,
            score_type=native.TYPES[self.score_dtype],
        )  # fmt: skip
        made = library.mh_walk(ctypes.byref(told), torch.get_num_threads())
        return x, scores, found[1 : made + 1]

    def _tell(self, layers: Sequence[int], rows: Sequence[Sequence[int]], held: list[Any]) -> list[int]:
        """Puts rows of storage where these layers, and the steps between, find them."""
        held.append([native.numbers(each) for each in rows])
        addresses = [ctypes.addressof(each) for each in held[-1]]
        for name, address in zip(("writes", "begins", "lengths"), addresses, strict=True):
            self._table[name][layers] = address
        return addresses

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


def _place(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
