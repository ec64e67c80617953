"""Invertible conversions between a parameter and its stored tensors, where these differ by more than a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..kernels.quantization.coded_tensor import derive, move_rows


@dataclass(frozen=True)
class Source:
    """A tensor stored unchanged under another name."""

    key: str
    default_if_missing: ClassVar[float | None] = None  # value of a parameter that a checkpoint may lack

    def numbered(self, numbers: Sequence[int]) -> Source:
        """Return this source for one parameter, whose path has these layer and expert numbers."""
        return self

    def names(self, key: str, leaf: str) -> tuple[str, ...]:
        """Return the names of a parameter's stored tensors; `key` is this source's with the layer number filled in."""
        return (key + leaf,)

    @property
    def by_rows(self) -> bool:
        """True if `read` selects or moves whole rows of one tensor and leaves their values unchanged."""
        return type(self) is Source

    def read_stored(self, *stored: Tensor) -> Tensor:
        """Call `read`; tensors in a file's codes stay so where only rows move, and wait elsewhere."""
        if type(self) is Source:
            return stored[0]
        return move_rows(stored[0], self.read) if self.by_rows else derive(self.read, *stored)

    def read(self, *stored: Tensor) -> Tensor:
        """Return the parameter made of the tensors of `names`."""
        return stored[0]

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor | Sequence[Tensor]:
        """Return the tensors to store under `names`; `stored` is what an earlier row put under the first name."""
        return ours


@dataclass(frozen=True)
class Transposed(Source):
    """A matrix stored as (in, out)."""

    def read(self, *stored: Tensor) -> Tensor:
        return stored[0].T if stored[0].ndim == 2 else stored[0]

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return self.read(ours)


@dataclass(frozen=True)
class Flat(Source):
    """A vector stored as a matrix of one row (BART's last bias, Marian's biases)."""

    def read(self, *stored: Tensor) -> Tensor:
        return stored[0].flatten() if stored[0].ndim == 2 and 1 in stored[0].shape else stored[0]

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return ours[None]


@dataclass(frozen=True)
class FlatOrZero(Flat):
    """A `Flat` that older checkpoints lack; the default is zero."""

    default_if_missing: ClassVar[float | None] = 0.0


@dataclass(frozen=True)
class OrZero(Source):
    """A tensor that some checkpoints lack; the default is zero."""

    default_if_missing: ClassVar[float | None] = 0.0


@dataclass(frozen=True)
class Shaped(Source):
    """A tensor stored with other axes, such as a matrix whose rows are (heads, width) pairs.

    Args:
        ours, theirs: shapes, -1 at most once. order: of the stored axes, before they take our shape.
    """

    ours: tuple[int, ...]
    theirs: tuple[int, ...]
    order: tuple[int, ...] | None = None

    def read(self, *stored: Tensor) -> Tensor:
        shape = stored[0].shape
        if len(shape) != len(self.theirs) or any(a != b for a, b in zip(shape, self.theirs, strict=True) if b != -1):
            return stored[0]  # reported with its shape, unless it has ours
        moved = stored[0] if self.order is None else stored[0].permute(self.order)
        return moved.reshape(self.ours)

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        if self.order is None:
            return ours.reshape(self.theirs)
        moved = ours.reshape([self.theirs[axis] for axis in self.order])
        return moved.permute([self.order.index(axis) for axis in range(len(self.order))])


@dataclass(frozen=True)
class Part(Source):
    """Rows of a matrix that several of our parameters share (fused query, key and value).

    Args:
        sizes: rows of each part. index: which part this is. transposed: stored as (in, out), as GPT-2 does.
    """

    sizes: tuple[int, ...]
    index: int
    transposed: bool = False

    @property
    def by_rows(self) -> bool:
        return not self.transposed

    def read(self, *stored: Tensor) -> Tensor:
        if stored[0].shape[self._axis(stored[0])] != sum(self.sizes):
            return stored[0]  # reported with its shape
        part = stored[0].split(self.sizes, self._axis(stored[0]))[self.index]
        return part.T if self.transposed and part.ndim == 2 else part

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        part = ours.T if self.transposed and ours.ndim == 2 else ours
        axis = self._axis(part)
        if stored is None:
            shape = list(part.shape)
            shape[axis] = sum(self.sizes)
            stored = part.new_zeros(shape)
        stored.split(self.sizes, axis)[self.index].copy_(part)
        return stored

    def _axis(self, stored: Tensor) -> int:
        return stored.ndim - 1 if self.transposed else 0


