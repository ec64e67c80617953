"""Codes of a quantized checkpoint as the formats of the kernels hold them, without going through numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.quantization.coded_tensor import QuantizedMatrix
from ...kernels.quantization.nf4 import BLOCK, VALUES
from .stored_codes import StoredCodes

GROUP = 32  # columns that share a scale in int4 and int8g


def narrowest(stored: StoredCodes) -> str:
    """Name the narrowest format of the kernels that holds a weight's codes, or comes near them."""
    return "int4" if stored.bits <= 4 and group_scales(stored, "int4") is not None else "int8g"


def keep(stored: StoredCodes, rows: Tensor | None, format: str) -> QuantizedMatrix | None:
    """Return codes as a format of `kernels.quantization.registry.FORMATS` holds them; None where it cannot.

    Args:
        stored: of one matrix, whose rows are outputs. rows: numbers of those to take, (rows,); None for all.
    """
    if format == "nf4":
        return keep_nf4(stored, rows)
    if format not in ("int4", "int8g", "int8") or not is_integer(stored):
        return None
    return keep_int4(stored, rows) if format == "int4" else keep_int8(stored, rows, by_rows=format == "int8")


def keep_int4(stored: StoredCodes, rows: Tensor | None) -> QuantizedMatrix | None:
    """Return codes of up to 4 bits that begin at 0, with scales and minima of each 32."""
    found = None if stored.bits > 4 else group_scales(stored, "int4")
    if found is None:
        return None
    codes, low = take(stored, rows), lowest(stored)
    codes = (codes + low).to(torch.uint8) if low else codes.to(torch.uint8)
    return QuantizedMatrix(fill_group(codes), *(select(x, rows, len(codes)) for x in found))


def keep_int8(stored: StoredCodes, rows: Tensor | None, by_rows: bool) -> QuantizedMatrix | None:
    """Return codes of 8 bits around zero, with scales of each row or of each 32."""
    if by_rows:
        one = stored.scales.shape[-1] == 1 and stored.index is None
        scales = stored.scales.float().reshape(-1, 1) if one else None
    else:
        found = group_scales(stored, "int8g")
        scales = None if found is None else found[0]
    codes = None if scales is None else centered(stored, rows)
    if scales is None or codes is None:
        return None
    return QuantizedMatrix(codes if by_rows else fill_group(codes), select(scales, rows, len(codes)))


def fill_group(codes: Tensor) -> Tensor:
    """Fill up rows to whole groups."""
    return F.pad(codes, (0, -codes.shape[1] % GROUP))


def is_integer(stored: StoredCodes) -> bool:
    """True if the codes are whole numbers of one matrix, whose rows are those of the weight."""
    sample = stored.codes.rows(0, min(1, stored.codes.shape[-2]))
    return stored.table is None and stored.form is None and not sample.is_floating_point()


def lowest(stored: StoredCodes) -> int:
    """Return what makes signed codes begin at 0."""
    signed = stored.codes.rows(0, min(1, stored.codes.shape[-2])).dtype.is_signed
    return 2 ** (stored.bits - 1) if signed else 0


def take(stored: StoredCodes, rows: Tensor | None) -> Tensor:
    """Return rows of codes, (rows, columns)."""
    if rows is None:
        return stored.codes.whole
    first, end = int(rows.min()), int(rows.max()) + 1
    return stored.codes.rows(first, end)[rows - first]


def centered(stored: StoredCodes, rows: Tensor | None) -> Tensor | None:
    """Return codes less their zeros, (rows, columns) int8; None where 8 bits are too few."""
    codes = take(stored, rows)
    if stored.zeros is None:
        return codes.to(torch.int8) if codes.dtype is torch.int8 or int(codes.max()) < 128 else None
    if not bool((stored.zeros == stored.zeros.round()).all()):
        return None
    zeros = select(stored.zeros.reshape(-1, stored.zeros.shape[-1]).short(), rows, len(codes))
    if zeros.shape[1] > 1:
        index = torch.arange(codes.shape[1]) // stored.size if stored.index is None else stored.index
        zeros = zeros[:, index]
    found = codes.short() - zeros
    return found.to(torch.int8) if found.min() >= -128 and found.max() <= 127 else None


def group_scales(stored: StoredCodes, format: str) -> tuple[Tensor, ...] | None:
    """Return the scale, and for int4 the minimum, of each 32 columns: (rows, groups) float32; None where they fit not.

    A scale that half precision loses would lose its whole group.
    """
    columns, wide = stored.codes.columns, stored.scales.shape[-1] > 1
    if stored.index is not None or (wide and stored.size % GROUP) or not is_integer(stored):
        return None
    groups = -(-columns // GROUP)
    scales = stored.scales.float().reshape(-1, stored.scales.shape[-1])
    found = [scales]
    if format == "int4":
        low = lowest(stored)
        zeros = 0 if stored.zeros is None else stored.zeros.float().reshape(-1, stored.zeros.shape[-1])
        found.append(-(zeros + low) * scales)
    for x in found:
        half = x.half()
        if not half.isfinite().all() or (half == 0).ne(x == 0).any():
            return None
    times = stored.size // GROUP if wide else groups
    return tuple(x.repeat_interleave(times, -1)[:, :groups] for x in found)


def select(x: Tensor, rows: Tensor | None, count: int) -> Tensor:
    """Return some rows of scales, which all rows may share: (count, groups)."""
    if len(x) == 1:
        return x.expand(count, -1)
    return x if rows is None else x[rows]


def keep_nf4(stored: StoredCodes, rows: Tensor | None) -> QuantizedMatrix | None:
    """Return codes of bitsandbytes' NF4 in blocks of 64, two codes a byte."""
    if stored.table is None or stored.form is None or stored.codes.columns != BLOCK:
        return None
    if not torch.equal(stored.table, torch.tensor(VALUES)):
        return None
    columns = stored.form[-1]
    codes, scales = stored.codes.whole, stored.scales
    if rows is not None:
        if columns % BLOCK:  # a block has weights of two rows
            return None
        each = columns // BLOCK
        codes, scales = codes.view(-1, each, BLOCK)[rows].flatten(0, 1), scales.view(-1, each, 1)[rows].flatten(0, 1)
    pairs = codes.view(-1, 2)  # (bytes, 2), the first in the high half
    return QuantizedMatrix(pairs[:, 0] << 4 | pairs[:, 1], scales.float())
