"""Labels of data sets: names, class numbers, lists of either, multi-hot vectors, or scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from ...errors import InvalidInput, nearest
from .columns import require_cell, shorten
from .source import Row, Rows

SINGLE_LABEL, MULTI_LABEL, REGRESSION = KINDS = (
    "single_label_classification", "multi_label_classification", "regression",
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """Label names and problem type of a classifier, and how rows spell the labels.

    Args:
        names: label names in order. kind: the `problem_type`, one of `KINDS`.
        by_name: numbers in the data are names, such as 1 to 5 stars; otherwise 0 is the first label.
        multi_hot: rows give a 0 or 1 for each label. With one multi-label name, rows give a number in 0..1.
        detected: the names come from rows that spell names, in alphabetical order, so numbers in other rows are
            ambiguous.
        classes: names of the numbers in the current rows, if their source knows them; see `for_rows`.
    """

    names: tuple[str, ...]
    kind: str = SINGLE_LABEL
    by_name: bool = False
    multi_hot: bool = False
    detected: bool = False
    classes: tuple[str, ...] = ()

    def for_rows(self, rows: Rows, column: str) -> Labels:
        """Return the same labels with the spelling of the rows of another source."""
        classes = rows.classes(column) or ()
        nameless = is_nameless(self.names) or is_nameless(classes)
        multi_hot = self.multi_hot
        if self.kind == MULTI_LABEL:
            lists = [value for value in label_values(rows, column) if isinstance(value, (list, tuple))]
            twice = any(len({*map(str, one)}) < len(one) for one in lists)
            sure = self.multi_hot or self.detected or twice
            multi_hot = sure and not classes and are_multi_hot(lists, len(self.names))
        return replace(self, classes=() if nameless else tuple(classes), multi_hot=multi_hot)

    def number(self, value: Any) -> int:
        """Return the number of a label. Raises InvalidInput with a message that continues "Row 7 ..."."""
        plain = whole_number(value)
        if isinstance(value, str) and (index := self._index(value)) is not None:
            return index
        if plain is not None and self.classes:
            if not 0 <= plain < len(self.classes):
                raise InvalidInput(f"has the label {plain}, which is not within 0 to {len(self.classes) - 1}.")
            value, plain = self.classes[plain], None
        elif plain is not None and self.by_name:
            value, plain = next((name for name in self.names if whole_number(name) == plain), str(plain)), None
        if plain is None:
            index = self._index(value) if isinstance(value, str) else None
            return index if index is not None else self._refuse(value)
        return self._checked_number(plain)

    def _index(self, name: str) -> int | None:
        """Return the number of the label with this name, ignoring case if that is unambiguous."""
        if name in self.names:
            return self.names.index(name)
        matches = [number for number, own in enumerate(self.names) if own.casefold() == name.strip().casefold()]
        return matches[0] if len(matches) == 1 else None

    def _checked_number(self, plain: int) -> int:
        """Return a number that is no name as a label number. Raises InvalidInput if its meaning is ambiguous."""
        known = list_names(self.names)
        if self.detected:
            raise InvalidInput(
                f"has the label {plain}, and the labels are known by name only: {known}. Write names here too, or "
                "give their order: labels=[...]."
            )
        digit_runs = [re.findall(r"\d+", name) for name in self.names]
        counts = [int(digits[0]) for digits in digit_runs if len(digits) == 1]
        if len({*counts}) == len(self.names) and counts != list(range(len(counts))):
            raise InvalidInput(
                f"has the label {plain}, which may be the number in a label name or the index of a label, of {known}. "
                "Write names."
            )
        if not 0 <= plain < len(self.names):
            raise InvalidInput(f"has the label {plain}, which is not within 0 to {len(self.names) - 1}.")
        return plain

    def _refuse(self, value: Any) -> NoReturn:
        hint = f" {nearest(value, self.names)}" if isinstance(value, str) else ""
        advice = (
            " The rows number their labels by names of their own; where both mean the same, give these in the model's "
            "order: labels=[...]."
            if self.classes
            else ""
        )
        raise InvalidInput(f"has the label {shorten(value)}, which is none of {list_names(self.names)}.{hint}{advice}")

    def value(self, cell: Any) -> Any:
        """Return the loss target of a cell: a class number, a multi-hot vector (labels,), a score or a list of scores.

        Raises:
            InvalidInput: the cell is no such label; the message continues "Row 7 ...".
        """
        if self.kind == REGRESSION:
            return score_value(cell, len(self.names))
        if self.kind == SINGLE_LABEL:
            if isinstance(cell, (list, tuple)):
                raise InvalidInput(f"has several labels, {shorten(cell)}, where one is learned.")
            return self.number(cell)
        if len(self.names) == 1 and not isinstance(cell, (list, tuple)):
            share = score_value(cell, 1)
            if not 0 <= share <= 1:
                raise InvalidInput(f"has the label {shorten(cell)}, which is not a number from 0 to 1.")
            return [share]
        if not isinstance(cell, (list, tuple)):
            raise InvalidInput(f"must have a list of labels, not {shorten(cell)}.")
        if self.multi_hot:
            if len(cell) != len(self.names) or any(v not in (0, 1) for v in cell):
                raise InvalidInput(f"must have {len(self.names)} labels that are 0 or 1, not {shorten(cell)}.")
            return [float(v) for v in cell]
        active = {self.number(v) for v in cell}
        return [float(number in active) for number in range(len(self.names))]

    def read(self, rows: Rows, number: int, row: Row, name: str) -> Any:
        """Return the loss target in a row. Raises InvalidInput, naming the row."""
        cell = require_cell(rows, number, row, name)
        try:
            return self.value(cell)
        except InvalidInput as error:
            raise InvalidInput(f"{rows.subject(number)} {error}") from None


def list_names(names: Sequence[str]) -> str:
    """Return the first eight names, quoted, for a message."""
    return ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")


def is_nameless(names: Sequence[str]) -> bool:
    """Return whether the names are the default names LABEL_0, LABEL_1, ... of a config."""
    return all(name == f"LABEL_{number}" for number, name in enumerate(names))


def names_of(config: Any) -> tuple[str, ...]:
    """Return the label names of a config, in order."""
    names = config.id2label or {}
    return tuple(str(names[number]) for number in sorted(names))


def is_subset(names: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether all names are among the others, ignoring case; False if case makes names ambiguous."""
    own, known = ([name.strip().casefold() for name in each] for each in (names, others))
    return set(own) <= set(known) and len(set(own)) == len(own) and len(set(known)) == len(known)


