"""Codes of a quantized checkpoint in ggml's blocks, which the packed formats of the kernels take as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.quantization.block_tensor import BlockTensor
from ..gguf_blocks import BLOCK_TYPES
from .format import StoredCodes

GROUP = 32  # columns of a block


def in_blocks(stored: StoredCodes) -> BlockTensor | None:
    """Return codes of up to 4 bits in blocks of Q4_1, and of up to 8 bits in blocks of Q8_0; None where these fit not.

    Scales and the products of zeros and scales are rounded to half precision.
    """
    columns = stored.codes.shape[-1]
    grouped = stored.index is None and (stored.scales.shape[-1] == 1 or stored.size % GROUP == 0)
    moved = stored.transposed or stored.form is not None or stored.table is not None
    if stored.codes.is_floating_point() or moved or not grouped or columns % GROUP:
        return None
    times = columns // GROUP if stored.scales.shape[-1] == 1 else stored.size // GROUP

    def spread(x: Tensor) -> Tensor:
        # (..., rows, groups) to (..., rows, blocks, 1)
        wide = x.float().repeat_interleave(times, -1)[..., : columns // GROUP]
        return wide.expand(*stored.codes.shape[:-1], -1).unsqueeze(-1)

    codes, scales = stored.codes.unflatten(-1, (-1, GROUP)), spread(stored.scales)
    zeros = torch.zeros_like(scales) if stored.zeros is None else spread(stored.zeros)
    if stored.bits <= 4:
        # signed codes begin at 0, and so do their zeros
        low = 0 if codes.dtype == torch.uint8 else 8
        halves = ((codes + low).to(torch.uint8) if low else codes).unflatten(-1, (2, GROUP // 2))
        packed = halves[..., 0, :] | halves[..., 1, :] << 4
        numbers = [scales, -(zeros + low) * scales]
        name = "Q4_1"
    else:
        centered = codes.short() - zeros.short()
        if centered.min() < -128 or centered.max() > 127:
            return None
        packed, numbers, name = centered.to(torch.int8).view(torch.uint8), [scales], "Q8_0"
    rounded = [x.half() for x in numbers]
    # a scale that half precision loses would lose its whole group
    if any(not half.isfinite().all() or (half == 0).ne(x == 0).any() for half, x in zip(rounded, numbers, strict=True)):
        return None
    blocks = torch.cat([*(half.contiguous().view(torch.uint8) for half in rounded), packed], -1)  # (..., blocks, bytes)
    return BlockTensor(blocks.flatten(-2), BLOCK_TYPES[name])