@dataclass(frozen=True)
class PerHead(Source):
    """Query, key or value rows of a matrix that holds them head by head (GPT-NeoX, BLOOM, Falcon).

    Args:
        groups: of heads. layout: rows of query, key, value heads in each group. index: which of them this is.
    """

    groups: int
    layout: tuple[int, ...]
    index: int

    @property
    def by_rows(self) -> bool:
        return True

    def read(self, *stored: Tensor) -> Tensor:
        if stored[0].shape[0] % (self.groups * sum(self.layout)):
            return stored[0]
        return self._split(stored[0])[self.index].flatten(0, 2)

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        if stored is None:
            rows = ours.shape[0] // self.layout[self.index] * sum(self.layout)
            stored = ours.new_zeros(rows, *ours.shape[1:])
        self._split(stored)[self.index].copy_(ours.unflatten(0, (self.groups, self.layout[self.index], -1)))
        return stored

    def _split(self, stored: Tensor) -> tuple[Tensor, ...]:
        return stored.unflatten(0, (self.groups, sum(self.layout), -1)).split(self.layout, 1)


@dataclass(frozen=True)
class GroupParts(Source):
    """Some kinds of rows of a matrix that holds all kinds group by group (Qwen3-Next's queries, keys, values, gates).

    Args:
        groups: how many. layout: rows of each kind in a group. chosen: kinds of ours, one after the other.
    """

    groups: int
    layout: tuple[int, ...]
    chosen: tuple[int, ...]

    @property
    def by_rows(self) -> bool:
        return True

    def read(self, *stored: Tensor) -> Tensor:
        if stored[0].shape[0] != self.groups * sum(self.layout):
            return stored[0]  # reported with its shape
        parts = stored[0].unflatten(0, (self.groups, -1)).split(self.layout, 1)
        return torch.cat([parts[kind].flatten(0, 1) for kind in self.chosen])

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        if stored is None:
            stored = ours.new_zeros(self.groups * sum(self.layout), *ours.shape[1:])
        parts = stored.unflatten(0, (self.groups, -1)).split(self.layout, 1)
        own = ours.split([self.groups * self.layout[kind] for kind in self.chosen])
        for kind, rows in zip(self.chosen, own, strict=True):
            parts[kind].copy_(rows.unflatten(0, (self.groups, -1)))
        return stored


@dataclass(frozen=True)
class Tiled(Source):
    """Value heads stored with those of all key heads side by side (llama.cpp's Qwen3.5); ours follow their key head.

    Args:
        groups: key heads. each: value heads of one. first: rows before them that stay. parts: equal parts of the rest,
            each of which holds all heads. axis: that holds the heads' channels.
    """

    groups: int
    each: int
    first: int = 0
    parts: int = 1
    axis: int = 0

    @property
    def by_rows(self) -> bool:
        return self.axis == 0

    def read(self, *stored: Tensor) -> Tensor:
        return self._move(stored[0], (self.each, self.groups))

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return self._move(ours, (self.groups, self.each))

    def _move(self, x: Tensor, order: tuple[int, int]) -> Tensor:
        rows = x.transpose(0, self.axis)
        before, heads = rows[: self.first], rows[self.first :]
        if heads.shape[0] % (self.parts * self.groups * self.each):
            return x  # reported with its shape
        moved = heads.unflatten(0, (self.parts, *order, -1)).transpose(1, 2).flatten(0, 3)
        return torch.cat([before, moved]).transpose(0, self.axis)


@dataclass(frozen=True)
class Joined(Source):
    """A matrix whose rows are stored as several matrices.

    Args:
        more: last names of the further ones, in place of the key's own. sizes: rows of each.
        row: shape of a stored row, where it has more axes than ours.
    """

    more: tuple[str, ...]
    sizes: tuple[int, ...]
    row: tuple[int, ...] = ()

    def names(self, key: str, leaf: str) -> tuple[str, ...]:
        stem = key.rpartition(".")[0]
        return (key + leaf, *(f"{stem}.{other}{leaf}" for other in self.more))

    def read(self, *stored: Tensor) -> Tensor:
        whole = torch.cat(stored)
        return whole.flatten(1) if self.row else whole

    def write(self, ours: Tensor, stored: Tensor | None) -> Sequence[Tensor]:
        parts = ours.split(self.sizes)
        return [part.reshape(-1, *self.row) for part in parts] if self.row else parts


