"""Sentence encoders: an anchor with what is like it and what is not, or two sentences with a score or a label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput
from ...tokenizers.tokenizer import Tokenizer
from .features import Builder, Features
from .labels import REGRESSION, Labels, facts_of, kinds_of, labels_in, numeric, values_of, whole
from .reading import Reading, column, cut_note, encoded, limits, listed, maybe, short, skipped_note, taken, texts
from .source import Row, Rows

ANCHOR = ("anchor", "query", "question")
POSITIVE = ("positive", "pos", "answer", "passage", "document")
NEGATIVE = re.compile(r"(hard_)?neg(ative)?s?(_?\d+)?")
PAIRS = (
    ("sentence1", "sentence2"), ("sentence_A", "sentence_B"), ("text1", "text2"), ("premise", "hypothesis"),
    ("question1", "question2"), ("text", "text_pair"),
)  # fmt: skip
COMPANIONS = re.compile(
    "|".join([NEGATIVE.pattern, *ANCHOR, *POSITIVE, r"(sentence|text|question|passage|document)_?([0-9]+|[A-Z])",
              "premise", "hypothesis", "text_pair", "title", "context", "instruction"])
)  # fmt: skip
CLASSES = ("label", "labels")  # columns whose whole numbers are those of classes, when there are more than two
LABEL = (
    "score", "label", "labels", "similarity", "similarity_score", "relatedness_score", "relatedness", "is_duplicate",
)  # fmt: skip
JUDGED = re.compile(  # columns that say how two texts belong together, by names that do not say which way
    r"(?i:((gold|human|true|mean|average|avg)_)?(label|class|judge?ment|rating|score)s?"
    r"|(is_|are_)?(duplicates?|paraphrases?|similar|related|entailment|match)|entailment_(judge?ment|label|AB|BA)"
    r"|quality|target|relation|verdict)"
)


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Of sentence encoders.

    Args:
        text_columns: of the texts in order: anchor, positive and negatives, or two sentences; guessed when left out.
        label_column: of scores; guessed when left out. labels: has no meaning here.
        problem_type: "regression" says that whole numbers, or a data set's own for its classes, are scores.
    """

    text_columns: Sequence[str] | None = None
    label_column: str | None = None
    labels: Sequence[str] | None = None
    problem_type: str | None = None


def prepare(source: Any, tokenizer: Tokenizer, options: Options, labels: Labels | None = None) -> Features:
    """Features with the ids of each text, `input_ids_0`, `input_ids_1`, ..., and `labels` where rows have any.

    `facts` has `columns`, those of ids in order, and of labels `labels` and `problem_type`.

    Args:
        source: of `Rows.of`. labels: of the training set, for another set.

    Raises:
        InvalidInput: columns, texts or labels that are not there or cannot be, with their row.
    """
    rows = Rows.of(source)
    names = columns(rows, options)
    answer = answer_of(rows, names, options)
    labels = None if answer is None else labels or labels_of(rows, options)
    used = taken(rows, [*names, answer], options, companions(names, answer), named=options.text_columns is not None)
    count = width(rows[0], names)
    own = [f"input_ids_{place}" for place in range(count)]
    builder, cut, length = Builder(dict.fromkeys(own, "int32"), kinds_of(labels)), 0, options.limit(tokenizer)
    for begin, chunk in rows.chunks():
        flat = [spread(rows, number, row, names, count) for number, row in enumerate(chunk, begin)]
        numbers, found = texts(rows, begin, flat, own, options.skip_empty)
        each = [encoded(tokenizer, column_, rows, numbers, limits(tokenizer, length)) for column_ in found]
        for number, *made in zip(numbers, *each, strict=True):
            cut += sum(bool(one.overflowing) for one in made)
            value = {} if labels is None else {"labels": labels.read(rows, number, chunk[number - begin], answer or "")}
            builder.add(number, **{name: one.ids for name, one in zip(own, made, strict=True)}, **value)
    facts = {"columns": tuple(own), **facts_of(labels)}
    notes = cut_note(cut, len(builder) * count, length) + skipped_note(len(rows) - len(builder), len(rows))
    return builder.done(rows, counted=own, facts=facts, notes=notes + used.notes, **used.told)


