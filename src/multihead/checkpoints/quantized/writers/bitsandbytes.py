"""bitsandbytes: NF4 (Dettmers et al., 2023, arXiv:2305.14314)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ....kernels.quantization.nf4 import NF4, VALUES
from ..stored_codes import StoredCodes, plain
from .base import WrittenFormat

BLOCK = 64


class Nf4(WrittenFormat):
    """4-bit codes of a table, two a byte; blocks of 64 weights run over the rows laid end to end."""

    name, method = "nf4", "bitsandbytes"
    allowed: ClassVar = {"bits": (4,), "group": (64,)}

    def round(self, weight: Tensor) -> StoredCodes:
        matrix = NF4().quantize(weight)
        codes = torch.stack([matrix.codes >> 4, matrix.codes & 15], 1).view(-1, BLOCK)  # (blocks, 64)
        assert matrix.scales is not None
        shape = tuple(weight.shape)
        return StoredCodes(plain(codes), matrix.scales, size=BLOCK, bits=4, table=torch.tensor(VALUES), form=shape)

    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        assert codes.form is not None
        assert codes.table is not None
        flat = codes.codes.whole.flatten()[: codes.form[0] * codes.form[1]]
        pairs = F.pad(flat, (0, len(flat) % 2)).view(-1, 2)
        state = {
            "quant_type": "nf4",
            "blocksize": BLOCK,
            "dtype": str(self.options.dtype).removeprefix("torch."),
            "shape": list(codes.form),
        }
        return {
            "weight": (pairs[:, :1] << 4 | pairs[:, 1:]).contiguous(),
            "weight.absmax": codes.scales.flatten().contiguous(),
            "weight.quant_map": codes.table.clone(),
            "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
        }

    def entries(self, skipped: Sequence[str]) -> dict[str, Any]:
        return {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "load_in_8bit": False,
            "_load_in_4bit": True,
            "_load_in_8bit": False,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": False,
            "bnb_4bit_compute_dtype": str(self.options.dtype).removeprefix("torch."),
            "bnb_4bit_quant_storage": "uint8",
            "llm_int8_skip_modules": list(skipped),
            "llm_int8_threshold": 6.0,
            "llm_int8_has_fp16_weight": False,
            "llm_int8_enable_fp32_cpu_offload": False,
        }
