"""AQLM (Egiazarian et al., 2024, arXiv:2401.06118): each group of weights is a sum of vectors of codebooks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import UnsupportedConfig
from .format import StoredFormat, expect
from .stored_codes import Codes, StoredCodes

LEFT = "linear_weights_not_to_quantize"  # names of weights, whole


class Aqlm(StoredFormat):
    """Places of vectors `codes` (output groups, input groups, codebooks), signed integers modulo their bits.

    `codebooks` (codebooks, vectors, outputs of a group, inputs of a group), and `scales` (output groups, 1, 1, 1).
    """

    method = "aqlm"
    names = tuple((rf"\.{part}$", ".weight", part if part != "codes" else "places")
                  for part in ("codes", "codebooks", "scales"))  # fmt: skip

    def check(self) -> None:
        self.group = self.whole("out_group_size", 1), self.whole("in_group_size", 8)
        self.count, self.bits = self.whole("num_codebooks", 1), self.whole("nbits_per_codebook", 16)
        if min(*self.group, self.count) < 1 or not 1 <= self.bits <= 16:
            raise UnsupportedConfig(
                f"{self.title}: {self.count} codebooks of {self.bits} bits for groups of {self.group[0]} x "
                f"{self.group[1]} weights; codebooks of 1 to 16 bits are read."
            )
        left = self.entry(LEFT, [])
        if not isinstance(left, list) or not all(isinstance(each, str) for each in left):
            raise UnsupportedConfig(f"{self.title}: {LEFT} is {left!r}, no list of names.")
        self.left = {each.removesuffix(".weight") for each in left}

    def skips(self, module: str) -> bool:
        return module in self.left or super().skips(module)

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        return "codebooks" in parts or "places" in parts

    def describe(self) -> str:
        bits = self.count * self.bits / (self.group[0] * self.group[1])
        return f"AQLM, {self.count} codebooks of {self.bits} bits, {bits:g} bits a weight"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        absent = {"places", "codebooks", "scales"} - set(parts)
        said = ", ".join(sorted(each.replace("places", "codes") for each in absent))
        expect(not absent, name, f"it has no {said}")
        expect("codes" not in parts, name, "it is stored twice, as numbers and in codes")
        places, books = parts["places"], parts["codebooks"]
        outputs, inputs = self.group
        wanted = (self.count, 2**self.bits, outputs, inputs)
        fits = tuple(books.shape) == wanted and books.is_floating_point()
        expect(fits, name, f"codebooks {tuple(books.shape)}, and config.json implies {wanted}")
        dtype = torch.int8 if self.bits <= 8 else torch.int16
        fits = places.ndim == 3 and places.shape[2] == self.count and places.dtype is dtype
        expect(fits, name, f"codes {places.dtype} {tuple(places.shape)} for {self.count} codebooks of {self.bits} bits")
        groups, columns = places.shape[0], places.shape[1] * inputs
        scales = parts["scales"]
        expect(tuple(scales.shape) == (groups, 1, 1, 1), name, f"scales {tuple(scales.shape)} for {groups} groups")

        def unpack(piece: Tensor) -> Tensor:
            found = torch.zeros(len(piece), piece.shape[1] // self.count, outputs, inputs)
            for number, own in enumerate(piece.unflatten(1, (-1, self.count)).unbind(-1)):
                found += books[number][own.int() & 2**self.bits - 1]  # (output groups, input groups, outputs, inputs)
            return found.transpose(1, 2).reshape(-1, columns)

        codes = Codes(places.flatten(1), columns, unpack, each=outputs)
        return StoredCodes(codes, scales.view(-1, 1).repeat_interleave(outputs, 0), size=columns, bits=self.bits)
