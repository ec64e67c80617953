"""Texts that repeat others: equal ones, and those whose embeddings are close."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedOption, nearest
from ..sentences.encoder import SentenceEncoder
from .embedding import EmbeddingOptions, embed_texts, windows
from .index import document_prompt, load_encoder
from .rows import check_several
from .vectors import BLOCK_BYTES, Vectors, unit_rows

BLOCK = 1024  # rows that are compared with all kept ones at once
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SHINGLE, SHARED = 3, 0.5  # words of a shingle, and the share that two long texts have in common
KEEP = ("first", "last", "longest")


@dataclass(frozen=True)
class Duplicate:
    """Row that repeats a kept one.

    Args:
        row, kept: numbers of the rows. score: cosine of their embeddings; 1 for equal texts.
        exact: whether the texts are equal but for case, white space and Unicode forms.
    """

    row: int
    kept: int
    score: float
    exact: bool


@dataclass(frozen=True)
class Deduplicated:
    """Result of `deduplicate`.

    Args:
        kept: numbers of the rows that are kept, ascending. duplicates: of the others, by their row.
        errors: number of a row -> why it has no embedding. Such a row is kept, and compared as text only.
    """

    kept: list[int]
    duplicates: list[Duplicate]
    errors: dict[int, Exception]

    @property
    def groups(self) -> dict[int, list[Duplicate]]:
        """Duplicates of each kept row that has some, the largest group first."""
        found: dict[int, list[Duplicate]] = {}
        for each in self.duplicates:
            found.setdefault(each.kept, []).append(each)
        return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def deduplicate(
    texts: Iterable[Any],
    encoder: SentenceEncoder | str | None,
    *,
    threshold: float = 0.9,
    keep: str = "first",
    same_numbers: bool = True,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    truncation: bool = True,
) -> Deduplicated:
    """Find the texts that repeat others.

    A text repeats a kept one if both are equal, or if the cosine of their embeddings is `threshold` or more. It is
    compared with kept texts only, so that no chain of similar texts joins different ones. Of texts that are longer
    than the encoder reads, half of the groups of three words must be the same too.

    Args:
        texts: anything that is no text, and empty texts, are kept.
        encoder: or its name; None with a threshold above 1. threshold: above 1 for equal texts only.
        keep: "first", "last" or "longest" of texts that repeat each other.
        same_numbers: texts with different numbers in digits do not repeat each other.
        prompt: text before each text. Default: the encoder's prompt named "document".
        truncate_dim: dimensions of an embedding to keep. truncation: False: a text that is too long has no embedding.

    Raises:
        UnsupportedOption: `threshold` or `keep`. InvalidInput: a single text in place of a list.
    """
    check_options(threshold, keep)
    check_several(texts)
    texts = list(texts)
    order = priority(texts, keep)
    equal = equal_rows(texts, order)
    found, near = Vectored(np.zeros((0, 1)), [], {}, set()), dict[int, tuple[int, float]]()
    if threshold <= 1:
        encoder = load_encoder(encoder)  # type: ignore[arg-type]  # None is refused there
        options = EmbeddingOptions(
            prompt=document_prompt(encoder, prompt), truncation=truncation, normalize=True, truncate_dim=truncate_dim
        )
        found = embed_rows(encoder, texts, [row for row in order if row not in equal], options)
        near = near_rows(found, texts, threshold, same_numbers)
    duplicates = [Duplicate(row, near[kept][0] if kept in near else kept, 1.0, True) for row, kept in equal.items()]
    duplicates += [Duplicate(row, kept, score, False) for row, (kept, score) in near.items()]
    gone = {each.row for each in duplicates}
    return Deduplicated(
        [row for row in range(len(texts)) if row not in gone],
        sorted(duplicates, key=lambda each: each.row),
        found.errors,
    )


def check_options(threshold: Any, keep: str) -> None:
    """Raise UnsupportedOption for values without meaning."""
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not threshold > 0:
        raise UnsupportedOption(f"threshold is a cosine above 0, not {threshold!r}.")
    if keep not in KEEP:
        raise UnsupportedOption(f"keep {keep!r} is no rule. {nearest(str(keep), KEEP)}")


def priority(texts: Sequence[Any], keep: str) -> list[int]:
    """Return the numbers of rows in the order in which they are kept."""
    rows = list(range(len(texts)))
    if keep == "longest":
        return sorted(rows, key=lambda row: (-len(texts[row]) if isinstance(texts[row], str) else 0, row))
    return rows if keep == "first" else rows[::-1]


def normal_text(text: str) -> str:
    """Return a text without differences of case, white space and Unicode forms."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def equal_rows(texts: Sequence[Any], order: Iterable[int]) -> dict[int, int]:
    """Return the rows whose text an earlier row of `order` has, and that row."""
    first: dict[str, int] = {}
    equal = {}
    for row in order:
        text = texts[row]
        if not isinstance(text, str) or not (normal := normal_text(text)):
            continue
        if (kept := first.setdefault(normal, row)) != row:
            equal[row] = kept
    return equal


