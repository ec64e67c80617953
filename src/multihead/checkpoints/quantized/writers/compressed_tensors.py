"""compressed-tensors: packed integers of 4 and 8 bits, and int8, as vLLM and llm-compressor have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..packing import pack
from ..stored_codes import StoredCodes
from .base import FormatOptions, WrittenFormat
from .integers import IntegerGrid


class Integers(WrittenFormat):
    """Integers with a scale for each group or row, in the layout `pack-quantized`; inputs of products stay numbers."""

    method = "compressed-tensors"
    layout: ClassVar[str] = "pack-quantized"
    bits: ClassVar[int]
    group: ClassVar[int]
    grid: IntegerGrid

    def __init__(self, options: FormatOptions) -> None:
        super().__init__(options)
        group = self.group if options.group is None else options.group
        self.grid = IntegerGrid(options.bits or self.bits, group, options.symmetric is not False, options.dtype)

    def check(self, name: str, shape: Sequence[int]) -> None:
        super().check(name, shape)
        self.expect_multiple(name, "inputs", shape[1], self.grid.group, "Choose another --group-size (group=). ")

    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        assert codes.zeros is not None
        bits = codes.bits
        found = {
            "weight_packed": pack(codes.codes.whole, bits, 1),
            "weight_scale": codes.scales.contiguous(),
            "weight_shape": torch.tensor(codes.codes.shape, dtype=torch.int64),
        }
        if not self.grid.symmetric:
            found["weight_zero_point"] = pack(codes.zeros, bits, 0)
        return found

    def entries(self, skipped: Sequence[str]) -> dict[str, Any]:
        rows = self.grid.group == -1
        weights = {
            "num_bits": self.grid.bits,
            "type": "int",
            "symmetric": self.grid.symmetric,
            "strategy": "channel" if rows else "group",
            "group_size": None if rows else self.grid.group,
            "actorder": "weight" if self.options.act_order else None,
            "dynamic": False,
            "observer": "minmax",
        }
        return compressed(self.layout, weights, self.inputs(), skipped)

    def inputs(self) -> dict[str, Any] | None:
        """Return how the inputs of products are rounded; None for not at all."""
        return None


class Int4(Integers):
    """W4A16."""

    name, bits, group = "int4", 4, 128
    allowed: ClassVar = {"bits": (2, 3, 4, 8), "group": (-1, 16, 32, 64, 128, 256), "symmetric": (True, False),
                         "act_order": (True,)}  # fmt: skip


class Int8(Integers):
    """W8A16."""

    name, bits, group = "int8", 8, -1
    allowed: ClassVar = {"bits": (8,), "group": (-1, 32, 64, 128, 256), "symmetric": (True,), "act_order": (True,)}


class W8A8(Integers):
    """W8A8: int8 in the layout `int-quantized`; readers that compute in int8 round inputs too, a scale for each token.

    The file holds weights alone: what a reader without int8 products computes is W8A16.
    """

    name, bits, group, layout = "w8a8", 8, -1, "int-quantized"
    allowed: ClassVar = {"bits": (8,), "group": (-1,), "symmetric": (True,)}

    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        return {
            "weight": (codes.codes.whole.to(torch.int16) - 128).to(torch.int8),
            "weight_scale": codes.scales.contiguous(),
        }

    def inputs(self) -> dict[str, Any]:
        return {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "group_size": None,
                "actorder": None, "dynamic": True, "observer": None}  # fmt: skip


def compressed(
    layout: str, weights: dict[str, Any], inputs: dict[str, Any] | None, skipped: Sequence[str]
) -> dict[str, Any]:
    """Return a quantization_config with one group of all linear layers but the skipped ones."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None,
             "format": layout}  # fmt: skip
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": list(skipped),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
