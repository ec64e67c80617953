"""Read GGUF, the file format of llama.cpp: metadata and tensors (github.com/ggml-org/ggml, docs/gguf.md).

This module loads no torch, so a tokenizer can be built from a file without it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import CorruptFile, ModelNotFound, read_errors
from ..gguf_names import parts

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
SIZES = {kind: struct.calcsize("<" + code) for kind, code in SCALARS.items()}
SETTLED = 10**9  # nanoseconds since a file's last change after which its header is kept
KEPT = 8  # headers
DEPTH = 4  # arrays of arrays are allowed by the format, but no file has them deep


@dataclass(frozen=True)
class TensorType:
    """A type of tensor: blocks of `length` numbers, `size` bytes each.

    Args:
        number: of the type in a file (`ggml_type`). dtype: of torch, for a type without codes; "" for others.
    """

    number: int
    name: str
    length: int
    size: int
    dtype: str = ""


TENSOR_TYPES: Mapping[int, TensorType] = {
    row.number: row
    for row in (
        TensorType(0, "F32", 1, 4, "float32"),
        TensorType(1, "F16", 1, 2, "float16"),
        TensorType(2, "Q4_0", 32, 18),
        TensorType(3, "Q4_1", 32, 20),
        TensorType(6, "Q5_0", 32, 22),
        TensorType(7, "Q5_1", 32, 24),
        TensorType(8, "Q8_0", 32, 34),
        TensorType(9, "Q8_1", 32, 36),
        TensorType(10, "Q2_K", 256, 84),
        TensorType(11, "Q3_K", 256, 110),
        TensorType(12, "Q4_K", 256, 144),
        TensorType(13, "Q5_K", 256, 176),
        TensorType(14, "Q6_K", 256, 210),
        TensorType(15, "Q8_K", 256, 292),
        TensorType(16, "IQ2_XXS", 256, 66),
        TensorType(17, "IQ2_XS", 256, 74),
        TensorType(18, "IQ3_XXS", 256, 98),
        TensorType(19, "IQ1_S", 256, 50),
        TensorType(20, "IQ4_NL", 32, 18),
        TensorType(21, "IQ3_S", 256, 110),
        TensorType(22, "IQ2_S", 256, 82),
        TensorType(23, "IQ4_XS", 256, 136),
        TensorType(24, "I8", 1, 1, "int8"),
        TensorType(25, "I16", 1, 2, "int16"),
        TensorType(26, "I32", 1, 4, "int32"),
        TensorType(27, "I64", 1, 8, "int64"),
        TensorType(28, "F64", 1, 8, "float64"),
        TensorType(29, "IQ1_M", 256, 56),
        TensorType(30, "BF16", 1, 2, "bfloat16"),
        TensorType(34, "TQ1_0", 256, 54),
        TensorType(35, "TQ2_0", 256, 66),
        TensorType(39, "MXFP4", 32, 17),
        TensorType(40, "NVFP4", 64, 36),
        TensorType(41, "Q1_0", 128, 18),
    )
}
BY_NAME: Mapping[str, TensorType] = {row.name: row for row in TENSOR_TYPES.values()}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a file: `shape` has rows first; `start` (from the file's beginning) and `size` are in bytes.

    Args:
        part: which part of a split model has the tensor.
    """

    type: TensorType
    shape: tuple[int, ...]
    start: int
    size: int
    part: int = 0


