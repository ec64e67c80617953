"""nf4: the 4-bit NormalFloat code of QLoRA (Dettmers et al., 2023, arXiv:2305.14314)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import QuantizationFormat, check_finite
from .coded_tensor import QuantizedMatrix

BLOCK = 64  # weights that share a scale
SLICE = 2**14  # blocks that are coded or decoded at once
VALUES = (  # quantiles of the standard normal distribution with an exact zero, over the largest (appendix E)
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class NF4(QuantizationFormat):
    """Codes (bytes,), two codes a byte, the first in the high half; scales (blocks, 1): the largest magnitude of each.

    Blocks run over the rows laid end to end. The last block is filled up with zeros.
    """

    name, bits, by_rows = "nf4", 4.5, False

    def quantize(self, weight: Tensor) -> QuantizedMatrix:
        # slices of whole blocks, so that only the last one is filled up
        parts = [_quantize_blocks(part) for part in weight.detach().flatten().split(SLICE * BLOCK)]
        return QuantizedMatrix(torch.cat([codes for codes, _ in parts]), torch.cat([scales for _, scales in parts]))

    def dequantize(self, matrix: QuantizedMatrix, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
        codes, scales, _ = matrix
        assert scales is not None
        out = torch.empty(codes.shape[0] * 2, dtype=dtype, device=codes.device)  # (weights filled up to blocks,)
        values = torch.tensor(VALUES, device=codes.device)  # (16,)
        pairs = torch.stack([values.repeat_interleave(16), values.repeat(16)], 1)  # (256, 2): the values of each byte
        blocks = out.view(-1, BLOCK)  # (blocks, 64), in the memory of `out`
        for first in range(0, len(blocks), SLICE):
            part = slice(first, first + SLICE)
            # (bytes, 2): one lookup gives both codes of a byte
            found = F.embedding(codes[first * BLOCK // 2 : (first + SLICE) * BLOCK // 2].int(), pairs)
            blocks[part] = (found.view(-1, BLOCK) * scales[part]).to(dtype)  # (blocks, 64) times (blocks, 1)
        return out[: shape[0] * shape[1]].view(shape)  # (outputs, inputs)


def _quantize_blocks(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes (bytes,) and scales (blocks, 1) of weights laid end to end."""
    blocks = F.pad(flat.float(), (0, -len(flat) % BLOCK)).view(-1, BLOCK)  # (blocks, 64)
    scales = blocks.abs().amax(1, keepdim=True)  # (blocks, 1)
    check_finite(scales)
    scales.masked_fill_(scales == 0, 1.0)  # a block of zeros: its codes are those of 0, whatever the scale
    blocks = blocks / scales
    nearest = torch.zeros_like(blocks, dtype=torch.uint8)  # (blocks, 64)
    for low, high in pairwise(VALUES):  # counting is several times faster here than torch's binary search
        nearest += blocks > (low + high) / 2  # the code is the number of midpoints below the weight
    pairs = nearest.view(-1, 2)  # (bytes, 2)
    return (pairs[:, 0] << 4) | pairs[:, 1], scales
