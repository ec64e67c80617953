"""torchao: the tensors of its classes in safetensors, integers in 8 bits and float8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import UnsupportedConfig
from .format import StoredFormat, expect
from .fp8 import NARROW, scaled
from .stored_codes import StoredCodes, plain

READ = ("Int8", "Float8", "Intx")  # beginnings of the names of configs


class TorchAo(StoredFormat):
    """`_weight_qdata` (outputs, inputs), int8 or float8, `_weight_scale` and `_weight_zero_point`.

    Classes Int8Tensor, IntxUnpackedToInt8Tensor and Float8Tensor. The shape of the scales says which weights share one.
    Inputs are not rounded.
    """

    method = "torchao"
    names = tuple(
        (rf"\._weight_{part}$", ".weight", part)
        for part in ("qdata", "scale", "zero_point", "act_pre_scale", "scale_and_zero", "per_tensor_scale")
    )
    unread = (r"\._weight_act_quant_(scale|zero_point)$",)

    def check(self) -> None:
        kinds: Any = self.entry("quant_type", {})
        kind = kinds.get("default", kinds) if isinstance(kinds, Mapping) else kinds
        self.kind = str(kind.get("_type", "?")) if isinstance(kind, Mapping) else str(kind)
        if not self.kind.startswith(READ):
            raise UnsupportedConfig(
                f"{self.title}: quant_type is {self.kind}; read are configs whose names begin with {', '.join(READ)}."
            )

    def describe(self) -> str:
        return f"torchao {self.kind}, 8 bits a weight"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        expect("qdata" in parts and "scale" in parts, name, "it has codes without scales, or scales without codes")
        others = set(parts) & {"act_pre_scale", "scale_and_zero", "per_tensor_scale"}
        expect(not others, name, f"its {', '.join(sorted(others))} is not computed")
        codes, scales = parts["qdata"], parts["scale"]
        wanted = NARROW if self.kind.startswith("Float8") else (torch.int8,)
        expect(codes.dtype in wanted, name, f"its codes are {codes.dtype}, and config.json says {self.kind}")
        expect(codes.ndim == 2, name, f"codes of shape {tuple(codes.shape)} are no matrix")
        rows, columns = codes.shape
        scales = scales.reshape(-1, 1) if scales.ndim < 2 else scales
        fits = scales.ndim == 2 and scales.numel() > 0 and rows % len(scales) == 0 and columns % scales.shape[1] == 0
        expect(fits, name, f"scales {tuple(scales.shape)} for codes {tuple(codes.shape)}")
        zeros = parts.get("zero_point")
        found = scaled(name, plain(codes), scales.float(), (rows // len(scales), columns // scales.shape[1]))
        if zeros is None or not zeros.any():
            return found
        expect(zeros.numel() == scales.numel(), name, f"{zeros.numel()} zeros for {scales.numel()} scales")
        wide = zeros.reshape(scales.shape).repeat_interleave(rows // len(scales), 0)
        return StoredCodes(found.codes, found.scales, wide, size=found.size)
