"""Codes that lie bit after bit in 32-bit integers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unpack(words: Tensor, bits: int, axis: int, count: int | None = None) -> Tensor:
    """Return the codes that lie in 32-bit integers along an axis, the lowest bits first: uint8.

    Args:
        words: int32. bits: of a code, 1 to 8; a code may go on in the next integer. count: of codes to keep.
    """
    if words.dtype is not torch.int32:
        raise TypeError(f"codes are packed in int32, not in {words.dtype}")
    words = words.movedim(axis, -1)  # (..., integers)
    found = words.shape[-1] * 32 // bits
    if 32 % bits == 0:
        shifts = torch.arange(0, 32, bits, dtype=torch.int32)
        # (..., integers, codes of one); the mask drops the sign that the shift draws in
        codes = (words.unsqueeze(-1) >> shifts & 2**bits - 1).to(torch.uint8).flatten(-2)
    else:
        first = torch.arange(found) * bits
        low = words[..., first // 32].long() & 0xFFFFFFFF
        high = words[..., ((first + bits - 1) // 32)].long() & 0xFFFFFFFF
        # where a code ends in its own integer, the high bits are masked away
        codes = ((low >> first % 32 | high << 32 - first % 32) & 2**bits - 1).to(torch.uint8)
    codes = codes if count is None else codes[..., :count]
    return codes.movedim(-1, axis)


def pack(codes: Tensor, bits: int, axis: int) -> Tensor:
    """Return codes of some bits in 32-bit integers along an axis, the lowest bits first: the inverse of `unpack`."""
    codes = codes.movedim(axis, -1)  # (..., codes)
    count = codes.shape[-1]
    if 32 % bits == 0:
        each = 32 // bits
        wide = F.pad(codes, (0, -count % each)).unflatten(-1, (-1, each)).to(torch.int32)  # (..., integers, each)
        words = torch.zeros(wide.shape[:-1], dtype=torch.int32)
        for place in range(each):
            words |= wide[..., place] << place * bits
    else:
        first = torch.arange(count) * bits
        words = torch.zeros(*codes.shape[:-1], -(-count * bits // 32) + 1, dtype=torch.int64)
        shifted = codes.long() << first % 32  # no two codes share a bit, so that sums are unions
        words.index_add_(-1, first // 32, shifted & 0xFFFFFFFF)
        words.index_add_(-1, first // 32 + 1, shifted >> 32)
        words = words[..., :-1]
        words = (words - (words >> 31 << 32)).to(torch.int32)  # the highest bit is the sign
    return words.movedim(-1, axis).contiguous()
