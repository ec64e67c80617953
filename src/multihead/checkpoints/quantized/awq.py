"""AWQ (Lin et al., 2023, arXiv:2306.00978): 4-bit integers, a scale and a zero for each group of inputs.

The layouts of AutoAWQ for GEMM kernels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .format import StoredFormat, expect
from .packing import unpack
from .stored_codes import Codes, StoredCodes

ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # where the eight outputs of an integer lie in it


class Awq(StoredFormat):
    """Codes `qweight` (inputs, packed outputs), int32; zeros and scales.

    `qzeros` (groups, packed outputs), int32; `scales` (groups, outputs).
    """

    method = "awq"
    names = tuple((rf"\.{part}$", ".weight", part) for part in ("qweight", "qzeros", "scales"))

    def check(self) -> None:
        self.entry("bits" if "bits" in self.entries else "w_bit", 4, 4)
        self.group = self.whole("group_size" if "group_size" in self.entries else "q_group_size", 128)
        version = self.entries.get("version")
        self.entry("version", "gemm", version if str(version).lower() == "gemm" else "gemm")
        self.entry("zero_point", True, True, False)

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        return "qweight" in parts

    def describe(self) -> str:
        return f"AWQ, 4 bits, a scale and a zero for each {self.group} inputs of a row"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        absent = {"qweight", "qzeros", "scales"} - set(parts)
        expect(not absent, name, f"it has no {', '.join(sorted(absent))}")
        words, scales, packed = (parts[each] for each in ("qweight", "scales", "qzeros"))
        inputs, outputs = words.shape[0], words.shape[1] * 8
        group = inputs if self.group == -1 else self.group
        groups = -(-inputs // group)
        expect(scales.shape == (groups, outputs), name, f"scales {tuple(scales.shape)} for groups of {group}")
        expect(packed.shape == (groups, words.shape[1]), name, f"zeros {tuple(packed.shape)} for groups of {group}")
        zeros = sort(unpack(packed, 4, 1))  # (groups, outputs)
        codes = Codes(words, inputs, lambda words: sort(unpack(words, 4, 1)).T, axis=-1, each=8)
        return StoredCodes(codes, scales.T, zeros.T, size=group, bits=4)


def sort(codes: Tensor) -> Tensor:
    """Put the outputs of each integer in order: (rows, outputs)."""
    return codes.unflatten(1, (-1, 8))[..., torch.tensor(ORDER)].flatten(1)
