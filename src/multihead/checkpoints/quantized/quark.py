"""AMD's Quark: FP8, int8, 4-bit integers and MXFP4, chosen by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Any

import torch
from torch import Tensor

from ...errors import UnsupportedConfig
from .awq import sort
from .format import StoredFormat, expect
from .fp8 import scaled
from .microscaling import e2m1_codes, scale_numbers
from .packing import unpack
from .stored_codes import Codes, StoredCodes, plain

KINDS = ("fp8_e4m3", "int8", "int4", "uint4", "fp4")
SCHEMES = ("per_tensor", "per_channel", "per_group")


class Quark(StoredFormat):
    """Codes `weight`, `weight_scale` and `weight_zero_point`, as the `weight` of a layer's config says.

    FP8 and int8: a scale for the matrix or each row. fp4: bytes of two E2M1 numbers, the first in the low half, and an
    exponent for each 32 inputs. int4 and uint4: (inputs, packed outputs) in int32, the outputs of an integer as AWQ
    orders them (pack_method "reorder"), and scales (groups, outputs). Inputs and caches are not rounded.
    """

    method = "quark"
    names = tuple((rf"\.weight_{part}$", ".weight", part) for part in ("scale", "zero_point"))
    unread = (r"\.(input|output|bias|[kvq])_(scale|zero_point)$", r"\.[kv]_(scale|zero_point)$")

    def check(self) -> None:
        export = self.entry("export", {})
        self.reorder = export.get("pack_method", "reorder") == "reorder"
        if export.get("weight_format", "real_quantized") != "real_quantized":
            raise UnsupportedConfig(f"{self.title}: weight_format is {export['weight_format']!r}, no codes.")
        self.shared = self.weight_settings("global_quant_config", self.entry("global_quant_config", {}))
        layers = {**self.entry("layer_type_quant_config", {}), **self.entry("layer_quant_config", {})}
        if self.entry("layer_type_quant_config", {}):
            raise UnsupportedConfig(f"{self.title}: layer_type_quant_config is not read; name layers.")
        self.layers = [(re.compile(translate(name)), self.weight_settings(name, own)) for name, own in layers.items()]
        self.left = [
            re.compile(each[3:] if each.startswith("re:") else translate(each)) for each in self.entry("exclude", [])
        ]

    def weight_settings(self, name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a layer's config says of its weights. Raises UnsupportedConfig."""
        found = config.get("weight") or {}
        known = found.get("dtype") in KINDS and found.get("qscheme") in SCHEMES
        if not known:
            raise UnsupportedConfig(
                f"{self.title}: {name} has weights of {found!r:.120}; read are {', '.join((*KINDS, *SCHEMES))}."
            )
        return found

    def skips(self, module: str) -> bool:
        return any(pattern.match(module) for pattern in self.left)

    def describe(self) -> str:
        kinds = dict.fromkeys(each["dtype"] for each in (self.shared, *(own for _, own in self.layers)))
        return f"Quark {', '.join(kinds)}, {self.shared['qscheme']}"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        module = name.removesuffix(".weight")
        settings = next((own for pattern, own in self.layers if pattern.match(module)), self.shared)
        expect("codes" in parts and "scale" in parts, name, "it has codes without scales, or scales without codes")
        kind, codes, scheme = settings["dtype"], parts["codes"], settings["qscheme"]
        dtypes = {"fp8_e4m3": torch.float8_e4m3fn, "int8": torch.int8, "fp4": torch.uint8}
        wanted = dtypes.get(kind, torch.int32)
        expect(codes.dtype is wanted, name, f"its codes are {codes.dtype}, and config.json says {kind}")
        if kind in ("int4", "uint4"):
            return self.packed(name, codes, parts, settings)
        zeros = parts.get("zero_point")
        expect(zeros is None or not zeros.any(), name, f"zeros of {kind} are not read")
        scales = scale_numbers(parts["scale"])
        if kind == "fp4":
            expect(scheme == "per_group", name, f"fp4 {scheme} is not read")
            return scaled(name, e2m1_codes(codes), scales / 2, (1, int(settings.get("group_size") or 32)))
        expect(scheme != "per_group", name, f"{kind} {scheme} is not read")
        return scaled(name, plain(codes), scales, None)

    def packed(self, name: str, words: Tensor, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> StoredCodes:
        """Return 4-bit integers in groups of inputs."""
        expect(settings["qscheme"] == "per_group", name, f"{settings['dtype']} {settings['qscheme']} is not read")
        signed, size = settings["dtype"] == "int4", int(settings.get("group_size") or 128)

        def each(piece: Tensor) -> Tensor:
            found = unpack(piece, 4, 1)
            found = sort(found) if self.reorder else found
            return ((found ^ 8).to(torch.int8) - 8) if signed else found  # the fourth bit is the sign

        inputs, outputs = words.shape[0], words.shape[1] * 8
        scales, groups = parts["scale"], -(-inputs // size)
        expect(scales.shape == (groups, outputs), name, f"scales {tuple(scales.shape)} for groups of {size}")
        zeros = parts.get("zero_point")
        if zeros is not None:
            expect(zeros.shape == (groups, words.shape[1]), name, f"zeros {tuple(zeros.shape)} for groups of {size}")
            zeros = each(zeros).T
        codes = Codes(words, inputs, lambda piece: each(piece).T, axis=-1, each=8)
        return StoredCodes(codes, scales.T, zeros, size=size, bits=4)