@dataclass(frozen=True)
class Sharded(Source):
    """A matrix whose rows are stored in parts, as `torch.chunk` makes them.

    Args:
        key: of the first part, which ends with its number. count: of parts.
    """

    count: int

    def names(self, key: str, leaf: str) -> tuple[str, ...]:
        return tuple(f"{key.removesuffix('0')}{part}{leaf}" for part in range(self.count))

    def read(self, *stored: Tensor) -> Tensor:
        return torch.cat(stored)

    def write(self, ours: Tensor, stored: Tensor | None) -> Sequence[Tensor]:
        return ours.chunk(self.count)


@dataclass(frozen=True)
class Stacked(Source):
    """Tensors stored one by one (experts); the parameter stacks all of them, (count, ...).

    Args:
        key: with `#` where the number stands. more: further keys, whose rows follow in each (gate, then up).
    """

    count: int
    more: tuple[str, ...] = ()

    def names(self, key: str, leaf: str) -> tuple[str, ...]:
        keys = (key, *self.more)
        if self.more:  # all keys share what stands before `#`
            stem = key.partition("#")[0]
            keys = (key, *(stem + other for other in self.more))
        return tuple(k.replace("#", str(n)) + leaf for n in range(self.count) for k in keys)

    def read(self, *stored: Tensor) -> Tensor:
        each = len(self.more) + 1
        whole = [torch.cat(stored[n * each : (n + 1) * each]) for n in range(self.count)] if self.more else stored
        return torch.stack(list(whole))

    def write(self, ours: Tensor, stored: Tensor | None) -> Sequence[Tensor]:
        each = len(self.more) + 1
        return [part for one in ours for part in one.chunk(each)]


@dataclass(frozen=True)
class Slice(Source):
    """Slice of a stacked tensor (count, ...): an expert's weights in llama.cpp's files.

    Args:
        number: of the tensor, the last number in our path.
    """

    count: int
    number: int = 0

    @property
    def by_rows(self) -> bool:
        return True

    def numbered(self, numbers: Sequence[int]) -> Source:
        return replace(self, number=numbers[-1])

    def read(self, *stored: Tensor) -> Tensor:
        return stored[0][self.number] if stored[0].shape[0] == self.count else stored[0]

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        stored = ours.new_zeros(self.count, *ours.shape) if stored is None else stored
        stored[self.number] = ours
        return stored


@dataclass(frozen=True)
class SlicePart(Slice):
    """Rows of a slice of a stacked tensor (count, rows, ...): an expert's gate or up, stored as one matrix (Granite).

    Args:
        sizes: rows of each part. index: which part this is.
    """

    sizes: tuple[int, ...] = ()
    index: int = 0

    def read(self, *stored: Tensor) -> Tensor:
        if stored[0].ndim < 2 or stored[0].shape[:2] != (self.count, sum(self.sizes)):
            return stored[0]  # reported with its shape
        return stored[0][self.number].split(self.sizes)[self.index]

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        stored = ours.new_zeros(self.count, sum(self.sizes), *ours.shape[1:]) if stored is None else stored
        stored[self.number].split(self.sizes)[self.index].copy_(ours)
        return stored


@dataclass(frozen=True)
class ColumnPart(Slice):
    """Columns of a slice of a stacked tensor (count, in, columns); ours are its transpose (Llama 4's experts).

    Args:
        sizes: columns of each part. index: which part this is.
    """

    sizes: tuple[int, ...] = ()
    index: int = 0

    @property
    def by_rows(self) -> bool:
        return False

    def read(self, *stored: Tensor) -> Tensor:
        if stored[0].ndim != 3 or stored[0].shape[0] != self.count or stored[0].shape[2] != sum(self.sizes):
            return stored[0]  # reported with its shape
        return stored[0][self.number].split(self.sizes, 1)[self.index].T

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        stored = ours.new_zeros(self.count, ours.shape[1], sum(self.sizes)) if stored is None else stored
        stored[self.number].split(self.sizes, 1)[self.index].copy_(ours.T)
        return stored


