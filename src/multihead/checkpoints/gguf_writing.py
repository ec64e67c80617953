"""Write GGUF, version 3 (github.com/ggml-org/ggml, docs/gguf.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..files import replace_file
from .gguf import ARRAY, BY_NAME, MAGIC, STRING
from .gguf_encoding import encode
from .gguf_mixes import choose_types, facts_of

VERSION, ALIGNMENT = 3, 32


def write(
    path: Path,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    kind: str,
    importance: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a file, whole or not at all.

    Args:
        metadata: bools, whole numbers, floats, strings and lists of one of them. kind: a name in `gguf_mixes.WRITTEN`.
        importance: mean squared inputs by the names of tensors: (columns,), or (experts, columns) for stacked ones.
            Tensors that have none are quantized without.

    Raises:
        InvalidInput: importances that do not fit the tensors, or weights that cannot be quantized.
    """
    known = importance or {}
    check_importance(tensors, known)
    shapes = {name: x.shape for name, x in tensors.items()}
    kinds = choose_types(shapes, kind, facts_of(metadata), calibrated=bool(known))
    with replace_file(path) as part, part.open("wb") as file:
        file.write(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata)))
        for key, value in metadata.items():
            file.write(encode_string(key) + encode_value(value))
        place = 0
        for name, x in tensors.items():
            sizes = tuple(reversed(x.shape))  # the quickest first
            file.write(
                encode_string(name)
                + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, BY_NAME[kinds[name]].number, place)
            )
            place += pad_to_alignment(stored_size(x, kinds[name]))
        write_padding(file)
        for name, x in tensors.items():
            for block in encode_tensor(x, kinds[name], known.get(name)):
                file.write(block)
            write_padding(file)


def check_importance(tensors: Mapping[str, Tensor], importance: Mapping[str, Tensor]) -> None:
    """Raise InvalidInput for importances of tensors that are not there, of another shape, or not above zero."""
    for name, given in importance.items():
        if name not in tensors:
            raise InvalidInput(f"Importances are given for {name!r}, which the file does not have.")
        shape = tuple(tensors[name].shape)
        if tuple(given.shape) not in ((shape[-1],), (shape[0], shape[-1])) or (given.ndim == 2 and len(shape) != 3):
            raise InvalidInput(f"The importances of {name!r} are {tuple(given.shape)}, and the tensor is {shape}.")
        if not given.isfinite().all() or (given < 0).any():
            raise InvalidInput(f"The importances of {name!r} are not all finite and at least zero.")


def stored_size(x: Tensor, kind: str) -> int:
    entry = BY_NAME[kind]
    return x.numel() // entry.length * entry.size


def pad_to_alignment(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def write_padding(file: IO[bytes]) -> None:
    file.write(b"\0" * (-file.tell() % ALIGNMENT))


def encode_tensor(x: Tensor, kind: str, importance: Tensor | None = None) -> Iterator[bytes]:
    """Yield a tensor's bytes, some rows at a time."""
    if dtype := BY_NAME[kind].dtype:
        for rows in x.flatten(0, -2).split(4096) if x.ndim > 1 else (x,):
            yield rows.to(getattr(torch, dtype)).contiguous().view(torch.uint8).numpy().tobytes()
        return
    stacked = importance is not None and importance.ndim == 2
    for place, part in enumerate(x if stacked else (x.flatten(0, -2),)):
        own = importance[place] if importance is not None and stacked else importance
        for blocks in encode(part, kind, own):
            yield blocks.numpy().tobytes()


def encode_string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def encode_value(value: Any) -> bytes:
    """Return a metadata value's bytes, its type first."""
    if isinstance(value, list):
        if value and all(type(one) is int for one in value):  # signed, which llama.cpp insists on for types of tokens
            return struct.pack(f"<IIQ{len(value)}i", ARRAY, 5, len(value), *value)
        inner = [encode_value(one) for one in value]
        kind = inner[0][:4] if inner else struct.pack("<I", STRING)
        return struct.pack("<I", ARRAY) + kind + struct.pack("<Q", len(inner)) + b"".join(one[4:] for one in inner)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<Ii", 5, value) if value < 0 else struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<I", STRING) + encode_string(str(value))