@dataclass(frozen=True)
class Vectored:
    """Embeddings of rows, in the order of `rows`; rows without one; rows whose end was not read."""

    vectors: Vectors
    rows: list[int]
    errors: dict[int, Exception]
    cut: set[int]


def embed_rows(
    encoder: SentenceEncoder, texts: Sequence[Any], rows: Sequence[int], options: EmbeddingOptions
) -> Vectored:
    """Return the embeddings of some rows, of length 1."""
    parts, found, cut = [np.zeros((0, encoder.width), np.float32)[:, : options.truncate_dim]], list[int](), set[int]()
    errors: dict[int, Exception] = {}
    for window in windows(rows, lambda row: texts[row]):
        own = embed_texts(encoder, [texts[row] for row in window], options)
        parts.append(own.vectors)
        found += [window[place] for place in own.numbers]
        errors |= {window[place]: error for place, error in own.errors.items()}
        cut |= {window[place] for place in own.cut}
    vectors = np.concatenate([part for part in parts if len(part)] or parts)
    return Vectored(unit_rows(vectors), found, dict(sorted(errors.items())), cut)


def near_rows(
    found: Vectored, texts: Sequence[str], threshold: float, same_numbers: bool
) -> dict[int, tuple[int, float]]:
    """Return the rows that are close to a row before them that is kept: that row, and the cosine."""

    def repeats(a: int, b: int) -> bool:
        """Return whether two rows with close embeddings say the same."""
        if same_numbers and numbers_of(texts[a]) != numbers_of(texts[b]):
            return False
        return not (a in found.cut or b in found.cut) or shared_shingles(texts[a], texts[b]) >= SHARED

    vectors, rows = found.vectors, found.rows
    kept: list[int] = []  # places in `rows`
    near: dict[int, tuple[int, float]] = {}
    for begin in range(0, len(rows), BLOCK):
        block = vectors[begin : begin + BLOCK]
        close = close_pairs(block, vectors, kept, threshold)
        inner = block @ block.T
        own: list[int] = []
        for place in range(len(block)):
            pairs = close[place] + [(begin + other, float(inner[place, other])) for other in own
                                    if inner[place, other] >= threshold]  # fmt: skip
            best = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
            row = rows[begin + place]
            match = next(((rows[other], score) for other, score in best if repeats(row, rows[other])), None)
            if match is None:
                own.append(place)
            else:
                near[row] = (match[0], min(match[1], 1.0))
        kept += [begin + place for place in own]
    return near


def close_pairs(
    block: Vectors, vectors: Vectors, kept: Sequence[int], threshold: float
) -> list[list[tuple[int, float]]]:
    """Return the kept places, with cosines, that are close to each row of a block."""
    close: list[list[tuple[int, float]]] = [[] for _ in range(len(block))]
    step = max(BLOCK_BYTES // (4 * vectors.shape[1]), 1)
    for begin in range(0, len(kept), step):
        part = kept[begin : begin + step]
        scores = block @ vectors[part].T
        for place, other in zip(*np.nonzero(scores >= threshold), strict=True):
            close[place].append((part[other], float(scores[place, other])))
    return close


def numbers_of(text: str) -> Collection[str]:
    """Return the numbers in digits of a text, sorted."""
    return sorted(NUMBER.findall(text))


def shared_shingles(a: str, b: str) -> float:
    """Return the share of groups of three words that two texts have in common, of those that either has (Jaccard)."""
    first, second = ({tuple(words[n : n + SHINGLE]) for n in range(max(len(words) - SHINGLE + 1, 1))}
                     for words in (normal_text(a).split(), normal_text(b).split()))  # fmt: skip
    return len(first & second) / max(len(first | second), 1)
