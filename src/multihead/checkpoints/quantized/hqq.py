"""HQQ (Badri and Shaji, 2023): half-quadratic quantization to 1 to 8 bits, zeros that are no whole numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .format import StoredFormat, expect
from .stored_codes import Codes, StoredCodes

PARTS = ("W_q", "scale", "zero", "shape", "nbits", "group_size", "axis", "view_as_float")
OTHERS = ("packing", "unpack_view_dtype", "quant_scale", "quant_zero", "compute_dtype", "offload_meta",
          "encoded_state_dict", "stores_quant_config", "channel_wise", "optimize", "round_zero")  # fmt: skip


class Hqq(StoredFormat):
    """Codes `W_q`, `scale` and `zero`; a layer's settings are tensors beside them.

    The weight is cut end to end into groups: rows of a matrix (axis 1), or its columns (axis 0). Codes of that matrix
    are packed so that a byte holds rows which are an equal part of all rows apart, the first in the highest bits; codes
    of 3 bits lie so in 32-bit integers.
    """

    method = "hqq"
    names = tuple((rf"\.{part}$", ".weight", part) for part in PARTS)
    unread = tuple(rf"\.{part}$" for part in OTHERS)

    def check(self) -> None:
        self.entry("quant_config", {})

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        return "W_q" in parts

    def describe(self) -> str:
        settings = self.entry("quant_config", {}).get("weight_quant_params") or {}
        said = f", {settings['nbits']} bits, groups of {settings['group_size']}" if "nbits" in settings else ""
        return f"HQQ{said}"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        absent = {"W_q", "scale", "zero", "shape", "nbits", "axis"} - set(parts)
        expect(not absent, name, f"it has no {', '.join(sorted(absent))}")
        bits, axis = int(parts["nbits"]), int(parts["axis"])
        expect(bits in (1, 2, 3, 4, 8) and axis in (0, 1), name, f"{bits} bits along axis {axis} are not read")
        said = (self.entry("quant_config", {}).get("weight_quant_params") or {}).get("nbits", bits)
        expect(said == bits, name, f"it is stored in {bits} bits, and config.json says {said}")
        shape = tuple(int(each) for each in parts["shape"])
        scales, zeros = parts["scale"].float(), parts["zero"].float()
        packed = parts["W_q"]
        if packed.is_floating_point():
            packed = packed.view(torch.int32 if bits == 3 else torch.uint8)
        groups, count = scales.numel(), math.prod(shape)
        fits = packed.ndim == 2 and zeros.shape == scales.shape and groups and count % groups == 0
        expect(bool(fits), name, f"{groups} scales and {zeros.numel()} zeros for {count} weights")
        size = count // groups
        rows = groups if axis == 1 else size  # of the matrix that was packed
        width = count // rows
        each = 10 if bits == 3 else 8 // bits
        expect(packed.shape == (-(-rows // each), width), name, f"codes {tuple(packed.shape)} for {count} weights")

        def unpack(piece: Tensor) -> Tensor:
            return parts_of(piece.view(-1, width), bits)[:rows]

        flat = packed.reshape(1, -1)  # one element along the rows: all are unpacked together
        if axis == 1 and len(shape) == 2 and shape[1] % size == 0:  # whole groups in each row
            codes = Codes(flat, shape[1], lambda piece: unpack(piece).view(shape), each=shape[0])
            return StoredCodes(codes, scales.view(shape[0], -1), zeros.view(shape[0], -1), size=size, bits=bits)
        codes = Codes(flat, width, unpack, each=rows)
        scales, zeros = (x.reshape(-1, 1) if axis == 1 else x.reshape(1, -1) for x in (scales, zeros))
        return StoredCodes(codes, scales, zeros, size=size if axis == 1 else 1, bits=bits, form=shape)


def parts_of(packed: Tensor, bits: int) -> Tensor:
    """Return the codes of each number, the highest bits first, one block of rows under the other: uint8."""
    shifts = range(27, -1, -3) if bits == 3 else range(8 - bits, -1, -bits)
    return torch.cat([packed >> shift & 2**bits - 1 for shift in shifts]).to(torch.uint8)
