"""Masked language modelling: texts in chunks, and which words of a chunk are hidden in an epoch (arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.tokenizer import Tokenizer
from .features import Builder, Features, in_windows
from .reading import Reading, column, encoded, limits, skipped_note, taken, texts
from .source import Rows

TEXT = ("text", "sentence", "content", "document", "review")
SPECIAL = -1  # the word of a token that frames a text
PACKINGS = ("texts", "blocks")


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Of masked language modelling; rows with an empty text are left out.

    Args:
        text_column: guessed when left out. packing: "texts" gives each text its own chunks; "blocks" puts texts end to
            end and cuts them into chunks of max_length.
    """

    text_column: str | None = None
    packing: str = "texts"
    skip_empty: bool = True


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How words are hidden.

    Args:
        mask_id: of the token that hides. vocabulary: size, for random tokens. probability: of a word or token to be
            chosen. hidden, replaced: share of chosen tokens that are hidden, and that a random token replaces; the
            rest stays as it is. whole_words: a word's tokens are chosen together.
    """

    mask_id: int
    vocabulary: int
    probability: float = 0.15
    hidden: float = 0.8
    replaced: float = 0.1
    whole_words: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise InvalidInput(f"probability lies between 0 and 1, not at {self.probability!r}.")
        if min(self.hidden, self.replaced) < 0 or self.hidden + self.replaced > 1:
            raise InvalidInput(f"hidden = {self.hidden} and replaced = {self.replaced} must be shares of a whole.")

    @classmethod
    def of(cls, tokenizer: Tokenizer, **options: Any) -> Masking:
        """Of a tokenizer's mask token. Raises InvalidInput where it has none."""
        if tokenizer.mask_token_id is None:
            raise InvalidInput(
                "This tokenizer has no mask token, so its model was not made for masked language modelling. Train it "
                "as a causal language model, or name one: tokenizer.mask_token = '[MASK]'."
            )
        return cls(mask_id=tokenizer.mask_token_id, vocabulary=len(tokenizer), **options)


def mask(
    example: Mapping[str, Any], seed: tuple[int, ...], masking: Masking
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Input ids and labels (tokens,): labels are the true tokens where some are chosen, -100 elsewhere.

    The same seed gives the same words, so that a run that is gone on with needs no state. At least one word is chosen
    where there is any.

    Args:
        example: with `input_ids` and `word_ids` (tokens,). seed: of the run, the epoch and the example.
    """
    draw = np.random.default_rng(seed)
    ids, words = np.array(example["input_ids"], np.int64), np.asarray(example["word_ids"])
    labels = np.full_like(ids, IGNORED)
    places = np.flatnonzero(words != SPECIAL)
    if not len(places):
        return ids, labels
    own = words[places]
    begins = np.append(True, own[1:] != own[:-1]) if masking.whole_words else np.ones(len(places), bool)
    unit = np.cumsum(begins) - 1
    chosen = draw.random(unit[-1] + 1) < masking.probability
    if not chosen.any():
        chosen[draw.integers(len(chosen))] = True
    learned = places[chosen[unit]]
    labels[learned] = ids[learned]
    share = draw.random(len(learned))
    ids[learned[share < masking.hidden]] = masking.mask_id
    other = learned[(share >= masking.hidden) & (share < masking.hidden + masking.replaced)]
    ids[other] = draw.integers(masking.vocabulary, size=len(other))
    return ids, labels


def prepare(source: Any, tokenizer: Tokenizer, options: Options) -> Features:
    """Features with `input_ids` and `word_ids`, the number of each token's word, -1 of tokens that frame a text.

    Raises:
        InvalidInput: a column that is not there, or a text that is none, with its row.
    """
    if options.packing not in PACKINGS:
        raise InvalidInput(f"packing is one of {', '.join(PACKINGS)}, not {options.packing!r}.")
    rows = Rows.of(source)
    name = column(rows, options.text_column, TEXT, "text_column")
    used = taken(rows, [name], options)
    length, blocks = options.limit(tokenizer), options.packing == "blocks"
    settings = None if blocks else limits(tokenizer, length) | {"direction": "right"}
    builder, skipped, begun = Builder({"input_ids": "int32", "word_ids": "int32"}), 0, 0
    for begin, chunk in rows.chunks():
        numbers, found = texts(rows, begin, chunk, [name], options.skip_empty)
        skipped += len(chunk) - len(numbers)
        for number, one in zip(
            numbers, encoded(tokenizer, found[0], rows, numbers, settings, special=not blocks), strict=True
        ):
            for window in [one, *one.overflowing]:
                words = words_of(window, begun if blocks else 0)
                begun = (words[-1] + 1) % 2**30 if blocks and words else 0
                builder.add(number, input_ids=window.ids, word_ids=words)
    features = builder.done(rows, notes=skipped_note(skipped, len(rows)) + used.notes, **used.told)
    return framed(features, tokenizer, length) if blocks else features


def words_of(encoding: Any, begin: int) -> list[int]:
    """The number of each token's word, counted from `begin`; a token that is known to be in no word is one itself."""
    found, last, now = [], None, begin - 1
    for word, special in zip(encoding.word_ids, encoding.special_tokens_mask, strict=True):
        if special:
            found.append(SPECIAL)
            continue
        if word is None or word != last:
            now += 1
        last = word
        found.append(now)
    return found


def framed(features: Features, tokenizer: Tokenizer, length: int) -> Features:
    """All tokens in chunks of `length`, each with the tokens that the tokenizer puts around a text."""
    before, after = frame_of(tokenizer)
    cut = in_windows(features, length - len(before) - len(after), across=True)
    builder = Builder({"input_ids": "int32", "word_ids": "int32"})
    around = [SPECIAL] * len(before), [SPECIAL] * len(after)
    for index in range(len(cut)):
        example = cut[index]
        builder.add(
            int(cut.row[index]),
            input_ids=[*before, *example["input_ids"].tolist(), *after],
            word_ids=[*around[0], *example["word_ids"].tolist(), *around[1]],
        )
    return builder.done(features.rows, notes=features.notes, dropped=features.dropped, read=features.read)


def frame_of(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The tokens that stand before and behind a single text."""
    one = tokenizer.run(["a"], words=False, special=True, limits=None)[0]
    own = [place for place, special in enumerate(one.special_tokens_mask) if not special]
    return (one.ids[: own[0]], one.ids[own[-1] + 1 :]) if own else (list(one.ids), [])
