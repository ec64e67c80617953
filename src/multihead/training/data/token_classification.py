"""Reader of token-classification: words with one tag each, which becomes the label of the first token of the word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.tokenizer import Tokenizer
from .columns import (
    ReaderOptions,
    column_use,
    cut_note,
    encode_rows,
    find_column,
    require_cell,
    require_column,
    shorten,
    skipped_note,
    token_type_column,
    truncation,
)
from .features import FeatureBuilder, Features
from .labels import Labels, infer_labels, labels_from_names
from .source import Row, Rows

WORDS = ("tokens", "words", "text")
TAGS = ("ner_tags", "tags", "labels", "pos_tags", "chunk_tags", "label")


@dataclass(frozen=True, kw_only=True)
class TokenClassificationOptions(ReaderOptions):
    """Options of token-classification.

    Args:
        words_column, tags_column: detected by name when None. labels: tags of the model, in order.
        label_all_tokens: label the further tokens of a word too, with `I-` if the tag of the word begins with `B-`.
        stride: overlap in tokens of the windows of long texts; each word is labeled in one window. None truncates
            long texts instead.
    """

    words_column: str | None = None
    tags_column: str | None = None
    labels: Sequence[str] | None = None
    label_all_tokens: bool = False
    stride: int | None = None


def labels_of(source: Any, options: TokenClassificationOptions) -> Labels:
    """Return the tags of a data set: the option `labels`, the names of the source, or the sorted tags in the rows."""
    rows = Rows.of(source)
    names = columns(rows, options)
    known = options.labels or rows.classes(names[1] or "")
    if known:
        return labels_from_names([str(name) for name in known])
    tags = (
        tag
        for begin, chunk in rows.chunks()
        for number, row in enumerate(chunk, begin)
        for tag in words_and_tags(rows, number, row, names)[1]
    )
    return infer_labels(tags)


def columns(rows: Rows, options: TokenClassificationOptions, *, require_labels: bool = True) -> tuple[str, str | None]:
    """Return the columns of words and of tags; with `require_labels` a column of tags must exist."""
    words = require_column(rows, options.words_column, WORDS, "words_column")
    find = require_column if require_labels else find_column
    return words, find(rows, options.tags_column, TAGS, "tags_column")


def has_labels(rows: Rows, options: TokenClassificationOptions) -> bool:
    """Return whether there is a column of tags. Raises InvalidInput if the named column is missing."""
    return find_column(rows, options.tags_column, TAGS, "tags_column") is not None


def words_and_tags(rows: Rows, number: int, row: Row, names: tuple[str, str | None]) -> tuple[list[str], list[Any]]:
    """Return the words and tags of a row, with tags None without a column of tags; strings are split at white space.

    Raises:
        InvalidInput: there are no words, or unequal numbers of words and tags.
    """
    columns: list[list[Any]] = []
    for name in filter(None, names):
        value = require_cell(rows, number, row, name)
        value = value.split() if isinstance(value, str) else value
        if not hasattr(value, "__len__"):
            raise InvalidInput(f"{rows.subject(number)} must have a list of {name}, not {shorten(value)}.")
        columns.append(list(value))
    words, tags = columns if len(columns) > 1 else (columns[0], [None] * len(columns[0]))
    if len(words) != len(tags):
        raise InvalidInput(f"{rows.subject(number)} has {len(words)} {names[0]} and {len(tags)} {names[1]}.")
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise InvalidInput(f"{rows.subject(number)} has a word {index} that is no string, but {shorten(word)}.")
    return words, tags


def prepare(
    source: Any,
    tokenizer: Tokenizer,
    options: TokenClassificationOptions,
    labels: Labels | None = None,
    *,
    require_labels: bool = True,
) -> Features:
    """Build features with `input_ids` and token `labels`, -100 for tokens that are not learned.

    Args:
        source: any source of `Rows.of`. labels: of the training set, for another set; detected in the data when None.
        require_labels: refuse rows without tags.

    Raises:
        InvalidInput: a missing column, or missing or invalid words or tags, with their row.
    """
    rows = Rows.of(source)
    names = columns(rows, options, require_labels=require_labels)
    labels = None if names[1] is None else (labels or labels_of(rows, options)).for_rows(rows, names[1])
    use = column_use(rows, names, options)
    length = options.limit(tokenizer)
    settings = truncation(tokenizer, length, stride=options.stride or 0)
    if settings["stride"] >= length - tokenizer.num_special_tokens_to_add(False):
        raise InvalidInput(f"stride = {options.stride} leaves no new token in windows of {length} tokens.")
    inside = inside_tags(labels) if options.label_all_tokens and labels is not None else None
    kinds = {"input_ids": "int32", **({} if labels is None else {"labels": "int32"}), **token_type_column(tokenizer)}
    builder, cut, skipped, lost = FeatureBuilder(kinds), 0, 0, 0
    for begin, chunk in rows.chunks():
        numbers, texts, tags = [], [], []
        for number, row in enumerate(chunk, begin):
            words, own = words_and_tags(rows, number, row, names)
            if not words and not options.skip_empty:
                raise InvalidInput(f"{rows.subject(number)} has no words. Leave such rows out with skip_empty=True.")
            skipped += not words
            if words:
                numbers.append(number)
                texts.append(words)
                tags.append([IGNORED if labels is None else tag_number(labels, rows, number, tag) for tag in own])
        encodings = encode_rows(tokenizer, texts, rows, numbers, settings, words=True)
        for number, encoding, own in zip(numbers, encodings, tags, strict=True):
            labeled: set[int] = set()
            cut += bool(encoding.overflowing) and options.stride is None
            for window in [encoding, *(encoding.overflowing if options.stride is not None else [])]:
                learned = align_labels(window, own, labeled, inside)
                builder.add(number, input_ids=window.ids, labels=learned, token_type_ids=window.type_ids)
            lost += len(own) - len(labeled)
    notes = cut_note(cut, len(rows), length) + skipped_note(skipped, len(rows))
    notes += [f"{lost:,} words have no token, or were cut off with the end of a text."] if lost else []
    return builder.build(
        rows, metadata={} if labels is None else {"labels": labels.names}, notes=notes + use.notes, **use.feature_fields
    )


def tag_number(labels: Labels, rows: Rows, number: int, tag: Any) -> int:
    """Return the number of a tag. Raises InvalidInput, naming the row."""
    try:
        return labels.number(tag)
    except InvalidInput as error:
        raise InvalidInput(f"{rows.subject(number)} {error}") from None


def inside_tags(labels: Labels) -> list[int]:
    """Return, for each tag, the tag of the further tokens of a word: `I-PER` for `B-PER`, if it exists."""
    pairs = [("I-" + name[2:] if name.startswith("B-") else name, number) for number, name in enumerate(labels.names)]
    return [labels.names.index(name) if name in labels.names else number for name, number in pairs]


def align_labels(window: Any, tags: Sequence[int], labeled: set[int], inside: Sequence[int] | None) -> list[int]:
    """Return the label of each token of a window: the tag at the first token of each word not in `labeled`.

    Args:
        tags: tag number of each word. labeled: words labeled in earlier windows; the words of this window are added.
        inside: tags of further tokens of a word; None leaves them unlabeled.
    """
    labels, new = [], set[int]()
    for word in window.word_ids:
        first = word is not None and word not in labeled and word not in new
        if first:
            new.add(word)
            labels.append(tags[word])
        elif word in new and inside is not None:
            labels.append(inside[tags[word]])
        else:
            labels.append(IGNORED)
    labeled |= new
    return labels
