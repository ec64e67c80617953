"""Numbers of the OCP Microscaling formats (2023): E2M1 in 4 bits, and powers of two in 8 (E8M0)."""

from __future__ import annotations

import torch
from torch import Tensor

from .stored_codes import Codes

DOUBLES = (0, 1, 2, 3, 4, 6, 8, 12)  # twice the numbers of E2M1, so that codes are integers

POWERS = (torch.uint8, torch.float8_e8m0fnu)  # dtypes of 8-bit exponents


def e2m1(packed: Tensor) -> Tensor:
    """Return twice the numbers of bytes that hold two each, the first in the low half: (..., 2 bytes), int8."""
    values = torch.tensor([*DOUBLES, *(-each for each in DOUBLES)], dtype=torch.int8)  # (16,)
    pairs = torch.stack([values.repeat(16), values.repeat_interleave(16)], 1)  # (256, 2): the numbers of each byte
    return pairs[packed.int()].flatten(-2)


def e2m1_codes(packed: Tensor) -> Codes:
    """Return codes (..., rows, 2 bytes) of bytes (..., rows, bytes); each is twice its number."""
    return Codes(packed, 2 * packed.shape[-1], e2m1)


def powers(exponents: Tensor) -> Tensor:
    """Return the powers of two that 8-bit exponents stand for, float32."""
    return torch.ldexp(torch.ones_like(exponents, dtype=torch.float32), exponents.int() - 127)


def scale_numbers(scales: Tensor) -> Tensor:
    """Return scales in float32, which may be stored as 8-bit exponents."""
    return powers(scales.view(torch.uint8)) if scales.dtype in POWERS else scales.float()
