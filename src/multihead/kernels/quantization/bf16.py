"""bf16: weights and inputs rounded to bfloat16, sums in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import PackedWeight, QuantizationFormat
from .coded_tensor import QuantizedMatrix, to_dtype
from .panels import from_panels, to_panels


class Bf16(QuantizationFormat):
    """bfloat16 numbers, no scales."""

    name, bits, kernel = "bf16", 16.0, 0
    code_dtype = torch.bfloat16

    def quantize(self, weight: Tensor) -> QuantizedMatrix:
        return QuantizedMatrix(to_dtype(weight, torch.bfloat16))

    def encode(self, weight: Tensor) -> QuantizedMatrix:
        return self.quantize(weight)  # rounding needs no float32 copy, so it needs no slices

    def dequantize(self, matrix: QuantizedMatrix, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
        return matrix.codes[: shape[0], : shape[1]].to(dtype)  # (outputs, inputs), without what fills up panels

    def pack(self, matrix: QuantizedMatrix, shape: tuple[int, int]) -> PackedWeight:
        # two bfloat16 numbers are the four bytes of a panel step
        return PackedWeight(self, shape, to_panels(matrix.codes, 32, 2))

    def unpack(self, packed: PackedWeight) -> QuantizedMatrix:
        return QuantizedMatrix(from_panels(packed.codes, packed.shape[1], 32, 2))

    def round_inputs(self, x: Tensor) -> Tensor:
        return x.to(torch.bfloat16).float()  # the kernels multiply pairs of bfloat16 numbers and add in float32
