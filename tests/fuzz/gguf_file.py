"""A GGUF file as parts: metadata and a table of tensors that can be changed and written again."""

from __future__ import annotations

import struct
from random import Random
from typing import Any

from multihead.checkpoints.gguf import TENSOR_TYPES

CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
COUNTS = [0, 1, 3, 32, 2**16, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]


class Parts:
    """metadata: (key, type, bytes of the value); tensors: (name, dimensions, type, offset); the data after them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 24
        self.version, count, entries = struct.unpack_from("<IQQ", data, 4)
        self.metadata = [self._entry() for _ in range(entries)]
        self.tensors = [self._tensor() for _ in range(count)]
        self.head = self.place
        self.body = data[-(-self.place // 32) * 32 :]

    def _take(self, code: str) -> Any:
        value = struct.unpack_from(f"<{code}", self.data, self.place)[0]
        self.place += struct.calcsize(f"<{code}")
        return value

    def _string(self) -> bytes:
        size = self._take("Q")
        self.place += size
        return self.data[self.place - size : self.place]

    def _skip(self, kind: int) -> None:
        if kind == 8:
            self._string()
        elif kind == 9:
            inner, count = self._take("I"), self._take("Q")
            for _ in range(count):
                self._skip(inner)
        else:
            self._take(CODES[kind])

    def _entry(self) -> list[Any]:
        key, kind = self._string(), self._take("I")
        begin = self.place
        self._skip(kind)
        return [key, kind, self.data[begin : self.place]]

    def _tensor(self) -> list[Any]:
        name, count = self._string(), self._take("I")
        return [name, [self._take("Q") for _ in range(count)], self._take("I"), self._take("Q")]

    def written(self) -> bytes:
        out = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(self.metadata))
        for key, kind, value in self.metadata:
            out += struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value
        for name, shape, kind, offset in self.tensors:
            out += struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            out += struct.pack("<IQ", kind, offset)
        return out + bytes(-len(out) % 32) + self.body


def head(data: bytes) -> int:
    """Bytes before the data."""
    return Parts(data).head


def same_names(data: bytes, changed: bytes) -> bool:
    """Whether only values of the metadata and the data differ: names, types and the table of tensors are the same."""
    one = Parts(data)
    try:
        other = Parts(changed)
    except (struct.error, KeyError, MemoryError, OverflowError):
        return False
    names = [(entry[:2], len(entry[2])) for entry in one.metadata]
    return names == [(entry[:2], len(entry[2])) for entry in other.metadata] and one.tensors == other.tensors


def value(random: Random, kind: int) -> bytes:
    """A value of a type."""
    if kind == 8:
        word = random.choice([b"", b"x", b"llama", b"gpt2", b"\xff\xfe", b"yarn", b"none", b"{{ x }}", b"a" * 3000])
        return struct.pack("<Q", len(word)) + word
    if kind == 9:
        inner, count = random.choice([0, 4, 5, 6, 7, 8, 9]), random.choice([0, 1, 2])
        return struct.pack("<IQ", inner, count) + b"".join(value(random, inner) for _ in range(count))
    if kind in (6, 12):
        return struct.pack(f"<{CODES[kind]}", random.choice([0.0, -1.0, 1e-5, 1e30, float("nan"), float("inf")]))
    size = struct.calcsize(CODES[kind])
    return (random.choice(COUNTS) % 2 ** (8 * size)).to_bytes(size, "little")


def mutated(random: Random, data: bytes) -> tuple[bytes, bool | str]:
    """One change of the parts."""
    parts = Parts(data)
    how = random.randrange(12)
    entry, row = random.choice(parts.metadata), random.choice(parts.tensors)
    key, name = entry[0].decode(), row[0].decode()
    honest: bool | str = key if how < 6 else name  # what is gone, or of another type, may have a default that is told
    if how < 4:
        old = entry[1]
        entry[1] = random.choice([0, 4, 5, 6, 7, 8, 9, 10, 12]) if how < 3 else old
        entry[2], honest = value(random, entry[1]), entry[1] == old or key
    elif how == 4:
        parts.metadata.remove(entry)
    elif how == 5:
        entry[0] = random.choice([entry[0] + b"x", b"", b"\xff", random.choice(parts.metadata)[0]])
    elif how == 6:
        parts.tensors.remove(row)
    elif how == 7:
        row[0] = random.choice([row[0] + b"x", b"", b"\xff", random.choice(parts.tensors)[0]])
    elif how == 8:
        row[1] = random.choice([row[1][::-1], [*row[1], 1], row[1][1:], [0], [2**40], [*row[1], 2**40], [], [1] * 9])
        honest = row[1] == row[1][::-1]
    elif how == 9:
        row[2], honest = random.choice([*TENSOR_TYPES, 4, 99, 2**31]), False
    elif how == 10:
        row[3], honest = random.choice([0, 32, random.choice(parts.tensors)[3], row[3] + 1, 2**40, 2**64 - 32]), False
    else:
        parts.tensors, honest = [], False
    return parts.written(), honest
