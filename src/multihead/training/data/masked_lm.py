"""Reader of masked language modelling: texts in chunks, and the masking of tokens (arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.tokenizer import Tokenizer
from .columns import ReaderOptions, chunk_texts, column_use, encode_rows, require_column, skipped_note, truncation
from .features import FeatureBuilder, Features, split_windows
from .source import Rows

TEXT = ("text", "sentence", "content", "document", "review")
NO_WORD = -1  # word number of special tokens
PACKINGS = ("texts", "blocks")


@dataclass(frozen=True, kw_only=True)
class MaskedLMOptions(ReaderOptions):
    """Options of masked language modelling; rows with an empty text are left out.

    Args:
        text_column: detected by name when None. packing: "texts" splits each text into its own chunks; "blocks"
            concatenates texts and splits them into chunks of max_length.
    """

    text_column: str | None = None
    packing: str = "texts"
    skip_empty: bool = True


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Masking settings.

    Args:
        mask_id: id of the mask token. vocabulary: size of the vocabulary, for random tokens.
        probability: of selecting a token or word. hidden, replaced: share of selected tokens that are replaced by the
            mask token and by a random token; the rest stays unchanged. whole_words: select the tokens of a word
            together.

    Raises:
        InvalidInput: the probability or the shares are out of range.
    """

    mask_id: int
    vocabulary: int
    probability: float = 0.15
    hidden: float = 0.8
    replaced: float = 0.1
    whole_words: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise InvalidInput(f"probability must be between 0 and 1, not {self.probability!r}.")
        if min(self.hidden, self.replaced) < 0 or self.hidden + self.replaced > 1:
            raise InvalidInput(f"hidden = {self.hidden} and replaced = {self.replaced} must be shares of a whole.")

    @classmethod
    def of(cls, tokenizer: Tokenizer, **options: Any) -> Masking:
        """Build from the mask token of a tokenizer. Raises InvalidInput if it has none."""
        if tokenizer.mask_token_id is None:
            raise InvalidInput(
                "This tokenizer has no mask token, so its model was not made for masked language modelling. Train it "
                "as a causal language model, or name one: tokenizer.mask_token = '[MASK]'."
            )
        return cls(mask_id=tokenizer.mask_token_id, vocabulary=len(tokenizer), **options)


def mask_tokens(
    example: Mapping[str, Any], seed: tuple[int, ...], masking: Masking
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return masked input ids and labels (tokens,): the original ids of selected tokens, -100 elsewhere.

    Equal seeds select equal tokens, so a resumed run needs no state. At least one token is selected if the example has
    a token with a word.

    Args:
        example: has `input_ids` and `word_ids` (tokens,). seed: (seed of the run, epoch, number of the example).
    """
    draw = np.random.default_rng(seed)
    ids, words = np.array(example["input_ids"], np.int64), np.asarray(example["word_ids"])
    labels = np.full_like(ids, IGNORED)
    candidates = np.flatnonzero(words != NO_WORD)
    if not len(candidates):
        return ids, labels
    own = words[candidates]
    begins = np.append(True, own[1:] != own[:-1]) if masking.whole_words else np.ones(len(candidates), bool)
    unit = np.cumsum(begins) - 1
    selected = draw.random(unit[-1] + 1) < masking.probability
    if not selected.any():
        selected[draw.integers(len(selected))] = True
    learned = candidates[selected[unit]]
    labels[learned] = ids[learned]
    share = draw.random(len(learned))
    ids[learned[share < masking.hidden]] = masking.mask_id
    other = learned[(share >= masking.hidden) & (share < masking.hidden + masking.replaced)]
    ids[other] = draw.integers(masking.vocabulary, size=len(other))
    return ids, labels


def prepare(source: Any, tokenizer: Tokenizer, options: MaskedLMOptions) -> Features:
    """Build features with `input_ids` and `word_ids`, the word number of each token (-1 for special tokens).

    Raises:
        InvalidInput: a missing column, or an invalid text, with its row.
    """
    if options.packing not in PACKINGS:
        raise InvalidInput(f"packing must be one of {', '.join(PACKINGS)}, not {options.packing!r}.")
    rows = Rows.of(source)
    name = require_column(rows, options.text_column, TEXT, "text_column")
    use = column_use(rows, [name], options)
    length, blocks = options.limit(tokenizer), options.packing == "blocks"
    settings = None if blocks else truncation(tokenizer, length) | {"direction": "right"}
    builder, skipped, word = FeatureBuilder({"input_ids": "int32", "word_ids": "int32"}), 0, 0
    for begin, chunk in rows.chunks():
        numbers, columns = chunk_texts(rows, begin, chunk, [name], options.skip_empty)
        skipped += len(chunk) - len(numbers)
        encodings = encode_rows(tokenizer, columns[0], rows, numbers, settings, special=not blocks)
        for number, encoding in zip(numbers, encodings, strict=True):
            for window in [encoding, *encoding.overflowing]:
                words = word_numbers(window, word if blocks else 0)
                word = (words[-1] + 1) % 2**30 if blocks and words else 0
                builder.add(number, input_ids=window.ids, word_ids=words)
    features = builder.build(rows, notes=skipped_note(skipped, len(rows)) + use.notes, **use.feature_fields)
    return frame_blocks(features, tokenizer, length) if blocks else features


def word_numbers(encoding: Any, begin: int) -> list[int]:
    """Return the word number of each token, counted from `begin`; a token outside any word counts as a word."""
    numbers, last, number = [], None, begin - 1
    for word, special in zip(encoding.word_ids, encoding.special_tokens_mask, strict=True):
        if special:
            numbers.append(NO_WORD)
            continue
        if word is None or word != last:
            number += 1
        last = word
        numbers.append(number)
    return numbers


def frame_blocks(features: Features, tokenizer: Tokenizer, length: int) -> Features:
    """Split all tokens into chunks of `length`, each with the special tokens of a single text."""
    before, after = special_tokens(tokenizer)
    cut = split_windows(features, length - len(before) - len(after), across=True)
    builder = FeatureBuilder({"input_ids": "int32", "word_ids": "int32"})
    around = [NO_WORD] * len(before), [NO_WORD] * len(after)
    for index in range(len(cut)):
        example = cut[index]
        builder.add(
            int(cut.row[index]),
            input_ids=[*before, *example["input_ids"].tolist(), *after],
            word_ids=[*around[0], *example["word_ids"].tolist(), *around[1]],
        )
    return builder.build(features.rows, notes=features.notes, dropped=features.dropped, read=features.read)


def special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer adds before and after a single text."""
    encoding = tokenizer.run(["a"], words=False, special=True, limits=None)[0]
    ids = encoding.ids
    text = [position for position, special in enumerate(encoding.special_tokens_mask) if not special]
    return (ids[: text[0]], ids[text[-1] + 1 :]) if text else (list(ids), [])
