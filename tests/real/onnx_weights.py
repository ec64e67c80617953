"""Weights out of quantized ONNX files: initialisers, made floating-point again under their modules' names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import torch

from multihead.tokenizers.spm import fields, varint

KINDS = {1: numpy.float32, 2: numpy.uint8, 3: numpy.int8, 7: numpy.int64}  # TensorProto.DataType


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Parameters by their modules' dotted names; matrices of products are turned to (out, in)."""
    graph = dict(fields(path.read_bytes()))[7]
    stored = dict(tensor(value) for number, value in fields(graph) if number == 5)
    found = {}
    for name, value in stored.items():
        stem = name.removesuffix("_quantized")
        if stem == name:
            found[name] = value.astype(numpy.float32)
        else:
            scale, zero = stored[f"{stem}_scale"], stored.get(f"{stem}_zero_point", numpy.int8(0))
            found[stem] = (value.astype(numpy.float32) - zero.astype(numpy.float32)) * scale.astype(numpy.float32)
    for node in (value for number, value in fields(graph) if number == 1):
        parts = list(fields(node))
        inputs = [value.decode() for number, value in parts if number == 1]
        name = next((value.decode() for number, value in parts if number == 3), "")
        stem = inputs[1].removesuffix("_quantized").removesuffix("_DequantizeLinear_Output") if len(inputs) > 1 else ""
        if "MatMul" in name.rpartition("/")[2] and stem in found and found[stem].ndim == 2:
            module = name.rpartition("/")[0].strip("/").replace("/", ".")
            found[f"{module}.weight"] = found[stem].T
    return {name: torch.from_numpy(numpy.ascontiguousarray(value)) for name, value in found.items()}


def tensor(data: bytes) -> tuple[str, Any]:
    """Name and values of a TensorProto."""
    parts = list(fields(data))
    one = dict(parts)
    shape = [size for number, value in parts if number == 1 for size in numbers(value)]
    kind = KINDS.get(one[2], numpy.float32)
    if 9 in one:
        values = numpy.frombuffer(one[9], kind)
    elif 4 in one:
        values = numpy.frombuffer(one[4], numpy.float32) if isinstance(one[4], bytes) else numpy.float32(one[4])
    else:
        values = numpy.array(numbers(one.get(5, one.get(7, b""))))
    return one.get(8, b"").decode(), numpy.asarray(values).reshape(shape)


def numbers(value: Any) -> list[int]:
    """A repeated whole number, packed or not."""
    if isinstance(value, int):
        return [value]
    out, place = [], 0
    while place < len(value):
        number, place = varint(value, place)
        out.append(number - 2**64 if number >= 2**63 else number)
    return out
