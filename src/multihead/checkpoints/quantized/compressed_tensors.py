"""compressed-tensors (vLLM's llm-compressor): packed integers, int8, and float8, chosen by module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import UnsupportedConfig, read_errors
from .format import StoredFormat, expect
from .fp8 import NARROW, scaled
from .microscaling import POWERS, e2m1_codes, scale_numbers
from .packing import unpack
from .stored_codes import Codes, StoredCodes, plain

FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision",
           "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized")  # fmt: skip


class CompressedTensors(StoredFormat):
    """Weights of the modules that a group of `config_groups` targets, but for those of `ignore`.

    Packed integers: `weight_packed` (outputs, packed inputs), int32, of codes that begin at 0; `weight_shape`. Packed
    floats (NVFP4, MXFP4): `weight_packed` in bytes; `weight_global_scale`. Others: `weight` in int8 or float8. All:
    `weight_scale`, `weight_zero_point`, `weight_g_idx`. Products are computed with dequantized weights; inputs and
    caches are not rounded, so that their scales are not read.
    """

    method = "compressed-tensors"
    names = tuple(
        (rf"\.weight_{part}$", ".weight", part)
        for part in ("packed", "scale", "zero_point", "shape", "g_idx", "global_scale")
    )
    unread = (r"\.(input|output|[kvq])_(scale|zero_point|global_scale)$",)

    def check(self) -> None:
        self.entry("format", "dense", *FORMATS)
        self.entry("quantization_status", "compressed", "compressed")
        if self.entry("sparsity_config", {}).get("format", "dense") != "dense":
            raise UnsupportedConfig(f"{self.title}: weights compressed by their zeros (sparsity_config) are not read.")
        if self.entry("transform_config", {}):
            raise UnsupportedConfig(f"{self.title}: rotated weights (transform_config) are not read.")
        groups = self.entry("config_groups", {})
        if not isinstance(groups, Mapping) or not groups:
            raise UnsupportedConfig(f"{self.title}: config_groups is {groups!r}; a table of groups is read.")
        self.groups = [self.check_group(name, group) for name, group in groups.items()]
        self.ignored = [self.pattern(each) for each in self.entry("ignore", [])]

    def check_group(self, name: str, group: Mapping[str, Any]) -> tuple[list[re.Pattern[str]], Mapping[str, Any]]:
        """Return the patterns of modules of a group, and the settings of its weights."""
        weights = group.get("weights") or {}
        bits, kind = weights.get("num_bits"), weights.get("type", "int")
        strategy, layout = weights.get("strategy"), group.get("format") or "dense"
        known = (kind == "int" and bits in range(2, 9)) or (kind == "float" and bits == 8)
        known = known and strategy in ("tensor", "channel", "group", "block", None)
        known = known or (kind == "float" and bits == 4 and strategy in ("tensor_group", "group"))
        if not known or layout not in ("dense", *FORMATS):
            raise UnsupportedConfig(
                f"{self.title}: {name} has weights of {bits} bits ({kind}, {strategy}, {layout}); read are integers of "
                "2 to 8 bits and floating-point numbers of 8, by tensor, channel, group or block, and of 4, by group."
            )
        return [self.pattern(each) for each in group.get("targets") or ["Linear"]], weights

    def pattern(self, target: str) -> re.Pattern[str]:
        """Return the pattern of the modules that an entry names: a class, a module's name, or `re:` and a pattern."""
        with read_errors(f"{self.title}: {target!r}", UnsupportedConfig, "Name modules or give patterns."):
            if target.startswith("re:"):
                return re.compile(target[3:])
            return re.compile("" if target == "Linear" else rf"{re.escape(target)}$")

    def skips(self, module: str) -> bool:
        return any(pattern.match(module) for pattern in self.ignored)

    def describe(self) -> str:
        kinds = dict.fromkeys(
            f"{each['num_bits']} bits ({each.get('type', 'int')}, by {each.get('strategy') or 'tensor'})"
            for _, each in self.groups
        )
        return f"compressed-tensors {self.entries.get('format', 'dense')}, {', '.join(kinds)}"

    def settings(self, name: str) -> Mapping[str, Any]:
        """Return the settings of a weight: those of the group that names its module most exactly."""
        module = name.removesuffix(".weight")
        found = [(p.pattern != "", settings) for patterns, settings in self.groups for p in patterns if p.match(module)]
        expect(bool(found), name, "it is quantized, and no group of config.json targets its module")
        return max(found, key=lambda each: each[0])[1]

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        settings = self.settings(name)
        expect("scale" in parts, name, "it has codes and no scales")
        floating = settings.get("type", "int") == "float"
        if floating and settings["num_bits"] == 4:
            return packed_floats(name, parts, settings)
        expect("global_scale" not in parts, name, "it has weight_global_scale, which goes with 4-bit floats")
        if "packed" in parts:
            return packed(name, parts, settings)
        expect("codes" in parts, name, "it has scales and no codes")
        codes = parts["codes"]
        wanted = NARROW if floating else (torch.int8,)
        expect(codes.dtype in wanted, name, f"its codes are {codes.dtype}, and config.json says {settings.get('type')}")
        if settings.get("strategy") == "block":
            return scaled(name, plain(codes), parts["scale"].float(), tuple(settings["block_structure"]))
        if floating:
            parts = {**parts, "scale": scale_numbers(parts["scale"])}
        return grouped(name, plain(codes), parts, settings, parts.get("zero_point"))


