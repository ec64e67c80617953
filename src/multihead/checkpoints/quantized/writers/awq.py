"""AWQ (Lin et al., 2023, arXiv:2306.00978), in AutoAWQ's layout for GEMM kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..awq import ORDER
from ..packing import pack
from ..stored_codes import StoredCodes
from .base import FormatOptions, WrittenFormat
from .integers import IntegerGrid


class AwqLayout(WrittenFormat):
    """4 bits with zeros: `qweight` (inputs, packed outputs), `qzeros` and `scales` (groups, outputs), in float16."""

    name, method, calibrated, rescales = "awq", "awq", True, True
    allowed: ClassVar = {"bits": (4,), "group": (-1, 32, 64, 128), "symmetric": (False,)}
    grid: IntegerGrid

    def __init__(self, options: FormatOptions) -> None:
        super().__init__(options)
        self.grid = IntegerGrid(4, 128 if options.group is None else options.group, False, torch.float16)

    def check(self, name: str, shape: Sequence[int]) -> None:
        super().check(name, shape)
        self.expect_multiple(name, "inputs", shape[1], self.grid.group, "Choose another --group-size (group=). ")
        self.expect_multiple(name, "outputs", shape[0], 8)

    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        assert codes.zeros is not None
        return {
            "qweight": pack(interleaved(codes.codes.whole.T), 4, 1),
            "qzeros": pack(interleaved(codes.zeros.T), 4, 1),
            "scales": codes.scales.T.contiguous(),
        }

    def entries(self, skipped: Sequence[str]) -> dict[str, Any]:
        return {
            "quant_method": "awq",
            "bits": 4,
            "group_size": self.grid.group,
            "version": "gemm",
            "zero_point": True,
            "backend": "autoawq",
            "do_fuse": False,
            "modules_to_not_convert": list(skipped),
        }


def interleaved(codes: Tensor) -> Tensor:
    """Put each eight outputs (rows, outputs) in the order in which they lie in an integer."""
    places = torch.argsort(torch.tensor(ORDER))
    return codes.unflatten(1, (-1, 8))[..., places].flatten(1)
