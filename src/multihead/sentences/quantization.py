"""Embeddings in one byte or one bit a number, with the numbers of sentence-transformers' `quantize_embeddings`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption, nearest

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
STEPS = 255  # between the least and the greatest number of a dimension


def quantize_embeddings(
    embeddings: Any, precision: str, ranges: Any = None, calibration_embeddings: Any = None
) -> NDArray[Any]:
    """Return embeddings (rows, width) as integers.

    int8 and uint8 divide the range of each dimension into 255 steps. binary and ubinary keep the sign of each number,
    eight in a byte: (rows, ceil(width / 8)).

    Args:
        precision: float32, int8, uint8, binary or ubinary.
        ranges: (2, width), least and greatest number of each dimension. Default: those of `calibration_embeddings`,
            else of the embeddings themselves. Embeddings that are compared with each other need the same ranges.

    Raises:
        UnsupportedOption: an unknown precision. InvalidInput: embeddings that are no finite floating-point numbers, or
            ranges that would be those of a single embedding.
    """
    if precision not in PRECISIONS:
        raise UnsupportedOption(f"precision {precision!r} is no form of embeddings. {nearest(precision, PRECISIONS)}")
    rows = check_rows(embeddings)
    if precision == "float32":
        return rows.astype(np.float32)
    if precision.endswith("binary"):
        bits = np.packbits(rows > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)
    if ranges is None:
        known = rows if calibration_embeddings is None else check_rows(calibration_embeddings)
        ranges = quantization_ranges(known)
    starts, steps = starts_and_steps(ranges, rows.shape[-1])
    codes = np.clip(np.floor((rows - starts) / steps), 0, STEPS)
    return codes.astype(np.uint8) if precision == "uint8" else (codes - 128).astype(np.int8)


def quantization_ranges(embeddings: Any) -> NDArray[np.float32]:
    """Return the least and greatest number of each dimension: (2, width). Raises InvalidInput for one embedding."""
    rows = check_rows(embeddings)
    if rows.ndim != 2 or len(rows) < 2:
        raise InvalidInput("The ranges of one-byte embeddings need two embeddings or more; pass ranges= for a single.")
    return np.vstack((rows.min(axis=0), rows.max(axis=0))).astype(np.float32)


def starts_and_steps(ranges: Any, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the least number and the size of a step of each dimension. Raises InvalidInput for other ranges."""
    known = np.asarray(ranges, dtype=np.float32)
    if known.shape != (2, width) or not np.isfinite(known).all() or (known[1] < known[0]).any():
        raise InvalidInput(f"ranges hold the least and the greatest number of {width} dimensions: (2, {width}).")
    steps = (known[1] - known[0]) / STEPS
    return known[0], np.where(steps == 0, np.float32(1), steps)


def dequantize_embeddings(codes: NDArray[Any], precision: str, ranges: Any = None, width: int = 0) -> NDArray[Any]:
    """Return float32 embeddings (rows, width) for quantized ones: the middle of each code's step.

    Signs become -1 and 1 over the square root of the width, so that a dot product with a vector of length 1 is a
    cosine.

    Args:
        ranges: those of int8 and uint8. width: number of signs of binary and ubinary; 0 for all bits.
    """
    if precision == "float32":
        return codes.astype(np.float32, copy=False)
    if precision.endswith("binary"):
        packed: NDArray[np.uint8] = codes.view(np.uint8) ^ np.uint8(0x80 if precision == "binary" else 0)
        signs = np.unpackbits(packed, axis=-1, count=width or None).astype(np.float32)
        return (signs * 2 - 1) / np.float32(np.sqrt(signs.shape[-1]))
    starts, steps = starts_and_steps(ranges, codes.shape[-1])
    middles = codes.astype(np.float32) + np.float32(128.5 if precision == "int8" else 0.5)
    flat = np.equal(*np.asarray(ranges))  # dimensions of one number only
    return np.where(flat, starts, middles * steps + starts)


def check_rows(embeddings: Any) -> NDArray[Any]:
    """Return embeddings as an array (rows, width) or (width,). Raises InvalidInput for anything but finite floats."""
    if isinstance(embeddings, Tensor):
        embeddings = embeddings.detach().float().cpu()
    if isinstance(embeddings, (list, tuple)):
        embeddings = [each.detach().float().cpu().numpy() if isinstance(each, Tensor) else each for each in embeddings]
    try:
        rows = np.asarray(embeddings)
    except ValueError as error:
        raise InvalidInput(f"Embeddings are rows of one width: {error}.") from error
    if rows.dtype.kind != "f" or rows.ndim not in (1, 2):
        raise InvalidInput(f"Embeddings are floating-point numbers (rows, width), not {rows.dtype} {rows.shape}.")
    wrong = np.flatnonzero(~np.isfinite(np.atleast_2d(rows)).all(axis=-1))
    if len(wrong):
        raise InvalidInput(f"Embedding {wrong[0]} holds numbers that are not finite.")
    return rows