@dataclass(frozen=True)
class Container:
    """An open file, or all parts of a split model. `buffers` are private memory maps of the whole parts."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    buffers: tuple[mmap.mmap, ...]


class LazyMetadata(Mapping[str, Any]):
    """Metadata of a file, decoded on first use: vocabularies are long."""

    def __init__(self, reader: Reader, places: Mapping[str, tuple[int, int]]) -> None:
        self._reader, self._places, self._values = reader, places, dict[str, Any]()

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            kind, place = self._places[key]
            with read_errors(self._reader.path):
                self._values[key] = self._reader.at(place).value(kind)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Reader:
    """Reader of little-endian values that checks every size against the file.

    Raises:
        CorruptFile: from any method, for a value that reaches past the end or is not allowed.
    """

    def __init__(self, buffer: mmap.mmap, path: Path, place: int = 0) -> None:
        self.buffer, self.path, self.place = buffer, path, place

    def at(self, place: int) -> Reader:
        return Reader(self.buffer, self.path, place)

    def fail(self, what: str) -> CorruptFile:
        return CorruptFile(f"{self.path} is no sound GGUF file: {what} (at byte {self.place}). Get it again.")

    def take(self, size: int) -> int:
        """Move past `size` bytes. Return the offset of the first."""
        begin = self.place
        if size > len(self.buffer) - begin:
            raise self.fail(f"{size} bytes reach past the end")
        self.place = begin + size
        return begin

    def number(self, code: str) -> Any:
        return struct.unpack_from("<" + code, self.buffer, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        size = self.number("Q")
        begin = self.take(size)
        return self.buffer[begin : begin + size].decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array(depth + 1)
        if kind not in SCALARS:
            raise self.fail(f"metadata of unknown type {kind}")
        return self.number(SCALARS[kind])

    def array(self, depth: int) -> list[Any]:
        if depth > DEPTH:
            raise self.fail("arrays inside arrays inside arrays")
        kind, count = self.number("I"), self.number("Q")
        if kind in SCALARS:
            begin = self.take(count * SIZES[kind])
            return list(struct.unpack_from(f"<{count}{SCALARS[kind]}", self.buffer, begin))
        self.fits(count, 8)
        return [self.value(kind, depth) for _ in range(count)] if kind == ARRAY else self.strings(kind, count)

    def strings(self, kind: int, count: int) -> list[str]:
        """Read many strings, as of a vocabulary. Loading time depends on this loop."""
        if kind != STRING:
            raise self.fail(f"an array of unknown type {kind}")
        buffer, place, end, found = self.buffer, self.place, len(self.buffer), []
        for _ in range(count):
            begin = place + 8
            place = begin + int.from_bytes(buffer[begin - 8 : begin], "little")
            if place > end:
                raise self.fail("a string reaches past the end")
            found.append(buffer[begin:place])
        self.place = place
        return [text.decode("utf-8", errors="replace") for text in found]

    def skip(self, kind: int) -> None:
        """Move past a value without decoding strings."""
        if kind != ARRAY:
            self.value(kind)
            return
        inner, count = self.number("I"), self.number("Q")
        if inner in SCALARS:
            self.take(count * SIZES[inner])
            return
        self.fits(count, 8)
        if inner != STRING:
            for _ in range(count):
                self.value(inner, 1)
            return
        buffer, place, end = self.buffer, self.place, len(self.buffer)
        for _ in range(count):
            place += 8 + int.from_bytes(buffer[place : place + 8], "little")
            if place > end:
                raise self.fail("a string reaches past the end")
        self.place = place

    def fits(self, count: int, least: int) -> None:
        """Refuse a count of items of at least `least` bytes each for which the rest of the file is too short."""
        if count * least > len(self.buffer) - self.place:
            raise self.fail(f"a count of {count} that the file cannot hold")


def read(path: Path) -> Container:
    """Open a file and check its whole structure. Tensors and long arrays are not read yet.

    Args:
        path: of the file, or of any part of a split model: its metadata is the first part's.

    Raises:
        ModelNotFound: no such file, or a part is missing. CorruptFile: content that the format does not allow, with its
            offset, or parts that are not of one model.
    """
    names = parts(path.name)
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing and len(names) > 1:
        raise ModelNotFound(f"{path} is a part of a split model, and {', '.join(missing)} is missing beside it.")
    files = [_read_file(path.with_name(name)) for name in names]
    first, tensors = files[0], dict[str, TensorInfo]()
    for number, file in enumerate(files):
        said = (file.metadata.get("split.no", 0), file.metadata.get("split.count") or 1)
        if said != (number, len(files)):
            raise CorruptFile(
                f"{file.path} says that it is part {said[0]} of {said[1]}, counted from zero, and its name says "
                f"{number} of {len(files)}. Give it its own name."
            )
        if twice := tensors.keys() & file.tensors.keys():
            raise CorruptFile(f"{min(twice)!r} is in two parts of {path}. Get them again.")
        tensors |= {name: replace(info, part=number) for name, info in file.tensors.items()}
    total = first.metadata.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise CorruptFile(f"The parts of {path} hold {len(tensors)} tensors, and should hold {total}. Get them again.")
    return replace(first, tensors=tensors, buffers=tuple(file.buffers[0] for file in files))


def _read_file(path: Path) -> Container:
    """Open one file."""
    try:
        with open(path, "rb") as file:
            state, buffer = os.fstat(file.fileno()), mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path} does not exist.") from error
    except ValueError as error:
        raise CorruptFile(f"{path} is empty. Get it again.") from error
    with read_errors(path):
        reader = Reader(buffer, path)
        header = _known_header(reader, state)
        return Container(path, LazyMetadata(reader, header.places), header.tensors, (buffer,))


@dataclass(frozen=True)
class Header:
    """Places of a file's metadata, with their types, and its tensors."""

    places: Mapping[str, tuple[int, int]]
    tensors: Mapping[str, TensorInfo]


