"""MXFP4: 4-bit floating-point numbers, a power of two for each 32 (OCP Microscaling formats, 2023; gpt-oss)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .format import StoredFormat, expect
from .microscaling import e2m1_codes, powers
from .stored_codes import StoredCodes


class Mxfp4(StoredFormat):
    """Stacked experts: blocks (experts, outputs, groups, 16) and exponents (experts, outputs, groups), uint8.

    The weight is stored as (experts, inputs, outputs) elsewhere, so the matrices are transposed.
    """

    method = "mxfp4"
    names = ((r"_blocks$", "", "blocks"), (r"_scales$", "", "scales"))

    def check(self) -> None:
        self.entry("modules_to_not_convert", [])

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        return "blocks" in parts

    def describe(self) -> str:
        return "MXFP4, 4 bits, a power of two for each 32 weights"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        expect("scales" in parts, name, "it has blocks and no scales")
        blocks, scales = parts["blocks"], parts["scales"]
        both = blocks.dtype is torch.uint8 and scales.dtype is torch.uint8
        expect(both, name, f"blocks and scales are bytes, not {blocks.dtype} and {scales.dtype}")
        fits = blocks.ndim == 4 and blocks.shape[-1] == 16 and blocks.shape[:-1] == scales.shape
        expect(fits, name, f"blocks {tuple(blocks.shape)} and scales {tuple(scales.shape)} do not fit together")
        return StoredCodes(e2m1_codes(blocks.flatten(-2)), powers(scales) / 2, size=32, bits=5, transposed=True)
