"""AWQ (Lin et al., 2023, arXiv:2306.00978): 4-bit integers, a scale and a zero for each group of inputs.

The layouts of AutoAWQ for its kernels GEMM and GEMV.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import UnsupportedConfig
from .format import StoredFormat, expect
from .packing import unpack
from .stored_codes import Codes, StoredCodes

ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # where the eight outputs of an integer lie in it


class Awq(StoredFormat):
    """Codes `qweight` and zeros `qzeros`, int32, with `scales`.

    GEMM: (inputs, packed outputs), (groups, packed outputs) and (groups, outputs). GEMV: (outputs, packed inputs),
    (outputs, packed groups) and (outputs, groups), the last two filled up.
    """

    method = "awq"
    names = tuple((rf"\.{part}$", ".weight", part) for part in ("qweight", "qzeros", "scales"))

    def check(self) -> None:
        self.entry("bits" if "bits" in self.entries else "w_bit", 4, 4)
        self.group = self.whole("group_size" if "group_size" in self.entries else "q_group_size", 128)
        self.version = str(self.entry("version", "gemm")).lower()
        if self.version not in ("gemm", "gemv"):
            raise UnsupportedConfig(f"{self.title}: version is {self.version!r}; read are 'gemm', 'gemv'.")
        self.entry("zero_point", True, True, False)

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        return "qweight" in parts

    def describe(self) -> str:
        return f"AWQ, 4 bits, a scale and a zero for each {self.group} inputs of a row"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        absent = {"qweight", "qzeros", "scales"} - set(parts)
        expect(not absent, name, f"it has no {', '.join(sorted(absent))}")
        words, scales, packed = (parts[each] for each in ("qweight", "scales", "qzeros"))
        if self.version == "gemv":
            return self.by_rows(name, words, scales, packed)
        inputs, outputs = words.shape[0], words.shape[1] * 8
        group = inputs if self.group == -1 else self.group
        groups = -(-inputs // group)
        expect(scales.shape == (groups, outputs), name, f"scales {tuple(scales.shape)} for groups of {group}")
        expect(packed.shape == (groups, words.shape[1]), name, f"zeros {tuple(packed.shape)} for groups of {group}")
        zeros = sort(unpack(packed, 4, 1))  # (groups, outputs)
        codes = Codes(words, inputs, lambda words: sort(unpack(words, 4, 1)).T, axis=-1, each=8)
        return StoredCodes(codes, scales.T, zeros.T, size=group, bits=4)

    def by_rows(self, name: str, words: Tensor, scales: Tensor, packed: Tensor) -> StoredCodes:
        """Return the codes of the layout for GEMV."""
        outputs, inputs = words.shape[0], words.shape[1] * 8
        group = inputs if self.group == -1 else self.group
        groups = -(-inputs // group)
        fits = scales.ndim == 2 and packed.shape == (outputs, scales.shape[1] // 8) and len(scales) == outputs
        enough = fits and groups <= scales.shape[1] < groups + 32
        expect(enough, name, f"scales {tuple(scales.shape)}, zeros {tuple(packed.shape)} for groups of {group}")
        codes = Codes(words, inputs, lambda words: unpack(words, 4, 1))
        return StoredCodes(codes, scales[:, :groups], unpack(packed, 4, 1, groups), size=group, bits=4)


def sort(codes: Tensor) -> Tensor:
    """Put the outputs of each integer in order: (rows, outputs)."""
    return codes.unflatten(1, (-1, 8))[..., torch.tensor(ORDER)].flatten(1)