def packed_floats(name: str, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> StoredCodes:
    """Return E2M1 numbers, two a byte: NVFP4, whose scales are divided by one number, or MXFP4."""
    expect("packed" in parts and parts["packed"].dtype is torch.uint8, name, "it has no weight_packed of bytes")
    whole, nvidia = parts.get("global_scale"), settings["strategy"] == "tensor_group"
    fits = (whole is not None and whole.numel() == 1) == nvidia and (whole is None or nvidia)
    expect(fits, name, f"one weight_global_scale goes with the strategy tensor_group, not {settings['strategy']}")
    powers = parts["scale"].dtype in POWERS
    expect(
        powers != nvidia, name, f"its scales are {parts['scale'].dtype}, and config.json says {settings['strategy']}"
    )
    scales = scale_numbers(parts["scale"])
    scales = scales if whole is None else scales / whole.float()
    size = int(settings.get("group_size") or (16 if nvidia else 32))
    return scaled(name, e2m1_codes(parts["packed"]), scales / 2, (1, size))


def packed(name: str, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> StoredCodes:
    """Return the codes of packed integers."""
    bits, words = int(settings["num_bits"]), parts["packed"]
    expect("shape" in parts, name, "it has no weight_shape")
    rows, columns = (int(each) for each in parts["shape"])
    fits = words.shape == (rows, -(-columns * bits // 32))
    expect(fits, name, f"packed codes {tuple(words.shape)} for {rows} x {columns} weights of {bits} bits")
    # unsigned codes; those of symmetric ones have their zero in the middle
    codes, middle = Codes(words, columns, lambda words: unpack(words, bits, 1, columns)), 2 ** (bits - 1)
    zeros = parts.get("zero_point")
    if zeros is None:
        expect(settings.get("symmetric", True) is not False, name, "it has no zeros, and config.json says it has")
        zeros = torch.full_like(parts["scale"], middle, dtype=torch.int16)
    elif zeros.dtype is torch.int32:
        fits = zeros.ndim == 2 and len(zeros) == -(-rows * bits // 32)
        expect(fits, name, f"packed zeros {tuple(zeros.shape)} for {rows} rows with {bits} bits")
        zeros = unpack(zeros, bits, 0, rows)  # (rows, groups)
    else:
        zeros = zeros.short() + middle
    return grouped(name, codes, parts, settings, zeros, bits)


def grouped(
    name: str, codes: Codes, parts: Mapping[str, Tensor], settings: Mapping[str, Any], zeros: Tensor | None,
    bits: int = 8,
) -> StoredCodes:  # fmt: skip
    """Return codes (rows, columns) with scales of the tensor, of rows, or of groups of a row's columns."""
    rows, columns = codes.shape
    scales = parts["scale"]
    scales = scales.reshape(-1, 1) if scales.ndim < 2 else scales
    size = int(settings.get("group_size") or -1)
    size = columns if settings.get("strategy") != "group" or size < 1 else size
    wanted = (1 if settings.get("strategy") in ("tensor", None) else rows, -(-columns // size))
    expect(scales.shape == wanted, name, f"scales {tuple(scales.shape)}, and config.json implies {wanted}")
    if zeros is not None:
        zeros = zeros.reshape(-1, 1) if zeros.ndim < 2 else zeros
        expect(zeros.shape == scales.shape, name, f"zeros {tuple(zeros.shape)} for scales {tuple(scales.shape)}")
    index = parts.get("g_idx")
    order = settings.get("actorder") in ("group", "dynamic", True)
    expect(index is not None or not order, name, "it has no weight_g_idx, which its actorder needs")
    if index is not None:
        sound = index.shape == (columns,) and bool(((index >= 0) & (index < wanted[1])).all() or (index < 0).all())
        expect(sound, name, f"weight_g_idx {tuple(index.shape)} for {columns} columns")
        # -1 everywhere stands for neighbors
        index = None if bool((index < 0).all()) or torch.equal(index, torch.arange(columns) // size) else index.long()
    return StoredCodes(codes, scales, zeros, size=size, index=index, bits=bits)