_headers: dict[tuple[int, ...], Header] = {}  # by the state of a file


def _known_header(reader: Reader, state: os.stat_result) -> Header:
    """Return the header of a file in this state, which is parsed once: one load opens a file several times."""
    changed = max(state.st_mtime_ns, state.st_ctime_ns)
    if time.time_ns() - changed < SETTLED:  # times are coarse: a second change may have the same one
        return _read_header(reader)
    key = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
    header = _headers.get(key) or _read_header(reader)
    if len(_headers) >= KEPT:
        _headers.clear()
    _headers[key] = header
    return header


def _read_header(reader: Reader) -> Header:
    """Read and check the header, the metadata's offsets and the tensor table."""
    if reader.buffer[:4] != MAGIC:
        raise reader.fail(f"it begins with {reader.buffer[:4]!r} instead of {MAGIC!r}")
    reader.take(4)
    version, count, entries = reader.number("I"), reader.number("Q"), reader.number("Q")
    if version not in (2, 3):
        raise reader.fail(f"version {version}; versions 2 and 3 are read")
    reader.fits(count, 24)
    reader.fits(entries, 12)
    places: dict[str, tuple[int, int]] = {}
    for _ in range(entries):
        key, kind = reader.string(), reader.number("I")
        places[key] = (kind, reader.place)
        reader.skip(kind)
    alignment = LazyMetadata(reader, places).get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise reader.fail(f"general.alignment is {alignment!r}")
    return Header(places, read_tensor_table(reader, count, alignment))


def read_tensor_table(reader: Reader, count: int, alignment: int) -> dict[str, TensorInfo]:
    """Read the tensor table. Check that every tensor is inside of the file and overlaps no other."""
    rows = []
    for _ in range(count):
        name, dimensions = reader.string(), reader.number("I")
        if dimensions > 8:
            raise reader.fail(f"{name!r} has {dimensions} dimensions")
        shape = tuple(reader.number("Q") for _ in range(dimensions))[::-1]
        rows.append((name, shape, reader.number("I"), reader.number("Q")))
    base = -(-reader.place // alignment) * alignment
    found: dict[str, TensorInfo] = {}
    for name, shape, number, offset in rows:
        if number not in TENSOR_TYPES:
            raise reader.fail(f"{name!r} has the unknown type {number}")
        type_ = TENSOR_TYPES[number]
        total = 1
        for length in shape:
            total *= length
        if (shape[-1] if shape else 1) % type_.length or offset % alignment or name in found:
            raise reader.fail(f"{name!r} has a shape, offset or name that is not allowed")
        size = total // type_.length * type_.size
        if base + offset + size > len(reader.buffer):
            raise reader.fail(f"{name!r} reaches past the end")
        found[name] = TensorInfo(type_, shape, base + offset, size)
    ordered = sorted(found.items(), key=lambda item: item[1].start)
    for (one, first), (other, second) in pairwise(ordered):
        if first.start + first.size > second.start:
            raise reader.fail(f"{one!r} and {other!r} overlap")
        if second.start - first.start - first.size >= alignment:  # llama.cpp refuses it too
            raise reader.fail(f"{one!r} has fewer bytes than there are before {other!r}")
    return found
