"""MXFP4: 4-bit floating-point numbers (E2M1) with a power of two for each 32 (OCP Microscaling formats, 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ....errors import InvalidInput, UnsupportedConfig
from ..microscaling import DOUBLES
from ..stored_codes import StoredCodes, plain
from .base import WrittenFormat
from .compressed_tensors import compressed

GROUP = 32
BOUNDS = ((0.25, False), (0.75, True), (1.25, False), (1.75, True), (2.5, False), (3.5, True), (5.0, False))
SLICE = 2**22  # weights that are rounded at once


class Mxfp4Packed(WrittenFormat):
    """Matrices as compressed-tensors has them (`mxfp4-pack-quantized`): two codes a byte, the first in the low half."""

    name, method = "mxfp4", "compressed-tensors"
    allowed: ClassVar = {"bits": (4,), "group": (32,)}

    def check(self, name: str, shape: Sequence[int]) -> None:
        super().check(name, shape)
        self.expect_multiple(name, "inputs", shape[1], GROUP)

    def round(self, weight: Tensor) -> StoredCodes:
        codes, exponents = rounded(weight)
        return StoredCodes(plain(codes), halves(exponents), size=GROUP, bits=5)

    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        return {"weight_packed": pairs(codes.codes.whole), "weight_scale": bytes_of(codes.scales)}

    def entries(self, skipped: Sequence[str]) -> dict[str, Any]:
        weights = {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "group", "group_size": GROUP,
                   "actorder": None, "dynamic": False, "observer": "minmax", "scale_dtype": "torch.uint8",
                   "zp_dtype": "torch.uint8"}  # fmt: skip
        return compressed("mxfp4-pack-quantized", weights, None, skipped)


class Mxfp4Experts(Mxfp4Packed):
    """Stacked experts alone, (experts, inputs, outputs), in gpt-oss's layout: blocks of 16 bytes and exponents."""

    method, stacks = "mxfp4", True

    def check(self, name: str, shape: Sequence[int]) -> None:
        if len(shape) != 3:
            raise UnsupportedConfig(f"{name} has {len(shape)} axes; stacked experts have three.")
        self.expect_multiple(name, "inputs", shape[1], GROUP)

    def round(self, weight: Tensor) -> StoredCodes:
        found = [rounded(each.T) for each in weight]
        codes, exponents = (torch.stack([each[i] for each in found]) for i in (0, 1))
        return StoredCodes(plain(codes), halves(exponents), size=GROUP, bits=5, transposed=True)

    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        blocks = pairs(codes.codes.stored).unflatten(-1, (-1, GROUP // 2))  # (experts, outputs, groups, 16)
        return {"_blocks": blocks.contiguous(), "_scales": bytes_of(codes.scales)}

    def stored_name(self, weight: str, part: str) -> str:
        return weight + part

    def entries(self, skipped: Sequence[str]) -> dict[str, Any]:
        return {"quant_method": "mxfp4", "modules_to_not_convert": list(skipped)}


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return twice the nearest numbers of a matrix (rows, columns), int8, and the exponents of groups, int32.

    Of the two exponents that come near a group's largest magnitude, the one with the least squared error is taken.

    Raises:
        InvalidInput: weights that are not finite.
    """
    parts = [_rounded(rows) for rows in weight.split(max(1, SLICE // max(1, weight.shape[1])))]
    codes, exponents = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    return codes, exponents


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = weight.unflatten(1, (-1, GROUP))  # (rows, groups, 32)
    largest = groups.abs().amax(-1)
    if not largest.isfinite().all():
        raise InvalidInput("A weight is not finite. Check the checkpoint.")
    # the largest number is 6, between 4 and 8
    low = (largest.clamp(min=torch.finfo(torch.float32).tiny).log2().floor() - 2).clamp(-126, 125).int()
    best: tuple[Tensor, Tensor] | None = None
    error = torch.empty(0)
    for exponents in (low, low + 1):
        unit = torch.ldexp(torch.ones_like(largest), exponents)[..., None]
        codes = nearest(groups / unit)
        other = (codes * (unit / 2) - groups).square().sum(-1, keepdim=True)
        if best is None:
            best, error = (codes, exponents), other
        else:
            better = other < error
            best = torch.where(better, codes, best[0]), torch.where(better[..., 0], exponents, best[1])
    assert best is not None
    return best[0].flatten(1), best[1]


def nearest(x: Tensor) -> Tensor:
    """Return twice the nearest numbers of E2M1, int8; halves go to the even code, what is too large to 6."""
    magnitudes, codes = x.abs(), torch.zeros_like(x, dtype=torch.int64)
    for bound, inclusive in BOUNDS:
        codes += magnitudes >= bound if inclusive else magnitudes > bound
    doubles = torch.tensor(DOUBLES, dtype=torch.int8)[codes]
    return torch.where(x < 0, -doubles, doubles)


def pairs(doubles: Tensor) -> Tensor:
    """Return the bytes of twice the numbers of E2M1: two codes each, the first in the low half."""
    codes = torch.searchsorted(torch.tensor(DOUBLES, dtype=torch.int8), doubles.abs().contiguous()).to(torch.uint8)
    codes = codes | (doubles < 0).to(torch.uint8) << 3
    return (codes[..., ::2] | codes[..., 1::2] << 4).contiguous()


def halves(exponents: Tensor) -> Tensor:
    """Return half of the powers of two, float32: what twice a number is multiplied by."""
    return torch.ldexp(torch.ones_like(exponents, dtype=torch.float32), exponents - 1)


def bytes_of(scales: Tensor) -> Tensor:
    """Return the 8-bit exponents of halves of powers of two."""
    return ((scales * 2).log2().round().int() + 127).to(torch.uint8)
