"""AutoRound (Cheng et al., 2023, arXiv:2309.05516): integers in the layouts of GPTQ and AWQ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...errors import UnsupportedConfig
from .awq import Awq
from .format import StoredFormat
from .gptq import Gptq
from .stored_codes import StoredCodes

PACKINGS: Mapping[
    str, tuple[type[StoredFormat], Mapping[str, Any]]
] = {  # packing_format -> class and the entries that name its layout
    "auto_round:auto_gptq": (Gptq, {"checkpoint_format": "gptq"}),
    "auto_round:gptqmodel": (Gptq, {"checkpoint_format": "gptq_v2"}),
    "auto_round": (Gptq, {"checkpoint_format": "gptq_v2"}),
    "auto_round:auto_awq": (Awq, {"version": "gemm", "zero_point": True}),
}
WHOLE = 16  # bits of a layer that is not quantized


class AutoRound(StoredFormat):
    """Tensors of GPTQ or AWQ, as `packing_format` says; `extra_config` names layers with other bits or groups."""

    method = "auto-round"
    names = Gptq.names

    def check(self) -> None:
        self.entry("data_type", "int", "int")
        packing = self.entry("packing_format", "auto_round:auto_gptq", *PACKINGS)
        extra = self.entry("extra_config", {})
        if not isinstance(extra, Mapping) or not all(isinstance(each, Mapping) for each in extra.values()):
            raise UnsupportedConfig(f"{self.title}: extra_config is {extra!r}, no table of layers.")
        for name, own in extra.items():
            if own.get("data_type", "int") != "int" and own.get("bits", WHOLE) < WHOLE:
                raise UnsupportedConfig(f"{self.title}: {name} has data_type {own['data_type']!r}; 'int' is read.")
        layout, entries = PACKINGS[packing]
        shared: dict[str, Any] = {
            key: self.entries[key] for key in ("bits", "group_size", "sym") if key in self.entries
        }
        self.whole_layers = [name for name, own in extra.items() if own.get("bits", 0) >= WHOLE]
        dynamic = {rf"{re.escape(name)}$": own for name, own in extra.items() if name not in self.whole_layers}
        if layout is Awq and any("bits" in own or "group_size" in own for own in dynamic.values()):
            raise UnsupportedConfig(f"{self.title}: layers of AWQ with bits or groups of their own are not read.")
        self.layout = layout({**shared, **entries, "dynamic": dynamic})

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        return self.layout.is_weight(parts)

    def skips(self, module: str) -> bool:
        return module in self.whole_layers or super().skips(module)

    def describe(self) -> str:
        return f"AutoRound in the layout of {self.layout.describe()}"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        return self.layout.codes(name, parts)
