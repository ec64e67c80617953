"""Sequence to sequence: a source and the target that shall be written for it, in the languages of a translator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput, nearest
from ...tokenizers.core import TokenizerCore
from ...tokenizers.languages import LanguageFrame, language_frame
from ...tokenizers.tokenizer import Tokenizer
from .features import Builder, Features
from .reading import Reading, cell, column, cut_note, encoded, limits, maybe, short, skipped_note, taken, told
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
class Options(Reading):
    """Of encoder-decoders.

    Args:
        max_length: tokens of a source. max_target_length: of a target; as of a source, when left out.
        source_column, target_column: guessed when left out. prefix: before each source, such as T5's "summarize: ".
        source_lang, target_lang: of translators of several languages, and of a column of translations, whose keys or
            columns they name.
    """

    max_target_length: int | None = None
    source_column: str | None = None
    target_column: str | None = None
    source_lang: str | None = None
    target_lang: str | None = None
    prefix: str = ""


def prepare(source: Any, tokenizer: Tokenizer, options: Options, *, answers: bool = True) -> Features:
    """Features with `input_ids` of the source and `labels` of the target, each with its special tokens.

    Args:
        answers: whether there must be targets; without a column of them there are no `labels`.

    Raises:
        InvalidInput: columns, languages or texts that are not there, with their row.
    """
    rows = Rows.of(source)
    names = columns(rows, options, answers=answers)
    lengths = (options.limit(tokenizer), Reading(
        max_length=options.max_target_length or options.max_length, positions=options.positions
    ).limit(tokenizer))  # fmt: skip
    sides = (tokenizer, tokenizer.target or tokenizer)
    frames = (language_frame(tokenizer, options.source_lang, options.target_lang), target_frame(tokenizer, options))
    own = ("input_ids", "labels")[: len(names)]
    builder = Builder(dict.fromkeys(own, "int32"))
    named = options.source_column is not None and (options.target_column is not None or not answers)
    used = taken(rows, names, options, COMPANIONS, named=named)
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
        both = []
        for side in range(len(names)):
            texts = [pair[side] for pair in pairs]
            found, over = framed(sides[side], texts, frames[side], lengths[side], rows, numbers)
            cut[side] += over
            both.append(found)
        for number, *ids in zip(numbers, *both, strict=True):
            builder.add(number, **dict(zip(own, ids, strict=True)))
    notes = [
        *cut_note(cut[0], len(rows), lengths[0], "sources"), *cut_note(cut[1], len(rows), lengths[1], "targets"),
        *skipped_note(skipped, len(rows)), *told(several, len(rows), "rows have several targets; the first counts."),
    ]  # fmt: skip
    return builder.done(rows, counted=own, notes=notes + used.notes, **used.told)


def columns(rows: Rows, options: Options, *, answers: bool = True) -> tuple[str, ...]:
    """The columns of sources and targets; twice the same for a column of translations. Raises InvalidInput.

    Args:
        answers: whether there must be targets; else that of sources alone where there are none.
    """
    if options.source_column is None and options.target_column is None:
        if TRANSLATION in rows.columns:
            return (TRANSLATION,) * (2 if answers or len(rows[0][TRANSLATION]) > 1 else 1)
        if options.source_lang in rows.columns and options.target_lang in rows.columns:
            return str(options.source_lang), str(options.target_lang)
        if options.source_lang in rows.columns and not answers:
            return (str(options.source_lang),)
        found = next((pair for pair in PAIRS if set(pair) <= set(rows.columns)), None)
        if found is not None:
            return found
    source = column(rows, options.source_column, tuple(dict.fromkeys(a for a, _ in PAIRS)), "source_column")
    targets = tuple(name for name in dict.fromkeys(b for _, b in PAIRS) if name != source)
    target = (column if answers else maybe)(rows, options.target_column, targets, "target_column")
    return (source,) if target is None else (source, target)


def pair_of(
    rows: Rows, number: int, row: Row, names: tuple[str, ...], options: Options
) -> tuple[tuple[str, ...] | None, bool]:
    """(source, target) of a row, or (source,); None for an empty one that is skipped; whether targets are several."""
    values = [cell(rows, number, row, name) if not options.skip_empty else row.get(name) for name in names]
    if isinstance(values[0], Mapping):
        keys = languages(rows, number, values[0], (options.source_lang, options.target_lang)[: len(names)])
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
            raise InvalidInput(f"{rows.at(number)} has a {name} that is no text: {short(value)}.")
        if options.skip_empty:
            return None, False
        raise InvalidInput(
            f"{rows.at(number)} has an empty {name}. Fill it, or leave such rows out with skip_empty=True."
        )
    return tuple(map(str, values)), several


def languages(rows: Rows, number: int, found: Mapping[str, Any], asked: tuple[str | None, ...]) -> tuple[str, ...]:
    """The keys of a row's translations. Raises InvalidInput where they are not said or not there."""
    if None in asked:
        raise InvalidInput(f"Rows have {', '.join(found)}: say which is which with source_lang and target_lang.")
    keys = []
    for language in map(str, asked):
        short_ = language.strip("_><").split("_")[0]
        key = language if language in found else short_
        if key not in found:
            raise InvalidInput(f"{rows.at(number)} has no translation {language!r}. {nearest(language, found)}")
        keys.append(key)
    return tuple(keys)


def target_frame(tokenizer: Tokenizer, options: Options) -> LanguageFrame:
    """What stands around a target: its language where the source has its own there (arXiv:2008.00401)."""
    if (
        options.target_lang is None
        or language_frame(tokenizer, options.source_lang, options.target_lang).before is None
    ):
        return LanguageFrame()
    return language_frame(tokenizer, options.target_lang, options.source_lang or options.target_lang)


def framed(
    side: TokenizerCore, texts: Sequence[str], around: LanguageFrame, length: int, rows: Rows, numbers: Sequence[int]
) -> tuple[list[list[int]], int]:
    """The ids of texts with what stands around them, and how many were cut."""
    if around.before is None:
        made = encoded(side, texts, rows, numbers, limits(side, length) | {"direction": "right"})
        return [list(one.ids) for one in made], sum(bool(one.overflowing) for one in made)
    room = length - len(around.before) - len(around.after)
    found = side.encode_ids(texts, special=False)
    return [[*around.before, *ids[:room], *around.after] for ids in found], sum(len(ids) > room for ids in found)
