"""SentencePiece models: a small reader of their protocol buffer.

The format is sentencepiece_model.proto in github.com/google/sentencepiece.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CorruptFile, UnsupportedTokenizer, read_errors

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePiece:
    """The fields of a SentencePiece model that tokenizers need.

    Args:
        kind: UNIGRAM or BPE. charsmap: the compiled normalization, empty for none.
        unknown, begin, end, pad: ids, -1 for none. dummy_prefix: a text begins as if a space was before it.
        one_space: several spaces are one, and none ends a text. split_by_space: no piece reaches over a space.
    """

    pieces: tuple[Piece, ...]
    kind: int
    byte_fallback: bool
    unknown: int
    begin: int
    end: int
    pad: int
    charsmap: bytes
    dummy_prefix: bool
    one_space: bool
    split_by_space: bool


def read(path: Path) -> SentencePiece:
    """Read a SentencePiece model file.

    Raises:
        CorruptFile: it is no such protocol buffer, or lacks settings. UnsupportedTokenizer: it splits into words or
            characters only, or keeps spaces as they are.
    """
    with read_errors(f"{path} is no SentencePiece model: it"):
        return _parsed(path.read_bytes(), path)


def _parsed(data: bytes, path: Path) -> SentencePiece:
    try:
        parts = list(fields(data))
        pieces = tuple(piece(value) for number, value in parts if number == 1)
        trainer, normalizer = settings(parts, 2, "trainer_spec"), settings(parts, 3, "normalizer_spec")
    except (ValueError, IndexError, TypeError, struct.error) as error:
        raise CorruptFile(f"{path} is no SentencePiece model: {error}. Get it again.") from error
    if not pieces or not any(p.kind == UNKNOWN for p in pieces):
        raise CorruptFile(
            f"{path} is no SentencePiece model: it has no pieces, or none for unknown words. Get it again."
        )
    kind = int_field(trainer, 3, UNIGRAM)
    if kind not in (UNIGRAM, BPE):
        raise UnsupportedTokenizer(
            f"{path} is a SentencePiece model of type {kind}; 1 (unigram) and 2 (BPE) are built."
        )
    if trainer.get(24, 0):
        raise UnsupportedTokenizer(f"{path} marks a space after a word; models that mark it before are built.")
    if not int_field(normalizer, 5, 1):
        raise UnsupportedTokenizer(
            f"{path} keeps spaces as they are (escape_whitespaces); models that mark them are built."
        )
    return SentencePiece(
        pieces,
        kind,
        bool(int_field(trainer, 35, 0)),
        next(number for number, one in enumerate(pieces) if one.kind == UNKNOWN),
        signed(int_field(trainer, 41, 1)),
        signed(int_field(trainer, 42, 2)),
        signed(int_field(trainer, 43, -1)),
        bytes_field(normalizer, 2),
        bool(int_field(normalizer, 3, 1)),
        bool(int_field(normalizer, 4, 1)),
        bool(int_field(trainer, 22, 1)),
    )


def settings(parts: Sequence[tuple[int, Any]], number: int, name: str) -> dict[int, Any]:
    """Return the fields of a settings message. Raises ValueError where it is missing."""
    found = next((value for each, value in parts if each == number), None)
    if found is None:
        raise ValueError(f"it has no {name}")
    return dict(fields(found))


def piece(data: bytes) -> Piece:
    found = dict(fields(data))
    score = found.get(2, 0.0)
    if not isinstance(score, float) or not math.isfinite(score):
        raise ValueError(f"a piece has the score {score!r:.20}")
    return Piece(bytes_field(found, 1).decode("utf-8"), score, int_field(found, 3, NORMAL))


def int_field(found: Mapping[int, Any], number: int, usual: int) -> int:
    """Return an integer field. Raises ValueError."""
    value = found.get(number, usual)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is {value!r:.20}, no whole number")
    return value


def bytes_field(found: Mapping[int, Any], number: int) -> bytes:
    """Return a bytes field. Raises ValueError."""
    value = found.get(number, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is {value!r:.20}, no bytes")
    return value


def signed(value: int) -> int:
    """Convert a protocol buffer's int32: negative numbers are stored as large ones."""
    return value - (1 << 64) if value >= 1 << 63 else value


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value) of a message: ints, floats (32 bits) and bytes.

    Raises:
        ValueError, IndexError, struct.error: not a message.
    """
    place, end = 0, len(data)
    while place < end:
        tag, place = varint(data, place)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, place = varint(data, place)
        elif wire == 1:
            value, place = struct.unpack_from("<d", data, place)[0], place + 8
        elif wire == 2:
            size, place = varint(data, place)
            if size > end - place:
                raise ValueError(f"a field of {size} bytes reaches past the end")
            value, place = data[place : place + size], place + size
        elif wire == 5:
            value, place = struct.unpack_from("<f", data, place)[0], place + 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        yield number, value


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Decode a varint; return the number and the offset after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