@dataclass(frozen=True)
class RowBlock(Slice):
    """Rows of a matrix that holds those of all experts one after the other (DBRX).

    Args:
        transposed: ours are columns of them.
    """

    transposed: bool = False

    @property
    def by_rows(self) -> bool:
        return not self.transposed

    def read(self, *stored: Tensor) -> Tensor:
        if stored[0].shape[0] % self.count:
            return stored[0]  # reported with its shape
        rows = stored[0].unflatten(0, (self.count, -1))[self.number]
        return rows.T if self.transposed else rows

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        rows = ours.T if self.transposed else ours
        stored = rows.new_zeros(self.count * rows.shape[0], rows.shape[1]) if stored is None else stored
        stored.unflatten(0, (self.count, -1))[self.number].copy_(rows)
        return stored


@dataclass(frozen=True)
class Woven(Source):
    """Experts' interleaved gate and up, (count, width, 2 inner) or (count, 2 inner), stored as two transposed tensors.

    Args:
        up: where the ups are, beside the gates' key.
    """

    up: str

    def names(self, key: str, leaf: str) -> tuple[str, ...]:
        return (key + leaf, key.rpartition(".")[0].rpartition(".")[0] + "." + self.up + leaf)

    def read(self, *stored: Tensor) -> Tensor:
        gate, up = (x.transpose(1, 2) if x.ndim == 3 else x for x in stored)
        return torch.stack([gate, up], -1).flatten(-2)

    def write(self, ours: Tensor, stored: Tensor | None) -> Sequence[Tensor]:
        parts = ours.unflatten(-1, (-1, 2)).unbind(-1)
        return [x.transpose(1, 2) if x.ndim == 3 else x for x in parts]


@dataclass(frozen=True)
class Interleaved(Source):
    """Rows whose rotary pairs lie side by side in each head (llama.cpp, GPT-J) instead of half a head apart.

    Args:
        rotated: channels of a head that are turned; None for all. first: of them. axis: that holds the heads' channels.
    """

    heads: int
    rotated: int | None = None
    axis: int = 0
    first: int = 0

    @property
    def by_rows(self) -> bool:
        return self.axis == 0

    def read(self, *stored: Tensor) -> Tensor:
        return self._each_head(stored[0], lambda x: x.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2))

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return self._each_head(ours, lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2))

    def _each_head(self, x: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
        if x.shape[self.axis] % self.heads:
            return x  # reported with its shape
        heads = x.transpose(0, self.axis).unflatten(0, (self.heads, -1))
        first, rotated = self.first, heads.shape[1] if self.rotated is None else self.rotated
        parts = heads.split((first, rotated, heads.shape[1] - first - rotated), 1)
        moved = torch.cat([parts[0], move(parts[1]), parts[2]], 1)
        return moved.flatten(0, 1).transpose(0, self.axis)


@dataclass(frozen=True)
class Halves(Interleaved):
    """Channels stored as two halves, of which ours come in turns (the privacy filter's gates and ups)."""

    @property
    def by_rows(self) -> bool:
        return False

    def read(self, *stored: Tensor) -> Tensor:
        return super().write(stored[0], None)

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor:
        return super().read(ours)


@dataclass(frozen=True)
class Chained(Source):
    """Conversion by two sources, one after the other.

    Args:
        first: reads what is stored. then: reads what the first gives, one tensor.
    """

    first: Source
    then: Source

    def names(self, key: str, leaf: str) -> tuple[str, ...]:
        return self.first.names(key, leaf)

    @property
    def by_rows(self) -> bool:
        return self.first.by_rows and self.then.by_rows

    def read(self, *stored: Tensor) -> Tensor:
        return self.then.read(self.first.read(*stored))

    def write(self, ours: Tensor, stored: Tensor | None) -> Tensor | Sequence[Tensor]:
        written = self.then.write(ours, None)
        assert isinstance(written, Tensor)
        return self.first.write(written, stored)


@dataclass(frozen=True)
class ByLayer(Source):
    """A tensor whose conversion depends on its layer.

    Args:
        each: source of each layer.
    """

    each: tuple[Source, ...]

    def numbered(self, numbers: Sequence[int]) -> Source:
        return self.each[numbers[0]].numbered(numbers)


@dataclass(frozen=True)
class PackedTernary(Source):
    """A matrix of -1, 0 and 1 that may be stored in bytes (BitNet).

    A byte has four numbers of one column, whose rows are a quarter of all rows apart.
    """

    def read(self, *stored: Tensor) -> Tensor:
        if stored[0].dtype is not torch.uint8:
            return stored[0]
        # each number is stored plus 1, in two bits
        parts = [(stored[0] >> 2 * i & 3).to(torch.bfloat16) - 1 for i in range(4)]
        return torch.cat(parts)
