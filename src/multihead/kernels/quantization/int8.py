"""int8: 8-bit codes with a scale for each row, the largest magnitude at 127 (absmax)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import PackedWeight, QuantizationFormat, check_finite
from .coded_tensor import QuantizedMatrix
from .panels import PANEL, from_panels, to_panels


class Int8(QuantizationFormat):
    """Codes (outputs, inputs), int8; scales (outputs, 1).

    The kernels multiply integers: they code each row of inputs over its whole range, with a scale and a zero (W8A8).
    Training (`load_in_8bit`) dequantizes.
    """

    name, bits, kernel = "int8", 8.0, 1

    def quantize(self, weight: Tensor) -> QuantizedMatrix:
        check_finite(weight)
        scales = weight.abs().amax(1, keepdim=True) / 127  # (outputs, 1)
        codes = (weight / scales.masked_fill(scales == 0, 1)).round_()  # a row of zeros has the scale 0, and codes 0
        return QuantizedMatrix(codes.to(torch.int8), scales)

    def dequantize(self, matrix: QuantizedMatrix, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
        codes, scales, _ = matrix
        assert scales is not None
        return (codes[: shape[0], : shape[1]] * scales[: shape[0]]).to(dtype)

    def pack(self, matrix: QuantizedMatrix, shape: tuple[int, int]) -> PackedWeight:
        """Scales, and sums of each row's codes in place of minima: both float32 (panel width,).

        A zero of the inputs adds itself times the sum of codes to every output; the kernels subtract that.
        """
        assert matrix.scales is not None
        # (outputs,); below 2**24 for up to 132,000 inputs, so exact in float32
        sums = matrix.codes.sum(1, dtype=torch.float32)
        # (panel width,) each; the kernels read whole panels
        rows = [F.pad(x, (0, -len(x) % PANEL)) for x in (matrix.scales[:, 0], sums)]
        return PackedWeight(self, shape, to_panels(matrix.codes, 64, 4, 128), *rows)

    def unpack(self, packed: PackedWeight) -> QuantizedMatrix:
        assert packed.scales is not None
        return QuantizedMatrix(from_panels(packed.codes, packed.shape[1], 64, 4, 128), packed.scales[:, None])

    def round_inputs(self, x: Tensor) -> Tensor:
        low, high = x.aminmax(dim=1, keepdim=True)  # (rows, 1) each
        scales = (high - low) / 255  # (rows, 1)
        return ((x - low) / scales.masked_fill(scales == 0, 1)).round() * scales + low
