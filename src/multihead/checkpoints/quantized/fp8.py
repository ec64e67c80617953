"""FP8: 8-bit floating-point numbers with a scale for the matrix, each row, or each block (DeepSeek-V3, Qwen3).

Products are computed with dequantized weights; inputs are not rounded to 8 bits. So the scales of inputs are not read.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import UnsupportedConfig
from .format import StoredFormat, expect
from .microscaling import e2m1_codes, scale_numbers
from .stored_codes import Codes, StoredCodes, plain

NARROW = (torch.float8_e4m3fn, torch.float8_e5m2)


class Fp8(StoredFormat):
    """Codes in float8; the weight is the code times its block's scale, under the name `weight_scale_inv`."""

    method = "fp8"
    names = (
        (r"_scale_inv$", "", "scales"),
        (r"\.weight_scale$", ".weight", "scales"),
        (r"\.qscale_weight$", ".weight", "scales"),
        (r"_weight_scale$", "_weight", "scales"),  # of all experts at once
        (r"\.scale$", ".weight", "scale"),  # of ordinary layers too
    )
    unread = (r"\.(activation_scale|input_scale|qscale_act|[kv]_scale)$",)

    def check(self) -> None:
        self.entry("activation_scheme", "dynamic", "dynamic", "static")
        self.entry("fmt", "e4m3", "e4m3", "e5m2", "float8_e4m3fn", "float8_e5m2")
        self.entry("scale_fmt", "float", "float", "ue8m0")
        self.narrow = self.entry("expert_dtype", "fp8", "fp8", "fp4") == "fp4"
        block = self.entries.get("weight_block_size", [128, 128])
        self.block: tuple[int, int] | None = None
        if block is not None:
            whole = (
                isinstance(block, list) and len(block) == 2 and all(type(each) is int and each > 0 for each in block)
            )
            if not whole:
                raise UnsupportedConfig(f"{self.title}: weight_block_size is {block!r}; two whole numbers are read.")
            self.block = (block[0], block[1])

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        return "scales" in parts or "codes" in parts

    def describe(self) -> str:
        each = "each matrix or row" if self.block is None else f"{self.block[0]} x {self.block[1]} weights"
        return f"FP8, 8 bits, a scale for {each}"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        expect("codes" in parts, name, "it has scales and no codes")
        codes, scales = parts["codes"], parts["scales"] if "scales" in parts else parts["scale"]
        scales = scale_numbers(scales)
        if self.narrow and codes.dtype is torch.int8:
            return scaled(name, e2m1_codes(codes.view(torch.uint8)), scales / 2, (1, 32))
        expect(codes.dtype in NARROW, name, f"it has scales, and its codes are {codes.dtype}, not float8")
        grid = scales.shape[-2:]
        one = scales.ndim < 2 or (grid[1] == 1 and grid[0] in (1, codes.shape[0]))
        return scaled(
            name, plain(codes), scales, None if "weight_block_size" not in self.entries and one else self.block
        )


def scaled(name: str, codes: Codes, scales: Tensor, block: tuple[int, int] | None) -> StoredCodes:
    """Return codes (..., rows, columns) with scales in float32.

    Args:
        block: rows and columns that share a scale; None for a scale of the matrix or of each row.
    """
    expect(len(codes.shape) >= 2, name, f"codes of shape {codes.shape} are no matrix")
    *more, rows, columns = codes.shape
    while scales.ndim < len(codes.shape):  # one number, or one for each row
        scales = scales[..., None]
    grids = [(1, 1), (rows, 1)] if block is None else [(-(-rows // block[0]), -(-columns // block[1]))]
    fits = tuple(scales.shape[-2:]) in grids and list(scales.shape[:-2]) == more
    kind = "one of the matrix or of each row" if block is None else f"blocks of {block[0]} x {block[1]}"
    expect(fits, name, f"scales {tuple(scales.shape)} for codes {codes.shape}, and config.json says {kind}")
    if block is None:
        return StoredCodes(codes, scales, size=columns)
    return StoredCodes(codes, scales.repeat_interleave(block[0], -2)[..., :rows, :], size=block[1])
