"""Ternary weights of BitNet b1.58 (Ma et al., 2024, arXiv:2402.17764) in models of other families."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .format import StoredFormat, expect
from .stored_codes import Codes, StoredCodes


class BitNet(StoredFormat):
    """Bytes (a quarter of the outputs, inputs) of four numbers, whose rows are a quarter of all apart; a scale.

    Each is stored plus 1, in two bits. `weight_scale` divides (linear_class "bitlinear") or multiplies
    ("autobitlinear"). Inputs are not rounded to 8 bits.
    """

    method = "bitnet"
    names = ((r"\.weight_scale$", ".weight", "scale"),)

    def check(self) -> None:
        self.divides = self.entry("linear_class", "bitlinear", "bitlinear", "autobitlinear") == "bitlinear"
        self.entry("quantization_mode", "offline", "offline")
        self.entry("use_rms_norm", False, False)

    def describe(self) -> str:
        return "BitNet, -1, 0 and 1 in 2 bits, a scale for each matrix"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        expect("codes" in parts, name, "it has a scale and no codes")
        packed, scale = parts["codes"], parts["scale"]
        fits = packed.dtype is torch.uint8 and packed.ndim == 2
        expect(fits, name, f"its codes are {packed.dtype} {tuple(packed.shape)}, no matrix of bytes")
        expect(scale.numel() == 1, name, f"{scale.numel()} scales for a matrix that has one")
        rows, columns = packed.shape
        flat = packed.reshape(1, -1)  # one element along the rows: all are unpacked together
        codes = Codes(flat, columns, lambda piece: quarters(piece.view(rows, columns)), each=4 * rows)
        scale = scale.float().view(1, 1)
        ones = torch.ones(1, 1)
        return StoredCodes(codes, 1 / scale if self.divides else scale, ones, size=columns, bits=2)


def quarters(packed: Tensor) -> Tensor:
    """Return the four numbers of 2 bits of each byte, the lowest first, one block of rows under the other."""
    return torch.cat([packed >> shift & 3 for shift in (0, 2, 4, 6)])
