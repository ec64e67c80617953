"""Reader of sentence pairs: an anchor with a positive and negatives, or two sentences with a score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput
from ...tokenizers.tokenizer import Tokenizer
from .columns import (
    ReaderOptions,
    chunk_texts,
    column_use,
    cut_note,
    encode_rows,
    find_column,
    list_columns,
    require_column,
    shorten,
    skipped_note,
    truncation,
)
from .features import FeatureBuilder, Features
from .labels import (
    REGRESSION,
    Labels,
    all_numeric,
    label_dtypes,
    label_metadata,
    label_values,
    read_labels,
    whole_number,
)
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
CLASS_COLUMNS = ("label", "labels")  # columns whose whole numbers are classes, if there are more than two
LABEL = (
    "score", "label", "labels", "similarity", "similarity_score", "relatedness_score", "relatedness", "is_duplicate",
)  # fmt: skip
JUDGEMENTS = re.compile(  # columns that judge a pair, by names that do not show the meaning of a high value
    r"(?i:((gold|human|true|mean|average|avg)_)?(label|class|judge?ment|rating|score)s?"
    r"|(is_|are_)?(duplicates?|paraphrases?|similar|related|entailment|match)|entailment_(judge?ment|label|AB|BA)"
    r"|quality|target|relation|verdict)"
)


@dataclass(frozen=True, kw_only=True)
class SentencePairOptions(ReaderOptions):
    """Options of sentence pairs.

    Args:
        text_columns: columns of anchor, positive and negatives, or of two sentences; detected by name when None.
        label_column: column of scores; detected by name when None. labels: has no effect here.
        problem_type: "regression" treats whole numbers, or class numbers of a data set, as scores.
    """

    text_columns: Sequence[str] | None = None
    label_column: str | None = None
    labels: Sequence[str] | None = None
    problem_type: str | None = None


def prepare(source: Any, tokenizer: Tokenizer, options: SentencePairOptions, labels: Labels | None = None) -> Features:
    """Build features with the ids of each text, `input_ids_0`, `input_ids_1`, ..., and `labels` if rows have scores.

    `metadata` has `columns`, the columns of ids in order.

    Args:
        source: any source of `Rows.of`. labels: of the training set, for another set.

    Raises:
        InvalidInput: a missing column, or a missing or invalid text or label, with its row.
    """
    rows = Rows.of(source)
    names = text_columns(rows, options)
    label = label_column_of(rows, names, options)
    labels = None if label is None else labels or labels_of(rows, options)
    use = column_use(
        rows, [*names, label], options, companion_columns(names, label), named=options.text_columns is not None
    )
    count = text_count(rows[0], names)
    own = [f"input_ids_{index}" for index in range(count)]
    builder, cut, length = (
        FeatureBuilder(dict.fromkeys(own, "int32"), label_dtypes(labels)),
        0,
        options.limit(tokenizer),
    )
    for begin, chunk in rows.chunks():
        flat = [flat_texts(rows, number, row, names, count) for number, row in enumerate(chunk, begin)]
        numbers, columns = chunk_texts(rows, begin, flat, own, options.skip_empty)
        columns = [encode_rows(tokenizer, texts, rows, numbers, truncation(tokenizer, length)) for texts in columns]
        for number, *encodings in zip(numbers, *columns, strict=True):
            cut += sum(bool(encoding.overflowing) for encoding in encodings)
            value = {} if labels is None else {"labels": labels.read(rows, number, chunk[number - begin], label or "")}
            builder.add(number, **{name: encoding.ids for name, encoding in zip(own, encodings, strict=True)}, **value)
    metadata = {"columns": tuple(own), **label_metadata(labels)}
    notes = cut_note(cut, len(builder) * count, length) + skipped_note(len(rows) - len(builder), len(rows))
    return builder.build(rows, counted=own, metadata=metadata, notes=notes + use.notes, **use.feature_fields)


def companion_columns(names: Sequence[str], label: str | None) -> re.Pattern[str]:
    """Return a pattern of columns that belong to an example.

    Two sentences without a score are learned as similar, so columns that judge the pair count too.
    """
    pair = label is None and tuple(names) in PAIRS
    return re.compile(f"{COMPANIONS.pattern}|{JUDGEMENTS.pattern}") if pair else COMPANIONS


def label_column_of(rows: Rows, names: Sequence[str], options: SentencePairOptions) -> str | None:
    """Return the column of scores, or None."""
    guesses = [name for name in LABEL if name not in (*names, *options.ignore_columns)]
    return find_column(rows, options.label_column, guesses, "label_column")


def labels_of(source: Any, options: SentencePairOptions) -> Labels | None:
    """Return the labels of a data set with scores; None without scores.

    Raises:
        InvalidInput: a missing column, invalid scores, or classes, whose numbers do not measure similarity.
    """
    rows = Rows.of(source)
    names = text_columns(rows, options)
    label = label_column_of(rows, names, options)
    if label is None:
        return None
    if options.problem_type != REGRESSION:
        values = list(label_values(rows, label))
        wholes = {whole_number(value) for value in values}
        counted = None not in wholes and not any(isinstance(value, float) for value in values)
        classes = options.problem_type or options.labels or rows.classes(label) or not all_numeric(values)
        inferred = {"premise", "hypothesis"} <= set(names) and None not in wholes
        if classes or inferred or (counted and label in CLASS_COLUMNS and len(wholes) > 2):
            raise InvalidInput(
                f"The column {label} of {rows.name} has classes, such as {shorten(values[0])}, and a sentence encoder "
                "learns from scores, higher for more similar texts. Give scores; pass problem_type='regression' if the "
                "numbers are scores; or keep the pairs that belong together and leave it out: "
                f"ignore_columns={[label]!r}. Classes of pairs are learned by text-classification."
            )
    return read_labels(rows, label, None, REGRESSION)


def text_columns(rows: Rows, options: SentencePairOptions) -> list[str]:
    """Return the columns of texts, in order. Raises InvalidInput for fewer than two."""
    if options.text_columns is not None:
        if isinstance(options.text_columns, str) or len(options.text_columns) < 2:
            raise InvalidInput(f"text_columns must be at least two names, not {options.text_columns!r}.")
        return [require_column(rows, name, (), "text_columns") for name in options.text_columns]
    known = [name for name in rows.columns if name not in options.ignore_columns]
    pair = next((pair for pair in PAIRS if set(pair) <= set(known)), None)
    if pair is not None:
        return list(pair)
    anchor = find_column(rows, None, ANCHOR, "text_columns")
    positive = find_column(rows, None, POSITIVE, "text_columns")
    if anchor is None or positive is None:
        raise InvalidInput(
            f"Which columns of {rows.name} are the texts? There are {list_columns(rows)}. Name them in order with "
            "text_columns=[...]: anchor, positive and negatives, or two sentences."
        )
    return [anchor, positive, *sorted(filter(NEGATIVE.fullmatch, known), key=number_suffix)]


def number_suffix(name: str) -> tuple[int, str]:
    """Return a sort key: the number at the end of a name (-1 without one), and the name."""
    digits = re.search(r"\d+$", name)
    return (int(digits[0]) if digits else -1, name)


def text_count(row: Row, names: Sequence[str]) -> int:
    """Return the number of texts of a row; a column may hold a list of texts."""
    return sum(len(row[name]) if isinstance(row.get(name), (list, tuple)) else 1 for name in names)


def flat_texts(rows: Rows, number: int, row: Row, names: Sequence[str], count: int) -> Row:
    """Return the texts of a row as `input_ids_0`, .... Raises InvalidInput unless there are `count` texts."""
    texts: list[Any] = []
    for name in names:
        value = row.get(name)
        texts += value if isinstance(value, (list, tuple)) else [value]
    if len(texts) != count:
        raise InvalidInput(
            f"{rows.subject(number)} has {len(texts)} texts, and the first row {count}: all need as many."
        )
    for value in texts:
        if value is not None and not isinstance(value, (str, float)):
            raise InvalidInput(f"{rows.subject(number)} has a value that is no text: {shorten(value)}.")
    return {f"input_ids_{index}": value for index, value in enumerate(texts)}
