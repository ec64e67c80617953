"""int4: 4-bit codes with a half-precision scale and minimum for each 32 inputs of a row, as GGUF's Q4_1 has."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import PackedWeight, QuantizationFormat, check_finite, dequantize_groups
from .coded_tensor import QuantizedMatrix
from .panels import (
    GROUP,
    PANEL,
    from_panels,
    groups_from_panels,
    groups_to_panels,
    in_groups,
    round_inputs_by_group,
    to_half,
    to_panels,
)


class Int4(QuantizationFormat):
    """Codes (outputs, inputs), 0 to 15; scales and minima (outputs, groups). Inputs are coded in 8 bits by group.

    A group is coded over its whole range, or on the grid of GGUF's Q4_0 where its squared error is smaller: weights on
    that grid keep their values. Clipping the range for a smaller squared error was tried. It makes models worse,
    because large weights matter.
    """

    name, bits, kernel = "int4", 5.0, 3

    def quantize(self, weight: Tensor) -> QuantizedMatrix:
        check_finite(weight)
        groups = in_groups(weight)  # (outputs, groups, 32)
        low, high = groups.aminmax(dim=-1)  # (outputs, groups) each
        largest = torch.where(high > -low, high, low)  # Q4_0: the largest magnitude at code 0, zero at 8
        # codes (outputs, groups, 32); scales, minima and errors (outputs, groups)
        first, second = _on_grid(groups, low, (high - low) / 15), _on_grid(groups, largest, largest / -8)
        better = second[3] < first[3]  # (outputs, groups)
        codes = torch.where(better[..., None], second[0], first[0])  # (outputs, groups, 32)
        scales, minima = (torch.where(better, second[i], first[i]) for i in (1, 2))
        return QuantizedMatrix(codes.flatten(1), scales, minima)  # codes (outputs, inputs filled up to groups)

    def dequantize(self, matrix: QuantizedMatrix, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
        return dequantize_groups(matrix, shape, dtype)

    def pack(self, matrix: QuantizedMatrix, shape: tuple[int, int]) -> PackedWeight:
        """Two codes a byte: of each 32 inputs the first 16 in the low halves."""
        _, scales, minima = matrix
        assert scales is not None
        assert minima is not None
        flat = to_panels(matrix.codes, GROUP, 4).view(-1, 2, GROUP // 8, PANEL, 4)  # (panels and groups, halves, ...)
        # one load of the kernels gives both halves
        codes = (flat[:, 0] | flat[:, 1] << 4).flatten()
        return PackedWeight(self, shape, codes, groups_to_panels(scales), groups_to_panels(minima))

    def unpack(self, packed: PackedWeight) -> QuantizedMatrix:
        assert packed.scales is not None
        assert packed.minima is not None
        both = packed.codes.view(-1, 1, GROUP // 8, PANEL, 4)  # (panels and groups, 1, steps, 64, 4)
        codes = from_panels(torch.cat([both & 15, both >> 4], 1), packed.shape[1], GROUP, 4)
        groups = [groups_from_panels(x, packed.shape[1]) for x in (packed.scales, packed.minima)]
        return QuantizedMatrix(codes, *groups)

    def round_inputs(self, x: Tensor) -> Tensor:
        return round_inputs_by_group(x)


def _on_grid(groups: Tensor, minimum: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return codes, scales and minima rounded to half precision, and the squared error of each group."""
    # rounded before the codes are chosen, so that codes make up for the rounding
    minimum, scale = to_half(minimum).float(), to_half(scale).float()
    by = scale.masked_fill(scale == 0, 1)[..., None]  # (outputs, groups, 1); a group of equal weights has the scale 0
    codes = ((groups - minimum[..., None]) / by).round_().clamp_(0, 15)
    wrong = (codes * scale[..., None] + minimum[..., None] - groups).square_().sum(-1)  # (outputs, groups)
    return codes.to(torch.uint8), scale, minimum, wrong
