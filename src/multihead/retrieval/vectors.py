"""Stored vectors and exact search over them, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CorruptFile, InvalidInput, UnsupportedOption, nearest
from ..sentences.quantization import dequantize_embeddings, quantize_embeddings
from ..sentences.similarity import similarity

BLOCK_BYTES = 1 << 26  # of float32 vectors, or of scores, that are computed at once
QUERIES = 1024  # whose scores are computed at once
PRECISIONS = ("float32", "int8", "binary")
CODE_TYPES = {"float32": np.float32, "int8": np.int8, "binary": np.int8}
SIGNED = ("cosine", "dot")  # similarities that quantized vectors keep

Vectors = NDArray[Any]


@dataclass(frozen=True)
class StoredVectors:
    """Vectors of an index.

    Args:
        codes: float32 or int8 (rows, width), or signs in int8 (rows, ceil(width / 8)); in memory or in a mapped file.
        width: dimensions of a vector. precision: float32, int8 or binary, as `quantize_embeddings` makes them.
        measure: cosine, dot, euclidean or manhattan. Vectors compared by cosine have length 1.
        ranges: (2, width) of int8.
    """

    codes: Vectors
    width: int
    precision: str = "float32"
    measure: str = "cosine"
    ranges: Vectors | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(cls, vectors: Vectors, precision: str, measure: str, out: Vectors | None = None) -> StoredVectors:
        """Quantize float32 vectors (rows, width).

        Args:
            out: where the codes are written, such as a mapped file.
        """
        check_precision(precision, measure)
        if precision == "float32":
            return cls(vectors, vectors.shape[1], precision, measure)
        ranges = None
        if precision == "int8":
            parts = [(block.min(axis=0), block.max(axis=0)) for block in blocks(vectors, vectors.shape[1])]
            ranges = np.stack([np.min([low for low, _ in parts], axis=0), np.max([high for _, high in parts], axis=0)])
        shape = (len(vectors), code_width(vectors.shape[1], precision))
        codes = np.empty(shape, np.int8) if out is None else out
        begin = 0
        for block in blocks(vectors, vectors.shape[1]):
            codes[begin : begin + len(block)] = quantize_embeddings(block, precision, ranges)
            begin += len(block)
        return cls(codes, vectors.shape[1], precision, measure, ranges)

    def with_rows(self, vectors: Vectors) -> StoredVectors:
        """Return these vectors and others (rows, width), which are quantized with the ranges of these."""
        codes = quantize_embeddings(vectors, self.precision, self.ranges)
        return StoredVectors(np.concatenate([self.codes, codes]), self.width, self.precision, self.measure, self.ranges)

    def decoded(self, rows: Any) -> Vectors:
        """Return some rows as float32 vectors (rows, width)."""
        return dequantize_embeddings(np.asarray(self.codes[rows]), self.precision, self.ranges, self.width)

    def search(self, queries: Vectors, top_k: int) -> tuple[Vectors, Vectors]:
        """Return the scores and numbers of the rows most similar to each query, best first: (queries, top_k) each.

        Every row is compared, quantized ones with the whole query. Of rows with one score the first come first.

        Args:
            queries: float32 (queries, width).

        Raises:
            CorruptFile: a stored vector that is not finite.
        """
        top_k = min(top_k, len(self))
        measure = similarity("dot" if self.measure == "cosine" else self.measure).all_pairs
        scores, rows = np.zeros((len(queries), top_k), np.float32), np.zeros((len(queries), top_k), np.int64)
        for first in range(0, len(queries), QUERIES):
            own = torch.from_numpy(np.ascontiguousarray(queries[first : first + QUERIES]))
            best, numbers = self._search(own, top_k, measure)
            scores[first : first + len(own)], rows[first : first + len(own)] = best.numpy(), numbers.numpy()
        if not np.isfinite(scores).all():
            raise CorruptFile("A stored vector holds numbers that are not finite. Build the index again.")
        return scores, rows

    def _search(self, queries: Tensor, top_k: int, measure: Any) -> tuple[Tensor, Tensor]:
        best = torch.empty(len(queries), 0)
        numbers = torch.empty(len(queries), 0, dtype=torch.long)
        begin = 0
        for block in blocks(self, max(self.width, len(queries))):
            found, places = top_rows(measure(queries, torch.from_numpy(block)), top_k)
            best = torch.cat([best, found], 1)
            numbers = torch.cat([numbers, places + begin], 1)
            best, order = top_rows(best, top_k)
            numbers = numbers.gather(1, order)
            begin += len(block)
        return best, numbers

    def score(self, queries: Vectors, rows: Vectors) -> Vectors:
        """Return the similarity (queries, candidates) of each query to its own rows (queries, candidates)."""
        measure = similarity("dot" if self.measure == "cosine" else self.measure).all_pairs
        found = np.zeros(rows.shape, np.float32)
        for place, (query, own) in enumerate(zip(queries, rows, strict=True)):
            found[place] = measure(torch.from_numpy(query)[None], torch.from_numpy(self.decoded(own)))[0].numpy()
        return found


def check_precision(precision: str, measure: str) -> None:
    """Raise UnsupportedOption for an unknown precision, or one that the measure of the vectors does not have."""
    if precision not in PRECISIONS:
        raise UnsupportedOption(f"precision {precision!r} is none of an index. {nearest(str(precision), PRECISIONS)}")
    if precision != "float32" and measure not in SIGNED:
        raise UnsupportedOption(
            f"precision={precision!r} keeps no {measure} distances, by which this model compares: use float32."
        )


def code_width(width: int, precision: str) -> int:
    """Return the numbers that a stored vector has."""
    return -(-width // 8) if precision == "binary" else width


def blocks(vectors: StoredVectors | Vectors, width: int) -> Iterator[Vectors]:
    """Yield float32 rows in blocks whose numbers, at `width` a row, take `BLOCK_BYTES` at most."""
    rows = max(BLOCK_BYTES // (4 * width), 1)
    for begin in range(0, len(vectors), rows):
        part = slice(begin, begin + rows)
        if isinstance(vectors, StoredVectors):
            yield np.array(vectors.decoded(part)) if vectors.precision == "float32" else vectors.decoded(part)
        else:
            yield np.asarray(vectors[part])


def top_rows(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the best scores (queries, top_k) and their places, best first; of equal scores the first come first."""
    top_k = min(top_k, scores.shape[1])
    best, places = scores.topk(top_k, dim=1)
    tied = (scores >= best[:, -1:]).sum(1) > top_k  # topk takes any of the rows that share the last score
    places, order = places.sort(dim=1)
    best, order = best.gather(1, order).sort(dim=1, descending=True, stable=True)
    places = places.gather(1, order)
    if tied.any():
        stable, first = scores[tied].sort(dim=1, descending=True, stable=True)
        best[tied], places[tied] = stable[:, :top_k], first[:, :top_k]
    return best, places


def top_places(scores: Vectors, rows: Vectors, top_k: int) -> Vectors:
    """Return the places (queries, top_k) of the best scores, best first; of equal scores that of the first row."""
    return np.lexsort((rows, -scores), axis=1)[:, :top_k]


def unit_rows(vectors: Vectors) -> Vectors:
    """Return rows divided by their L2 norm. Raises InvalidInput for zeros and numbers that are not finite."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if len(wrong):
        what = "holds numbers that are not finite" if not np.isfinite(norms[wrong[0]]) else "is a vector of zeros"
        raise InvalidInput(f"Vector {wrong[0]} {what}, which is similar to nothing.")
    return np.asarray(vectors / norms, dtype=np.float32)
