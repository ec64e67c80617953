"""text-classification: texts or pairs of texts with a label, several labels, or a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...tokenizers.tokenizer import Tokenizer
from .features import Builder, Features
from .labels import REGRESSION, SEVERAL, Labels, facts_of, kinds_of, labels_in, number, values_of
from .reading import Reading, column, cut_note, encoded, limits, maybe, skipped_note, taken, texts, typed
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
class Options(Reading):
    """Of text-classification.

    Args:
        text_column, pair_column, label_column: guessed when left out. labels: the model's names, in order.
        problem_type: as a config names it; told from the labels when left out.
    """

    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    labels: Sequence[str] | None = None
    problem_type: str | None = None


def labels_of(source: Any, options: Options) -> Labels:
    """The labels of a data set; see `labels.labels_in`. Raises InvalidInput."""
    rows = Rows.of(source)
    name = column(rows, options.label_column, LABEL, "label_column")
    found = labels_in(rows, name, options.labels, options.problem_type)
    relevance = found.kind == REGRESSION and len(found.names) == 1 and has_relevance(rows, options)
    return replace(found, kind=SEVERAL) if relevance else found


def has_relevance(source: Any, options: Options) -> bool:
    """Whether the labels of text pairs are numbers from 0 to 1, which rerankers learn by binary cross-entropy.

    Raises:
        InvalidInput: columns or labels that are not there.
    """
    rows = Rows.of(source)
    name = column(rows, options.label_column, LABEL, "label_column")
    if options.problem_type is not None or len(texts_of(rows, options)) < 2 or rows.classes(name):
        return False
    found = map(number, values_of(rows, name))
    return all(value is not None and 0 <= value <= 1 for value in found)


def has_labels(rows: Rows, options: Options) -> bool:
    """Whether there is a column of labels. Raises InvalidInput where one was asked for and is not there."""
    return maybe(rows, options.label_column, LABEL, "label_column") is not None


def prepare(
    source: Any, tokenizer: Tokenizer, options: Options, labels: Labels | None = None, *, answers: bool = True
) -> Features:
    """Features with `input_ids`, `labels` and, of pairs, `token_type_ids`; `facts` has `labels` and `problem_type`.

    Args:
        source: of `Rows.of`. labels: of the training set, for another set; found in the data when left out.
        answers: whether there must be labels.

    Raises:
        InvalidInput: columns, texts or labels that are not there or cannot be, with their row.
    """
    rows = Rows.of(source)
    names = texts_of(rows, options)
    pair = names[1] if len(names) > 1 else None
    find = column if answers else maybe
    answer = find(rows, options.label_column, [name for name in LABEL if name not in names], "label_column")
    labels = None if answer is None else (labels or labels_of(rows, options)).of(rows, answer)
    used = taken(rows, [*names, answer], options, COMPANIONS, named=options.text_column is not None)
    length = options.limit(tokenizer)
    builder, cut = Builder({"input_ids": "int32", **typed(tokenizer)}, kinds_of(labels)), 0
    for begin, chunk in rows.chunks():
        numbers, found = texts(rows, begin, chunk, names, options.skip_empty)
        inputs: list[Any] = found[0] if pair is None else list(zip(*found, strict=True))
        made = encoded(tokenizer, inputs, rows, numbers, limits(tokenizer, length))
        for place, one in zip(numbers, made, strict=True):
            cut += bool(one.overflowing)
            value = None if labels is None else labels.read(rows, place, chunk[place - begin], answer or "")
            builder.add(place, input_ids=one.ids, token_type_ids=one.type_ids, labels=value)
    notes = cut_note(cut, len(rows), length) + skipped_note(len(rows) - len(builder), len(rows))
    return builder.done(rows, facts=facts_of(labels), notes=notes + used.notes, **used.told)


def texts_of(rows: Rows, options: Options) -> list[str]:
    """The columns of a text, or of two that are read together. Raises InvalidInput where there is none."""
    if options.text_column is None and options.pair_column is None:
        known = [name for name in rows.columns if name not in (*options.ignore_columns, options.label_column)]
        if pair := next((pair for pair in PAIRS if set(pair) <= set(known)), None):
            return list(pair)
    name = column(
        rows, options.text_column, [name for name in TEXT if name not in options.ignore_columns], "text_column"
    )
    others = [other for other in PAIR if other != name and other not in options.ignore_columns]
    pair_ = maybe(rows, options.pair_column, others, "pair_column")
    return [name] if pair_ is None else [name, pair_]
