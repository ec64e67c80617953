"""GPTQ (Frantar et al., 2022, arXiv:2210.17323): integers of 2 to 8 bits, a scale and a zero for each group of inputs.

The layout of AutoGPTQ and GPTQModel. With act-order (`desc_act`), the inputs of a group are no neighbors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import UnsupportedConfig, read_errors
from .format import StoredFormat, expect
from .packing import unpack
from .stored_codes import Codes, StoredCodes

INCLUDES, EXCLUDES = "+:", "-:"  # before a pattern of `dynamic`


def bare(pattern: str) -> str:
    """Return a pattern of `dynamic` without what stands before it."""
    return pattern.removeprefix(INCLUDES).removeprefix(EXCLUDES)


class Gptq(StoredFormat):
    """Codes `qweight` (packed inputs, outputs), `scales` (groups, outputs), `qzeros` (groups, packed outputs), int32.

    `g_idx` (inputs,) is the group of each input. The older layout stores zeros less one (`checkpoint_format` "gptq"),
    the newer as they are ("gptq_v2").
    """

    method = "gptq"
    names = tuple((rf"\.{part}$", ".weight", part) for part in ("qweight", "qzeros", "scales", "g_idx"))

    def check(self) -> None:
        self.bits, self.group = self.whole("bits", None), self.whole("group_size", 128)
        if self.bits not in (2, 3, 4, 8):
            raise UnsupportedConfig(f"{self.title}: bits is {self.bits}; read are 2, 3, 4 and 8.")
        self.format = str(self.entry("checkpoint_format", "gptq", "gptq", "gptq_v2"))
        self.entry("desc_act", False, True, False)
        self.entry("sym", True, True, False)
        self.dynamic = self.entry("dynamic", {})
        if not isinstance(self.dynamic, Mapping) or not all(isinstance(v, Mapping) for v in self.dynamic.values()):
            raise UnsupportedConfig(f"{self.title}: dynamic is {self.dynamic!r}, no table of modules.")
        for pattern in self.dynamic:
            with read_errors(f"{self.title}: {pattern!r}", UnsupportedConfig, "Name modules or give patterns."):
                re.compile(bare(pattern))

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        return "qweight" in parts

    def describe(self) -> str:
        group = "row" if self.group == -1 else f"{self.group} inputs of a row"
        order = ", act-order" if self.entries.get("desc_act") else ""
        return f"GPTQ, {self.bits} bits, a scale and a zero for each {group}{order}"

    def skips(self, module: str) -> bool:
        first = next((pattern for pattern in self.dynamic if re.match(bare(pattern), module)), "")
        return first.startswith(EXCLUDES) or super().skips(module)

    def settings(self, name: str) -> tuple[int, int]:
        """Return bits and group size of a weight, which `dynamic` may change by patterns of modules."""
        module = name.removesuffix(".weight")
        own: Mapping[str, Any] = {}
        for pattern, changes in self.dynamic.items():
            if re.match(bare(pattern), module):
                own = changes
                break
        return own.get("bits", self.bits), own.get("group_size", self.group)

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        bits, group = self.settings(name)
        absent = {"qweight", "qzeros", "scales"} - set(parts)
        expect(not absent, name, f"it has no {', '.join(sorted(absent))}")
        words, scales, packed = (parts[each] for each in ("qweight", "scales", "qzeros"))
        inputs, outputs = words.shape[0] * 32 // bits, words.shape[1]
        group = inputs if group == -1 else group
        groups = -(-inputs // group)
        said = f"{bits} bits in groups of {group}"
        expect(scales.shape == (groups, outputs), name, f"scales {tuple(scales.shape)} for {said}")
        fits = packed.shape == (groups, -(-outputs * bits // 32))
        expect(fits, name, f"zeros {tuple(packed.shape)} for {outputs} outputs with {said}")
        zeros = unpack(packed, bits, 1, outputs)  # (groups, outputs)
        if self.format == "gptq":
            zeros = zeros + 1 & 2**bits - 1  # zero less one wraps around
        index = self.index(name, parts.get("g_idx"), inputs, group, groups)
        codes = Codes(words, inputs, lambda words: unpack(words, bits, 0).T, axis=-1)
        return StoredCodes(codes, scales.T, zeros.T, size=group, index=index, bits=bits)

    def index(self, name: str, stored: Tensor | None, inputs: int, group: int, groups: int) -> Tensor | None:
        """Return the group of each input; None where they are neighbors."""
        if stored is None:
            expect(not self.entries.get("desc_act"), name, "it has no g_idx, which act-order (desc_act) needs")
            return None
        expect(stored.shape == (inputs,), name, f"g_idx {tuple(stored.shape)} for {inputs} inputs")
        index = stored.long()
        expect(bool((index >= 0).all() and (index < groups).all()), name, f"g_idx names others than {groups} groups")
        return None if torch.equal(index, torch.arange(inputs) // group) else index
