"""Small checkpoint files of every format, written byte by byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def safetensors(path: Path, header: Any, data: bytes, *, size: int | None = None) -> Path:
    """A file with this header (an object, or raw bytes), whose first number may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + data)
    return path


def gguf_string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(
    path: Path,
    metadata: Mapping[str, tuple[int, bytes]],
    tensors: Mapping[str, tuple[tuple[int, ...], int, bytes]],
    *,
    version: int = 3,
    magic: bytes = b"GGUF",
) -> Path:
    """A GGUF file: metadata as (type, packed value), tensors as (shape rows first, type, bytes)."""
    head = magic + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, (kind, value) in metadata.items():
        head += gguf_string(key) + struct.pack("<I", kind) + value
    offset, body = 0, b""
    for name, (shape, kind, data) in tensors.items():
        head += gguf_string(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", kind, offset)
        padded = data + bytes(-len(data) % 32)
        offset, body = offset + len(padded), body + padded
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return path


def marian(path: Path, tensors: Mapping[str, tuple[tuple[int, ...], int, bytes]], *, version: int = 1) -> Path:
    """Marian's binary: tensors as (shape, type, bytes)."""
    names = [name.encode() + b"\0" for name in tensors]
    out = struct.pack("<QQ", version, len(tensors))
    for name, (shape, kind, data) in zip(names, tensors.values(), strict=True):
        out += struct.pack("<QQQQ", len(name), kind, len(shape), len(data))
    out += b"".join(names) + b"".join(struct.pack(f"<{len(s)}i", *s) for s, _, _ in tensors.values())
    padding = -(len(out) + 8) % 256
    path.write_bytes(out + struct.pack("<Q", padding) + bytes(padding) + b"".join(d for _, _, d in tensors.values()))
    return path


def intgemm(matrix: torch.Tensor, *, transposed: bool) -> tuple[bytes, torch.Tensor]:
    """A matrix as intgemm stores it, and what it stands for after rounding."""
    scale = 127.0 / matrix.abs().max()
    rounded = (matrix * scale).round().to(torch.int8)
    stored = rounded.T.contiguous() if transposed else rounded
    return stored.numpy().tobytes() + struct.pack("<f", float(scale)), rounded.float() / scale
