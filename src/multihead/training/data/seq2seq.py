"""Reader of sequence-to-sequence data: a source and a target text, with the languages of a translation model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput, nearest
from ...tokenizers.core import TokenizerCore
from ...tokenizers.languages import LanguageFrame, language_frame
from ...tokenizers.tokenizer import Tokenizer
from .columns import (
    ReaderOptions,
    column_use,
    count_note,
    cut_note,
    encode_rows,
    find_column,
    require_cell,
    require_column,
    shorten,
    skipped_note,
    truncation,
)
from .features import FeatureBuilder, Features
from .source import Row, Rows

PAIRS = (
    ("source", "target"), ("text", "summary"), ("document", "summary"), ("dialogue", "summary"),
    ("article", "highlights"), ("src", "tgt"), ("input", "output"), ("text", "target"), ("text", "label"),
)  # fmt: skip
COMPANIONS = (
    "system",
    "system_prompt",
    "instruction",
    "instructions",
    "prompt",
    "context",
    "question",
    "input",
    "inputs",
)
TRANSLATION = "translation"


@dataclass(frozen=True, kw_only=True)
class Seq2SeqOptions(ReaderOptions):
    """Options of sequence-to-sequence data.

    Args:
        max_length: maximum tokens of a source. max_target_length: of a target; `max_length` when None.
        source_column, target_column: detected by name when None. prefix: put before each source, such as T5's
            "summarize: ".
        source_lang, target_lang: languages of a multilingual model; they also name the keys of a `translation` column,
            or the two columns.
    """

    max_target_length: int | None = None
    source_column: str | None = None
    target_column: str | None = None
    source_lang: str | None = None
    target_lang: str | None = None
    prefix: str = ""


def prepare(source: Any, tokenizer: Tokenizer, options: Seq2SeqOptions, *, require_labels: bool = True) -> Features:
    """Build features with `input_ids` of the source and `labels` of the target, each with special tokens.

    Args:
        require_labels: refuse rows without targets; otherwise rows without targets have no `labels`.

    Raises:
        InvalidInput: a missing column, language or text, with its row.
    """
    rows = Rows.of(source)
    names = source_and_target(rows, options, require_labels=require_labels)
    lengths = (options.limit(tokenizer), ReaderOptions(
        max_length=options.max_target_length or options.max_length, positions=options.positions
    ).limit(tokenizer))  # fmt: skip
    sides = (tokenizer, tokenizer.target or tokenizer)
    frames = (language_frame(tokenizer, options.source_lang, options.target_lang), target_frame(tokenizer, options))
    own = ("input_ids", "labels")[: len(names)]
    builder = FeatureBuilder(dict.fromkeys(own, "int32"))
    named = options.source_column is not None and (options.target_column is not None or not require_labels)
    use = column_use(rows, names, options, COMPANIONS, named=named)
    cut, several, skipped = [0, 0], 0, 0
    for begin, chunk in rows.chunks():
        numbers: list[int] = []
        pairs: list[tuple[str, ...]] = []
        for number, row in enumerate(chunk, begin):
            pair, more = pair_of(rows, number, row, names, options)
            several += more
            if pair is None:
                skipped += 1
                continue
            numbers.append(number)
            pairs.append((frames[0].text + options.prefix + pair[0], *pair[1:]))
        columns = []
        for side in range(len(names)):
            texts = [pair[side] for pair in pairs]
            ids, count = encode_side(sides[side], texts, frames[side], lengths[side], rows, numbers)
            cut[side] += count
            columns.append(ids)
        for number, *ids in zip(numbers, *columns, strict=True):
            builder.add(number, **dict(zip(own, ids, strict=True)))
    notes = [
        *cut_note(cut[0], len(rows), lengths[0], "sources"), *cut_note(cut[1], len(rows), lengths[1], "targets"),
        *skipped_note(skipped, len(rows)),
        *count_note(several, len(rows), "rows have several targets; only the first is used."),
    ]  # fmt: skip
    return builder.build(rows, counted=own, notes=notes + use.notes, **use.feature_fields)


def source_and_target(rows: Rows, options: Seq2SeqOptions, *, require_labels: bool = True) -> tuple[str, ...]:
    """Return the columns of sources and targets; a `translation` column holds both.

    Args:
        require_labels: a target column must exist; otherwise the result may be the source column alone.

    Raises:
        InvalidInput: a missing column.
    """
    if options.source_column is None and options.target_column is None:
        if TRANSLATION in rows.columns:
            return (TRANSLATION,) * (2 if require_labels or len(rows[0][TRANSLATION]) > 1 else 1)
        if options.source_lang in rows.columns and options.target_lang in rows.columns:
            return str(options.source_lang), str(options.target_lang)
        if options.source_lang in rows.columns and not require_labels:
            return (str(options.source_lang),)
        pair = next((pair for pair in PAIRS if set(pair) <= set(rows.columns)), None)
        if pair is not None:
            return pair
    source = require_column(rows, options.source_column, tuple(dict.fromkeys(a for a, _ in PAIRS)), "source_column")
    targets = tuple(name for name in dict.fromkeys(b for _, b in PAIRS) if name != source)
    target = (require_column if require_labels else find_column)(rows, options.target_column, targets, "target_column")
    return (source,) if target is None else (source, target)


def pair_of(
    rows: Rows, number: int, row: Row, names: tuple[str, ...], options: Seq2SeqOptions
) -> tuple[tuple[str, ...] | None, bool]:
    """Return (source, target) or (source,) of a row, and whether the row has several targets; None to skip the row."""
    values = [require_cell(rows, number, row, name) if not options.skip_empty else row.get(name) for name in names]
    if isinstance(values[0], Mapping):
        keys = language_keys(rows, number, values[0], (options.source_lang, options.target_lang)[: len(names)])
        values, names = [values[0].get(key) for key in keys], keys
    several = isinstance(values[-1], (list, tuple)) and len(names) > 1 and len(values[-1]) > 1
    if isinstance(values[0], (list, tuple)):
        values[0] = " ".join(map(str, values[0]))
    if isinstance(values[-1], (list, tuple)):
        values[-1] = values[-1][0] if values[-1] else ""
    for name, value in zip(names, values, strict=True):
        if isinstance(value, str) and value.strip():
            continue
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"{rows.subject(number)} has a {name} that is no text: {shorten(value)}.")
        if options.skip_empty:
            return None, False
        raise InvalidInput(
            f"{rows.subject(number)} has an empty {name}. Fill it, or leave such rows out with skip_empty=True."
        )
    return tuple(map(str, values)), several


def language_keys(
    rows: Rows, number: int, translations: Mapping[str, Any], languages: tuple[str | None, ...]
) -> tuple[str, ...]:
    """Return the keys of the translations of a row. Raises InvalidInput for an unnamed or missing language."""
    if None in languages:
        raise InvalidInput(f"Rows have {', '.join(translations)}: name them with source_lang and target_lang.")
    keys = []
    for language in map(str, languages):
        code = language.strip("_><").split("_")[0]
        key = language if language in translations else code
        if key not in translations:
            raise InvalidInput(
                f"{rows.subject(number)} has no translation {language!r}. {nearest(language, translations)}"
            )
        keys.append(key)
    return tuple(keys)


def target_frame(tokenizer: Tokenizer, options: Seq2SeqOptions) -> LanguageFrame:
    """Return the tokens around a target: its language code if sources have one too (arXiv:2008.00401)."""
    if (
        options.target_lang is None
        or language_frame(tokenizer, options.source_lang, options.target_lang).before is None
    ):
        return LanguageFrame()
    return language_frame(tokenizer, options.target_lang, options.source_lang or options.target_lang)


def encode_side(
    side: TokenizerCore, texts: Sequence[str], around: LanguageFrame, length: int, rows: Rows, numbers: Sequence[int]
) -> tuple[list[list[int]], int]:
    """Return the ids of texts with the tokens around them, and the number of texts that were cut."""
    if around.before is None:
        encodings = encode_rows(side, texts, rows, numbers, truncation(side, length) | {"direction": "right"})
        return [list(encoding.ids) for encoding in encodings], sum(bool(encoding.overflowing) for encoding in encodings)
    room = length - len(around.before) - len(around.after)
    encoded = side.encode_ids(texts, special=False)
    return [[*around.before, *ids[:room], *around.after] for ids in encoded], sum(len(ids) > room for ids in encoded)