def labels_from_names(names: Sequence[str], kind: str = SINGLE_LABEL, **fields: Any) -> Labels:
    """Build labels with known names. If all names are whole numbers, numbers in the data are names."""
    numbers = [whole_number(name) for name in names]
    by_name = len(names) > 0 and None not in numbers and len({*numbers}) == len(numbers)
    return Labels(tuple(map(str, names)), kind, by_name, **fields)


def label_dtypes(labels: Labels | None) -> dict[str, str]:
    """Return the label column and its dtype; an empty dict without labels."""
    return {} if labels is None else {"labels": "int64" if labels.kind == SINGLE_LABEL else "float32"}


def label_metadata(labels: Labels | None) -> dict[str, Any]:
    """Return the label metadata of features; an empty dict without labels."""
    return {} if labels is None else {"labels": labels.names, "problem_type": labels.kind}


def read_labels(rows: Rows, name: str, known: Sequence[str] | None, kind: str | None) -> Labels:
    """Detect the labels of a column.

    Args:
        known: label names in order. Default: the names of the source, else the sorted names in the rows. Whole
            numbers 0, 1, 2, ... without a gap are label numbers; other numbers are names.
        kind: the problem_type. Default: detected from scores and lists.

    Raises:
        InvalidInput: the labels are inconsistent, or all rows have the same label.
    """
    if kind is not None and kind not in KINDS:
        raise InvalidInput(f"problem_type is one of {', '.join(KINDS)}, not {kind!r}.")
    classes = rows.classes(name) or ()
    known = tuple(map(str, known or classes))
    values = list(label_values(rows, name))
    are_lists = all(isinstance(value, (list, tuple)) for value in values)
    if kind == REGRESSION or (kind is None and not are_lists and len(known) < 2 and are_scores(values)):
        width = max(len(value) for value in values) if are_lists else 1
        return Labels(known or tuple(f"LABEL_{i}" for i in range(width)), REGRESSION)
    if are_lists and kind != SINGLE_LABEL:
        size = len(known) or max(map(len, values))
        if not classes and are_multi_hot(values, size):
            return Labels(known or tuple(f"LABEL_{i}" for i in range(size)), MULTI_LABEL, multi_hot=True)
        labels = (
            labels_from_names(known, MULTI_LABEL)
            if known
            else infer_labels((v for value in values for v in value), MULTI_LABEL)
        )
        return labels.for_rows(rows, name)
    labels = labels_from_names(known, kind or SINGLE_LABEL) if known else infer_labels(values, kind or SINGLE_LABEL)
    if len(labels.names) < 2:
        raise InvalidInput(
            f"All of {rows.name} has the label {shorten(values[0])}: there is nothing to learn. For another set "
            "than the training set, give the labels of that one."
        )
    return labels


