"""int8g: 8-bit codes with a half-precision scale for each 32 inputs of a row, as GGUF's Q8_0 has."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import PackedWeight, QuantizationFormat, check_finite, dequantize_groups
from .coded_tensor import QuantizedMatrix
from .panels import (
    GROUP,
    from_panels,
    groups_from_panels,
    groups_to_panels,
    in_groups,
    round_inputs_by_group,
    to_half,
    to_panels,
)


class Int8Groups(QuantizationFormat):
    """Codes (outputs, inputs), int8; scales (outputs, groups). Inputs are coded in groups of 32, too."""

    name, bits, kernel = "int8g", 8.5, 2

    def quantize(self, weight: Tensor) -> QuantizedMatrix:
        check_finite(weight)
        groups = in_groups(weight)  # (outputs, groups, 32)
        scales = to_half(groups.abs().amax(-1) / 127).float()  # (outputs, groups), as the kernels will read them
        # a scale that was rounded down gives codes over 127 without the clamp
        codes = (groups / scales.masked_fill(scales == 0, 1)[..., None]).round_().clamp_(-127, 127)
        return QuantizedMatrix(codes.to(torch.int8).flatten(1), scales)  # (outputs, inputs filled up to groups)

    def dequantize(self, matrix: QuantizedMatrix, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
        return dequantize_groups(matrix, shape, dtype)

    def pack(self, matrix: QuantizedMatrix, shape: tuple[int, int]) -> PackedWeight:
        assert matrix.scales is not None
        return PackedWeight(self, shape, to_panels(matrix.codes, GROUP, 4, 128), groups_to_panels(matrix.scales))

    def unpack(self, packed: PackedWeight) -> QuantizedMatrix:
        assert packed.scales is not None
        codes = from_panels(packed.codes, packed.shape[1], GROUP, 4, 128)
        return QuantizedMatrix(codes, groups_from_panels(packed.scales, packed.shape[1]))

    def round_inputs(self, x: Tensor) -> Tensor:
        return round_inputs_by_group(x)
