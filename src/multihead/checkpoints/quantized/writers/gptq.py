"""GPTQ (Frantar et al., 2022, arXiv:2210.17323), in the layout of AutoGPTQ, which GPTQModel and vLLM read too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..packing import pack
from ..stored_codes import StoredCodes
from .base import FormatOptions, WrittenFormat
from .integers import IntegerGrid


class GptqLayout(WrittenFormat):
    """`qweight`, `qzeros`, `scales` in float16, `g_idx`; zeros are stored less one (`checkpoint_format` gptq)."""

    name, method, calibrated, regroups = "gptq", "gptq", True, True
    allowed: ClassVar = {"bits": (2, 3, 4, 8), "group": (-1, 16, 32, 64, 128, 256), "symmetric": (True, False),
                         "act_order": (True,)}  # fmt: skip

    grid: IntegerGrid

    def __init__(self, options: FormatOptions) -> None:
        super().__init__(options)
        symmetric, group = options.symmetric is not False, 128 if options.group is None else options.group
        # zero less one must not wrap around: older kernels add one to it
        self.grid = IntegerGrid(options.bits or 4, group, symmetric, torch.float16, lowest=1)

    def check(self, name: str, shape: Sequence[int]) -> None:
        super().check(name, shape)
        self.expect_multiple(name, "inputs", shape[1], self.grid.group, "Choose another --group-size (group=). ")
        for what, count in (("inputs", shape[1]), ("outputs", shape[0])):
            self.expect_multiple(name, what, count, 32)

    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        assert codes.zeros is not None
        inputs = codes.codes.shape[1]
        index = torch.arange(inputs) // codes.size if codes.index is None else codes.index
        return {
            "qweight": pack(codes.codes.whole.T, codes.bits, 0),
            "qzeros": pack(codes.zeros.T - 1, codes.bits, 1),
            "scales": codes.scales.T.contiguous(),
            "g_idx": index.to(torch.int32),
        }

    def entries(self, skipped: Sequence[str]) -> dict[str, Any]:
        return {
            "quant_method": "gptq",
            "bits": self.grid.bits,
            "group_size": self.grid.group,
            "desc_act": self.options.act_order,
            "sym": self.grid.symmetric,
            "checkpoint_format": "gptq",
            "lm_head": False,
            "pack_dtype": "int32",
            "true_sequential": False,
            "damp_percent": 0.01,
            "dynamic": {f"-:^{re.escape(name)}$": {} for name in skipped},
        }