def are_multi_hot(values: Sequence[Any], size: int) -> bool:
    """Return whether all values are lists of `size` numbers that are 0 or 1."""
    return bool(values) and all(
        len(value) == size and all(v in (0, 1) and not isinstance(v, str) for v in value) for value in values
    )


def label_values(rows: Rows, name: str) -> Iterator[Any]:
    """Yield the cell of each row. Raises InvalidInput, naming the row, for a missing or empty cell."""
    for begin, chunk in rows.chunks():
        for number, row in enumerate(chunk, begin):
            value = require_cell(rows, number, row, name)
            if isinstance(value, str) and not value.strip():
                raise InvalidInput(
                    f"{rows.subject(number)} has an empty {name}, which is no label. Correct or remove the row."
                )
            yield value


def infer_labels(values: Iterable[Any], kind: str = SINGLE_LABEL) -> Labels:
    """Build labels from the sorted distinct values; whole numbers 0, 1, 2, ... without a gap are label numbers."""
    distinct = {value if isinstance(value, str) else whole_number(value) for value in values}
    numbers = {whole_number(value) for value in distinct}
    if None in numbers:
        mixed = any(isinstance(value, int) for value in distinct)
        return Labels(tuple(sorted(map(str, distinct))), kind, by_name=mixed, detected=True)
    ordered = sorted(number for number in numbers if number is not None)
    if ordered == list(range(len(ordered))):
        return Labels(tuple(f"LABEL_{number}" for number in ordered), kind)
    if len(ordered) > 3 and ordered == list(range(-1, len(ordered) - 1)):
        raise InvalidInput(
            f"The labels are 0 to {ordered[-1]}, and -1, which marks rows without a label in many data sets. Leave "
            f"such rows out; or, where -1 is a label, pass labels={list(map(str, ordered))}."
        )
    return Labels(tuple(map(str, ordered)), kind, by_name=True)


def whole_number(value: Any) -> int | None:
    """Return a whole number given as 1, 1.0 or "1"; None for anything else."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*-?\d+\s*", value) else None
    try:
        return int(value) if int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        return None


def are_scores(values: Sequence[Any]) -> bool:
    """Return whether values are scores: floats, or strings of numbers of which one is no whole number."""
    if all(isinstance(value, str) for value in values):
        return any(whole_number(value) is None for value in values) and all(
            finite_number(value) is not None for value in values
        )
    return any(
        isinstance(value, float) or getattr(getattr(value, "dtype", None), "kind", "") == "f" for value in values
    )


def all_numeric(values: Iterable[Any]) -> bool:
    """Return whether all values are finite numbers, or strings of such."""
    return all(finite_number(value) is not None for value in values)


def finite_number(value: Any) -> float | None:
    """Return a value as a finite float; None for anything else."""
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        return None
    return parsed if abs(parsed) < float("inf") else None


def score_value(value: Any, count: int) -> Any:
    """Return a score, or a list of `count` scores. Raises InvalidInput with a message that continues "Row 7 ..."."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    scores = [finite_number(each) for each in values]
    if len(scores) != count or None in scores:
        what = "a number" if count == 1 else f"{count} numbers"
        raise InvalidInput(f"must have {what} as its label, not {shorten(value)}.")
    return scores[0] if count == 1 else scores