def companions(names: Sequence[str], answer: str | None) -> re.Pattern[str]:
    """Columns that belong to an example. Two sentences without a score are learned as alike, whatever judges them."""
    pair = answer is None and tuple(names) in PAIRS
    return re.compile(f"{COMPANIONS.pattern}|{JUDGED.pattern}") if pair else COMPANIONS


def answer_of(rows: Rows, names: Sequence[str], options: Options) -> str | None:
    """The column of scores or labels, if there is one."""
    guesses = [name for name in LABEL if name not in (*names, *options.ignore_columns)]
    return maybe(rows, options.label_column, guesses, "label_column")


def labels_of(source: Any, options: Options) -> Labels | None:
    """The scores of a data set, None where it has none.

    Raises:
        InvalidInput: columns that are not there, scores that cannot be, or classes: how alike two texts are cannot be
            read from the number of a class.
    """
    rows = Rows.of(source)
    names = columns(rows, options)
    answer = answer_of(rows, names, options)
    if answer is None:
        return None
    if options.problem_type != REGRESSION:
        values = list(values_of(rows, answer))
        wholes = {whole(value) for value in values}
        counted = None not in wholes and not any(isinstance(value, float) for value in values)
        classes = options.problem_type or options.labels or rows.classes(answer) or not numeric(values)
        inferred = {"premise", "hypothesis"} <= set(names) and None not in wholes
        if classes or inferred or (counted and answer in CLASSES and len(wholes) > 2):
            raise InvalidInput(
                f"The column {answer} of {rows.name} has classes, such as {short(values[0])}, and a sentence encoder "
                "learns from scores, the higher the more alike. Give scores; say problem_type='regression' where the "
                "numbers are some; or keep the pairs that belong together and leave it out: "
                f"ignore_columns={[answer]!r}. Classes of pairs are learned by text-classification."
            )
    return labels_in(rows, answer, None, REGRESSION)


def columns(rows: Rows, options: Options) -> list[str]:
    """The columns of texts, in order. Raises InvalidInput where there are not at least two."""
    if options.text_columns is not None:
        if isinstance(options.text_columns, str) or len(options.text_columns) < 2:
            raise InvalidInput(f"text_columns are at least two names, not {options.text_columns!r}.")
        return [column(rows, name, (), "text_columns") for name in options.text_columns]
    known = [name for name in rows.columns if name not in options.ignore_columns]
    pair = next((pair for pair in PAIRS if set(pair) <= set(known)), None)
    if pair is not None:
        return list(pair)
    anchor = maybe(rows, None, ANCHOR, "text_columns")
    positive = maybe(rows, None, POSITIVE, "text_columns")
    if anchor is None or positive is None:
        raise InvalidInput(
            f"Which columns of {rows.name} are the texts? There are {listed(rows)}. Say them in order with "
            "text_columns=[...]: anchor, positive and negatives, or two sentences."
        )
    return [anchor, positive, *sorted(filter(NEGATIVE.fullmatch, known), key=natural)]


def natural(name: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", name)
    return (int(digits[0]) if digits else -1, name)


def width(row: Row, names: Sequence[str]) -> int:
    """Texts of a row; a column may hold a list of them."""
    return sum(len(row[name]) if isinstance(row.get(name), (list, tuple)) else 1 for name in names)


def spread(rows: Rows, number: int, row: Row, names: Sequence[str], count: int) -> Row:
    """A row's texts under `input_ids_0`, .... Raises InvalidInput for another number than the first row's."""
    found: list[Any] = []
    for name in names:
        value = row.get(name)
        found += value if isinstance(value, (list, tuple)) else [value]
    if len(found) != count:
        raise InvalidInput(f"{rows.at(number)} has {len(found)} texts, and the first row {count}: each needs as many.")
    for value in found:
        if value is not None and not isinstance(value, (str, float)):
            raise InvalidInput(f"{rows.at(number)} has a text that is none: {short(value)}.")
    return {f"input_ids_{place}": value for place, value in enumerate(found)}
