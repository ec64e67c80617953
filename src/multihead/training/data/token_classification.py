"""token-classification: words with a tag each; a tag stands at its word's first token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.tokenizer import Tokenizer
from .features import Builder, Features
from .labels import Labels, known_labels, named
from .reading import Reading, cell, column, cut_note, encoded, limits, maybe, short, skipped_note, taken, typed
from .source import Row, Rows

WORDS = ("tokens", "words", "text")
TAGS = ("ner_tags", "tags", "labels", "pos_tags", "chunk_tags", "label")


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Of token-classification.

    Args:
        words_column, tags_column: guessed when left out. labels: the model's tags, in order.
        label_all_tokens: a word's further tokens are labeled too; with `I-` where its tag begins an entity.
        stride: tokens that windows share, for texts that are too long; each word is labeled in one of them. None for
            no windows: what is too long is cut.
    """

    words_column: str | None = None
    tags_column: str | None = None
    labels: Sequence[str] | None = None
    label_all_tokens: bool = False
    stride: int | None = None


def labels_of(source: Any, options: Options) -> Labels:
    """The tags of a data set: the given ones, those that the source knows, or what is found, sorted."""
    rows = Rows.of(source)
    names = columns(rows, options)
    known = options.labels or rows.classes(names[1] or "")
    if known:
        return known_labels([str(name) for name in known])
    every = (
        tag
        for begin, chunk in rows.chunks()
        for number, row in enumerate(chunk, begin)
        for tag in words_and_tags(rows, number, row, names)[1]
    )
    return named(every)


def columns(rows: Rows, options: Options, *, answers: bool = True) -> tuple[str, str | None]:
    """Those of words and of tags; `answers` says whether there must be one of tags."""
    words, find = column(rows, options.words_column, WORDS, "words_column"), column if answers else maybe
    return words, find(rows, options.tags_column, TAGS, "tags_column")


def has_labels(rows: Rows, options: Options) -> bool:
    """Whether there is a column of tags. Raises InvalidInput where one was asked for and is not there."""
    return maybe(rows, options.tags_column, TAGS, "tags_column") is not None


def words_and_tags(rows: Rows, number: int, row: Row, names: tuple[str, str | None]) -> tuple[list[str], list[Any]]:
    """A row's words and tags, None where there is no column of them; strings of either are split at white space.

    Raises:
        InvalidInput: no words, or another number of tags than of words.
    """
    found: list[list[Any]] = []
    for name in filter(None, names):
        value = cell(rows, number, row, name)
        value = value.split() if isinstance(value, str) else value
        if not hasattr(value, "__len__"):
            raise InvalidInput(f"{rows.at(number)} must have a list of {name}, not {short(value)}.")
        found.append(list(value))
    words, tags = found if len(found) > 1 else (found[0], [None] * len(found[0]))
    if len(words) != len(tags):
        raise InvalidInput(f"{rows.at(number)} has {len(words)} {names[0]} and {len(tags)} {names[1]}.")
    for place, word in enumerate(words):
        if not isinstance(word, str):
            raise InvalidInput(f"{rows.at(number)} has a word {place} that is no string, but {short(word)}.")
    return words, tags


def prepare(
    source: Any, tokenizer: Tokenizer, options: Options, labels: Labels | None = None, *, answers: bool = True
) -> Features:
    """Features with `input_ids` and `labels` a token, -100 where none is learned; `facts` has `labels`.

    Args:
        source: of `Rows.of`. labels: of the training set, for another set; found in the data when left out.
        answers: whether there must be tags.

    Raises:
        InvalidInput: columns, words or tags that are not there or cannot be, with their row.
    """
    rows = Rows.of(source)
    names = columns(rows, options, answers=answers)
    labels = None if names[1] is None else (labels or labels_of(rows, options)).of(rows, names[1])
    used = taken(rows, names, options)
    length = options.limit(tokenizer)
    settings = limits(tokenizer, length, stride=options.stride or 0)
    if settings["stride"] >= length - tokenizer.num_special_tokens_to_add(False):
        raise InvalidInput(f"stride = {options.stride} leaves no new token in windows of {length} tokens.")
    inside = insides(labels) if options.label_all_tokens and labels is not None else None
    kinds = {"input_ids": "int32", **({} if labels is None else {"labels": "int32"}), **typed(tokenizer)}
    builder, cut, skipped, lost = Builder(kinds), 0, 0, 0
    for begin, chunk in rows.chunks():
        numbers, texts, tags = [], [], []
        for number, row in enumerate(chunk, begin):
            words, own = words_and_tags(rows, number, row, names)
            if not words and not options.skip_empty:
                raise InvalidInput(f"{rows.at(number)} has no words. Leave such rows out with skip_empty=True.")
            skipped += not words
            if words:
                numbers.append(number)
                texts.append(words)
                tags.append([IGNORED if labels is None else numbered(labels, rows, number, tag) for tag in own])
        made = encoded(tokenizer, texts, rows, numbers, settings, words=True)
        for number, one, own in zip(numbers, made, tags, strict=True):
            seen: set[int] = set()
            cut += bool(one.overflowing) and options.stride is None
            for window in [one, *(one.overflowing if options.stride is not None else [])]:
                learned = aligned(window, own, seen, inside)
                builder.add(number, input_ids=window.ids, labels=learned, token_type_ids=window.type_ids)
            lost += len(own) - len(seen)
    notes = cut_note(cut, len(rows), length) + skipped_note(skipped, len(rows))
    notes += [f"{lost:,} words have no token, or stand where texts were cut."] if lost else []
    return builder.done(
        rows, facts={} if labels is None else {"labels": labels.names}, notes=notes + used.notes, **used.told
    )


def numbered(labels: Labels, rows: Rows, number: int, tag: Any) -> int:
    try:
        return labels.number(tag)
    except InvalidInput as error:
        raise InvalidInput(f"{rows.at(number)} {error}") from None


def insides(labels: Labels) -> list[int]:
    """For each tag the one of a word's further tokens: `I-PER` for `B-PER`, where there is one."""
    pairs = [("I-" + name[2:] if name.startswith("B-") else name, number) for number, name in enumerate(labels.names)]
    return [labels.names.index(name) if name in labels.names else number for name, number in pairs]


def aligned(window: Any, tags: Sequence[int], seen: set[int], inside: Sequence[int] | None) -> list[int]:
    """A label a token of a window: at the first of each word that is not seen yet; `seen` grows."""
    found, new = [], set[int]()
    for word in window.word_ids:
        first = word is not None and word not in seen and word not in new
        if first:
            new.add(word)
            found.append(tags[word])
        elif word in new and inside is not None:
            found.append(inside[tags[word]])
        else:
            found.append(IGNORED)
    seen |= new
    return found
