"""FP8: float8 numbers (E4M3) with a scale for each block, as DeepSeek-V3 and Qwen 3 have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ....errors import InvalidInput
from ..stored_codes import StoredCodes, plain
from .base import FormatOptions, WrittenFormat

LARGEST = 448.0  # of E4M3


class Fp8Blocks(WrittenFormat):
    """Codes `weight` in float8, and `weight_scale_inv`, float32, that they are multiplied by, one for each block."""

    name, method = "fp8", "fp8"
    allowed: ClassVar = {"bits": (8,), "group": (32, 64, 128)}

    def __init__(self, options: FormatOptions) -> None:
        super().__init__(options)
        self.block = options.group or 128

    def check(self, name: str, shape: Sequence[int]) -> None:
        super().check(name, shape)
        for what, count in (("inputs", shape[1]), ("outputs", shape[0])):
            self.expect_multiple(name, what, count, self.block, "Choose another --group-size (group=). ")

    def round(self, weight: Tensor) -> StoredCodes:
        rows, columns = weight.shape
        size = self.block
        blocks = F.pad(weight, (0, -columns % size, 0, -rows % size)).unflatten(1, (-1, size)).unflatten(0, (-1, size))
        largest = blocks.abs().amax((1, 3))  # (blocks of rows, blocks of columns)
        if not largest.isfinite().all():
            raise InvalidInput("A weight is not finite. Check the checkpoint.")
        scales = (largest / LARGEST).clamp(min=torch.finfo(torch.float32).tiny).masked_fill(largest == 0, 1.0)
        scales = scales.repeat_interleave(size, 0)[:rows]  # (rows, blocks of columns)
        wide = scales.repeat_interleave(size, 1)[:, :columns]
        codes = (weight / wide).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
        return StoredCodes(plain(codes), scales, size=size)

    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        return {"weight": codes.codes.whole, "weight_scale_inv": codes.scales[:: self.block].contiguous()}

    def entries(self, skipped: Sequence[str]) -> dict[str, Any]:
        return {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "weight_block_size": [self.block, self.block],
            "modules_to_not_convert": list(skipped),
        }
