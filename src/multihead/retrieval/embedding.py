"""Embeddings of texts in windows: a row that has none is an error of its own, never a vector of zeros."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput, MultiheadError, ScoresNotFinite, TextTooLong
from ..sentences.base import TokenizedTexts, tokenize
from ..sentences.encoder import SentenceEncoder
from ..token_batches import budget

WINDOW_TEXTS, WINDOW_CHARACTERS = 2048, 1 << 19  # of a window at most

Vectors = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions:
    """Options of embeddings.

    Args:
        prompt: text before each text. truncation: reads the beginning of a text that is too long; False makes it an
            error. normalize: to L2 norm 1. truncate_dim: dimensions to keep. batch_size: texts of a batch at most.
    """

    prompt: str = ""
    truncation: bool = True
    normalize: bool = False
    truncate_dim: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Embedded:
    """Embeddings of the texts of a window.

    Args:
        vectors: float32 (rows, width). numbers: of the text of each vector, ascending.
        errors: number of a text -> why it has no vector. cut: numbers of the texts whose end was not read.
        tokens: number of tokens read.
    """

    vectors: Vectors
    numbers: list[int]
    errors: dict[int, MultiheadError] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    tokens: int = 0


def embed_texts(encoder: SentenceEncoder, texts: Sequence[Any], options: EmbeddingOptions) -> Embedded:
    """Return the embeddings of texts and the errors of those that have none."""
    errors = {n: error for n, text in enumerate(texts) if (error := text_error(text)) is not None}
    numbers = [n for n in range(len(texts)) if n not in errors]
    ids = tokenize_rows(encoder, [options.prompt + texts[n] for n in numbers])
    bare = tokenize_rows(encoder, [texts[n] for n in numbers]) if options.prompt else ids
    kept, cut = [], []
    for place, number in enumerate(numbers):
        limit, length = encoder.max_seq_length, len(ids.ids[place])
        if not knows_a_token(encoder, bare.ids[place]):
            errors[number] = InvalidInput("has no token that the model knows.")
        elif limit is None or length <= limit:
            kept.append(place)
        elif options.truncation:
            kept.append(place)
            cut.append(place)
        else:
            errors[number] = TextTooLong(f"has {length} tokens, and this model reads at most {limit}.")
    ids = shorten(encoder, ids, {n: options.prompt + texts[numbers[n]] for n in cut}).select(kept)
    vectors = _vectors(encoder, ids, options)
    found = [numbers[place] for place in kept]
    whole = [bool(np.isfinite(row).all()) for row in vectors]
    usable = [good and bool(row.any()) for good, row in zip(whole, vectors, strict=True)]
    for place in [n for n, good in enumerate(usable) if not good]:
        errors[found[place]] = (
            InvalidInput("has an embedding of zeros, which is similar to nothing.")
            if whole[place]
            else ScoresNotFinite("has an embedding with numbers that are not finite.")
        )
    return Embedded(
        vectors[usable],
        [number for number, good in zip(found, usable, strict=True) if good],
        dict(sorted(errors.items())),
        [numbers[place] for place in cut],
        sum(ids.lengths),
    )


def _vectors(encoder: SentenceEncoder, ids: TokenizedTexts, options: EmbeddingOptions) -> Vectors:
    if not ids.ids:
        return np.zeros((0, embedding_width(encoder, options)), np.float32)
    rows = encoder.embed_tokens(
        ids,
        options.prompt,
        truncate_dim=options.truncate_dim,
        batch_size=options.batch_size,
        token_budget=budget(encoder.device),
    )
    vectors: Vectors = rows.float().cpu().numpy()
    if options.normalize:  # in float32, whatever the model computes in
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, norms, out=vectors, where=norms > 0)
    return vectors


def embedding_width(encoder: SentenceEncoder, options: EmbeddingOptions) -> int:
    """Return the dimensions of an embedding."""
    width = encoder.get_sentence_embedding_dimension()
    return width if options.truncate_dim is None else min(encoder.width, options.truncate_dim)


def text_error(text: Any) -> MultiheadError | None:
    """Return why something is no text with an embedding; None for a text."""
    if isinstance(text, MultiheadError):
        return text
    if not isinstance(text, str):
        return InvalidInput(f"must be a text (a string), not {type(text).__name__}.")
    if not text.strip():
        return InvalidInput("is empty.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return InvalidInput(f"is no Unicode text: half of a surrogate pair at place {error.start + 1}.")
    return None


def tokenize_rows(encoder: SentenceEncoder, texts: list[str]) -> TokenizedTexts:
    """Return the whole token ids of texts, whatever their length."""
    return tokenize(encoder.model, encoder.tokenizer, texts, truncation=False)


def shorten(encoder: SentenceEncoder, ids: TokenizedTexts, texts: dict[int, str]) -> TokenizedTexts:
    """Return token ids in which the texts of these numbers are cut to the model's limit."""
    if not texts:
        return ids
    short = tokenize(encoder.model, encoder.tokenizer, list(texts.values()))
    for place, number in enumerate(texts):
        ids.ids[number] = short.ids[place]
        if ids.token_types is not None:
            types = short.token_types
            ids.token_types[number] = [0] * len(short.ids[place]) if types is None else types[place]
    return ids


def knows_a_token(encoder: SentenceEncoder, ids: Sequence[int]) -> bool:
    """Return whether a text has a token that is neither special nor unknown."""
    tokenizer = encoder.tokenizer
    return not {*ids} <= {*tokenizer.all_special_ids, tokenizer.unk_token_id}


def windows(rows: Iterable[Any], texts: Any = lambda row: row) -> Iterator[list[Any]]:
    """Yield rows in windows of bounded size. `texts` returns the text of a row."""
    window: list[Any] = []
    size = 0
    for row in rows:
        window.append(row)
        text = texts(row)
        size += len(text) if isinstance(text, str) else 0
        if len(window) == WINDOW_TEXTS or size >= WINDOW_CHARACTERS:
            yield window
            window, size = [], 0
    if window:
        yield window
