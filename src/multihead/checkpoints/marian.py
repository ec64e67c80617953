"""Reads Marian's binary format (github.com/marian-nmt/marian-dev, common/binary.cpp): float32 and intgemm's int8.

A header of uint64 version (1) and count; a row of four uint64 a tensor (length of name, type, dimensions, bytes); the
names, each ending with a zero byte; the shapes as int32; a uint64 and so many bytes of padding; the data. An int8
matrix is followed by one float32: what the floats were multiplied with. All but the embedding are stored transposed.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CorruptFile, UnsupportedConfig

VERSION = 1
INT8, FLOAT32, INTGEMM8 = 0x101, 0x404, 0x4101
CONFIG = "special:model.yml"
EMBEDDING = "Wemb"
LIMIT = 100_000  # tensors: far more than any model has


@dataclass(frozen=True)
class Entry:
    """A tensor in the file: `start` and `size` in bytes."""

    kind: int
    shape: tuple[int, ...]
    start: int
    size: int


class MarianTensors(Mapping[str, Tensor]):
    """Tensors of a file in float32; matrices are (in, out), as Marian multiplies `x @ W`.

    Raises:
        CorruptFile: a size that does not fit the file. UnsupportedConfig: a type that is not read here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            try:
                self.buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except ValueError as error:
                raise CorruptFile(f"{path} is empty. Get it again.") from error
        self.entries = self._table()

    def __getitem__(self, name: str) -> Tensor:
        entry = self.entries[name]
        count = 1
        for length in entry.shape:
            count *= length
        if entry.kind == FLOAT32:
            return self._numbers(entry.start, count, torch.float32).view(entry.shape)
        if entry.kind == INT8:
            return self._numbers(entry.start, count, torch.int8).view(entry.shape)
        values = self._numbers(entry.start, count, torch.int8).float()
        values /= self._numbers(entry.start + count, 1, torch.float32)
        if name == EMBEDDING or len(entry.shape) != 2:
            return values.view(entry.shape)
        return values.view(entry.shape[::-1]).T

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading the tensor."""
        return self.entries[name].shape

    def metadata(self) -> dict[str, Any]:
        """Return the entries of the file's model.yml as strings, and `vocab-size`, the rows of the embedding."""
        if CONFIG not in self.entries:
            raise CorruptFile(f"{self.path} has no {CONFIG}, which says how its tensors are put together.")
        entry = self.entries[CONFIG]
        text = self.buffer[entry.start : entry.start + entry.size].split(b"\0")[0].decode("utf-8", errors="replace")
        found: dict[str, Any] = {}
        for line in text.splitlines():
            key, colon, value = line.partition(":")
            if colon and key and not key.startswith((" ", "-", "#")):
                found[key.strip()] = value.strip().strip("\"'")
        if EMBEDDING in self.entries:
            found["vocab-size"] = self.shape(EMBEDDING)[0]
        return found

    def _numbers(self, start: int, count: int, dtype: torch.dtype) -> Tensor:
        return torch.frombuffer(self.buffer, dtype=dtype, count=count, offset=start)

    def _fail(self, what: str) -> CorruptFile:
        return CorruptFile(f"{self.path} is no sound Marian file: {what}. Get it again.")

    def _unpack(self, code: str, place: int) -> tuple[Any, ...]:
        if place + struct.calcsize(code) > len(self.buffer):
            raise self._fail(f"its header reaches past the end (at byte {place})")
        return struct.unpack_from(code, self.buffer, place)

    def _table(self) -> dict[str, Entry]:
        version, count = self._unpack("<QQ", 0)
        if version != VERSION:
            raise self._fail(f"version {version} instead of {VERSION}")
        if count > LIMIT:
            raise self._fail(f"a count of {count} tensors")
        rows = [self._unpack("<QQQQ", 16 + 32 * number) for number in range(count)]
        place, names, shapes = 16 + 32 * count, [], []
        for length, _, _, _ in rows:
            if not 0 < length <= len(self.buffer) - place:
                raise self._fail(f"a name of {length} bytes at byte {place}")
            names.append(self.buffer[place : place + length - 1].decode("utf-8", errors="replace"))
            place += length
        for _, _, dimensions, _ in rows:
            if dimensions > 8:
                raise self._fail(f"a tensor of {dimensions} dimensions")
            shapes.append(self._unpack(f"<{dimensions}i", place))
            place += 4 * dimensions
        place += 8 + self._unpack("<Q", place)[0]
        found = {}
        for name, shape, (_, kind, _, size) in zip(names, shapes, rows, strict=True):
            found[name] = self._entry(name, kind, shape, place, size)
            place += size
        return found

    def _entry(self, name: str, kind: int, shape: tuple[int, ...], start: int, size: int) -> Entry:
        if kind not in (INT8, FLOAT32, INTGEMM8):
            raise UnsupportedConfig(f"{self.path}: {name!r} has Marian's type {kind:#x}; known: 0x404, 0x4101, 0x101.")
        count = 1
        for length in shape:
            count *= max(length, -1) if length > 0 else self._refuse(name, shape)
        needed = {FLOAT32: 4 * count, INT8: count, INTGEMM8: count + 4}[kind]
        if size < needed or start + size > len(self.buffer):
            raise self._fail(f"{name!r} of shape {list(shape)} reaches past its bytes or the end")
        return Entry(kind, shape, start, size)

    def _refuse(self, name: str, shape: tuple[int, ...]) -> int:
        raise self._fail(f"{name!r} has shape {list(shape)}")


def is_marian(path: Path) -> bool:
    """True if a file begins like Marian's binaries."""
    with open(path, "rb") as file:
        begin = file.read(16)
    return len(begin) == 16 and struct.unpack("<QQ", begin)[0] == VERSION and struct.unpack("<QQ", begin)[1] <= LIMIT
