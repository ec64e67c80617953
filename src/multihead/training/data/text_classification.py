"""Reader of text-classification: texts or pairs of texts with a label, several labels, or a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...tokenizers.tokenizer import Tokenizer
from .columns import (
    ReaderOptions,
    chunk_texts,
    column_use,
    cut_note,
    encode_rows,
    find_column,
    require_column,
    skipped_note,
    token_type_column,
    truncation,
)
from .features import FeatureBuilder, Features
from .labels import (
    MULTI_LABEL,
    REGRESSION,
    Labels,
    finite_number,
    label_dtypes,
    label_metadata,
    label_values,
    read_labels,
)
from .source import Rows

TEXT = ("text", "sentence", "sentence1", "premise", "question1", "question", "review", "content", "document")
PAIR = ("text_pair", "sentence2", "hypothesis", "question2")
PAIRS = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("question", "sentence"), ("question", "passage"), ("query", "passage"), ("query", "document"),
    ("question", "answer"), ("sentence_A", "sentence_B"), ("text1", "text2"),
)  # fmt: skip
COMPANIONS = (
    *dict.fromkeys([*TEXT, *PAIR, *(name for pair in PAIRS for name in pair)]), "title", "headline", "subject",
    "context", "sentence3",
)  # fmt: skip
LABEL = ("label", "labels", "target", "class", "category", "sentiment", "score", "stars", "rating")


@dataclass(frozen=True, kw_only=True)
class TextClassificationOptions(ReaderOptions):
    """Options of text-classification.

    Args:
        text_column, pair_column, label_column: detected by name when None. labels: label names of the model, in order.
        problem_type: `problem_type` of a config; detected from the labels when None.
    """

    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    labels: Sequence[str] | None = None
    problem_type: str | None = None


def labels_of(source: Any, options: TextClassificationOptions) -> Labels:
    """Return the labels of a data set; see `labels.read_labels`. Raises InvalidInput."""
    rows = Rows.of(source)
    name = require_column(rows, options.label_column, LABEL, "label_column")
    labels = read_labels(rows, name, options.labels, options.problem_type)
    relevance = labels.kind == REGRESSION and len(labels.names) == 1 and has_relevance(rows, options)
    return replace(labels, kind=MULTI_LABEL) if relevance else labels


def has_relevance(source: Any, options: TextClassificationOptions) -> bool:
    """Return whether the labels of text pairs are numbers in 0..1, which rerankers learn by binary cross-entropy.

    Raises:
        InvalidInput: a missing column or label.
    """
    rows = Rows.of(source)
    name = require_column(rows, options.label_column, LABEL, "label_column")
    if options.problem_type is not None or len(texts_of(rows, options)) < 2 or rows.classes(name):
        return False
    scores = map(finite_number, label_values(rows, name))
    return all(score is not None and 0 <= score <= 1 for score in scores)


def has_labels(rows: Rows, options: TextClassificationOptions) -> bool:
    """Return whether there is a column of labels. Raises InvalidInput if the named column is missing."""
    return find_column(rows, options.label_column, LABEL, "label_column") is not None


def prepare(
    source: Any,
    tokenizer: Tokenizer,
    options: TextClassificationOptions,
    labels: Labels | None = None,
    *,
    require_labels: bool = True,
) -> Features:
    """Build features with `input_ids`, `labels` and, for pairs, `token_type_ids`.

    Args:
        source: any source of `Rows.of`. labels: of the training set, for another set; detected in the data when None.
        require_labels: refuse rows without labels.

    Raises:
        InvalidInput: a missing column, or a missing or invalid text or label, with its row.
    """
    rows = Rows.of(source)
    names = texts_of(rows, options)
    pair = names[1] if len(names) > 1 else None
    find = require_column if require_labels else find_column
    label = find(rows, options.label_column, [name for name in LABEL if name not in names], "label_column")
    labels = None if label is None else (labels or labels_of(rows, options)).for_rows(rows, label)
    use = column_use(rows, [*names, label], options, COMPANIONS, named=options.text_column is not None)
    length = options.limit(tokenizer)
    builder, cut = FeatureBuilder({"input_ids": "int32", **token_type_column(tokenizer)}, label_dtypes(labels)), 0
    for begin, chunk in rows.chunks():
        numbers, texts = chunk_texts(rows, begin, chunk, names, options.skip_empty)
        inputs: list[Any] = texts[0] if pair is None else list(zip(*texts, strict=True))
        encodings = encode_rows(tokenizer, inputs, rows, numbers, truncation(tokenizer, length))
        for number, encoding in zip(numbers, encodings, strict=True):
            cut += bool(encoding.overflowing)
            value = None if labels is None else labels.read(rows, number, chunk[number - begin], label or "")
            builder.add(number, input_ids=encoding.ids, token_type_ids=encoding.type_ids, labels=value)
    notes = cut_note(cut, len(rows), length) + skipped_note(len(rows) - len(builder), len(rows))
    return builder.build(rows, metadata=label_metadata(labels), notes=notes + use.notes, **use.feature_fields)


def texts_of(rows: Rows, options: TextClassificationOptions) -> list[str]:
    """Return the column of texts, or the two columns of text pairs. Raises InvalidInput if there is none."""
    if options.text_column is None and options.pair_column is None:
        known = [name for name in rows.columns if name not in (*options.ignore_columns, options.label_column)]
        if columns := next((pair for pair in PAIRS if set(pair) <= set(known)), None):
            return list(columns)
    name = require_column(
        rows, options.text_column, [name for name in TEXT if name not in options.ignore_columns], "text_column"
    )
    others = [other for other in PAIR if other != name and other not in options.ignore_columns]
    pair = find_column(rows, options.pair_column, others, "pair_column")
    return [name] if pair is None else [name, pair]
