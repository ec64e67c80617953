"""NVIDIA's Model Optimizer: FP8, MXFP8 and NVFP4, one format for all layers or one for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Any

import torch
from torch import Tensor

from ...errors import UnsupportedConfig
from .format import StoredFormat, expect
from .fp8 import scaled
from .microscaling import e2m1_codes, scale_numbers
from .stored_codes import StoredCodes, plain

FP8, CHANNELS, MXFP8 = "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "MXFP8"
NVFP4 = ("NVFP4", "W4A16_NVFP4")
ALGORITHMS = (FP8, CHANNELS, MXFP8, *NVFP4)
MIXED = "MIXED_PRECISION"


class ModelOpt(StoredFormat):
    """Codes `weight` with `weight_scale`; those of NVFP4 are multiplied by `weight_scale_2`, one number.

    FP8: float8 and a scale for the matrix or each row. MXFP8: float8 and an exponent for each 32 inputs. NVFP4: bytes
    of two E2M1 numbers, the first in the low half, and a float8 scale for each 16 inputs. The settings stand in
    config.json, or in hf_quant_config.json under "quantization". Inputs and caches are not rounded.
    """

    method = "modelopt"
    names = (
        (r"\.weight_scale_2$", ".weight", "global"),
        (r"\.weight_scale$", ".weight", "scale"),
        (r"\.pre_quant_scale$", ".weight", "inputs"),
    )
    unread = (r"\.(input_scale|[kvq]_scale|(k|v)_proj\.(k|v)_scale)$",)

    def check(self) -> None:
        self.algorithm = str(self.entry("quant_algo", None, *ALGORITHMS, MIXED))
        self.layers = self.entry("quantized_layers", {})
        tables = isinstance(self.layers, Mapping) and all(isinstance(each, Mapping) for each in self.layers.values())
        if not tables or (self.algorithm == MIXED and not self.layers):
            raise UnsupportedConfig(f"{self.title}: quantized_layers is {self.layers!r}, no table of layers.")
        for name, own in self.layers.items():
            if own.get("quant_algo") not in ALGORITHMS:
                raise UnsupportedConfig(
                    f"{self.title}: {name} has quant_algo {own.get('quant_algo')!r}; read are {', '.join(ALGORITHMS)}."
                )
        left = self.entry("ignore", None) or self.entry("exclude_modules", [])
        if not isinstance(left, list) or not all(isinstance(each, str) for each in left):
            raise UnsupportedConfig(f"{self.title}: modules that are not quantized are {left!r}, no list of names.")
        self.left = [re.compile(translate(pattern)) for pattern in left]

    def skips(self, module: str) -> bool:
        return any(pattern.match(module) for pattern in self.left)

    def describe(self) -> str:
        kinds = dict.fromkeys(str(own["quant_algo"]) for own in self.layers.values()) or [self.algorithm]
        return f"Model Optimizer {', '.join(kinds)}"

    def settings(self, name: str) -> tuple[str, int]:
        """Return the algorithm and the group of a weight."""
        module = name.removesuffix(".weight")
        own: Mapping[str, Any] = self.layers.get(module, {})
        expect(bool(own) or self.algorithm != MIXED, name, "it is quantized, and quantized_layers does not name it")
        algorithm = str(own.get("quant_algo", self.algorithm))
        size = own.get("group_size") or self.entries.get("group_size")
        return algorithm, int(size or (32 if algorithm == MXFP8 else 16))

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        algorithm, size = self.settings(name)
        expect("inputs" not in parts, name, "its inputs are scaled (pre_quant_scale), which is not computed")
        expect("codes" in parts and "scale" in parts, name, "it has codes without scales, or scales without codes")
        codes, scales = parts["codes"], scale_numbers(parts["scale"])
        wanted = torch.uint8 if algorithm in NVFP4 else torch.float8_e4m3fn
        expect(codes.dtype is wanted, name, f"its codes are {codes.dtype}, and the config says {algorithm}")
        expect(("global" in parts) == (algorithm in NVFP4), name, f"weight_scale_2 does not go with {algorithm}")
        if algorithm in NVFP4:
            expect(parts["global"].numel() == 1, name, "weight_scale_2 is one number")
            return scaled(name, e2m1_codes(codes), scales * parts["global"].float() / 2, (1, size))
        if algorithm == MXFP8:
            return scaled(name, plain(codes), scales, (1, size))
        return scaled(name, plain(codes), scales, None)
