"""Labels as data sets write them: names, whole numbers, several of either, vectors of 0 and 1, scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput, nearest
from .reading import cell, short
from .source import Row, Rows

SINGLE, SEVERAL, REGRESSION = KINDS = (
    "single_label_classification", "multi_label_classification", "regression",
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """What a classifier must know of its labels.

    Args:
        names: in order. kind: the `problem_type`, one of `KINDS`. by_name: numbers in the data are names, such as 1 to
            5 stars; else 0 is the first label. vectors: several labels are given as a 0 or 1 for each.
    """

    names: tuple[str, ...]
    kind: str = SINGLE
    by_name: bool = False
    vectors: bool = False

    def number(self, value: Any) -> int:
        """The number of a label. Raises InvalidInput, whose message goes on after "Row 7"."""
        plain = whole(value)
        name = str(plain) if self.by_name and plain is not None else value
        if isinstance(name, str) and name in self.names:
            return self.names.index(name)
        if plain is None or self.by_name:
            known = ", ".join(map(repr, self.names[:8])) + (", ..." if len(self.names) > 8 else "")
            hint = f" {nearest(value, self.names)}" if isinstance(value, str) else ""
            raise InvalidInput(f"has the label {short(value)}, which is none of {known}.{hint}")
        if not 0 <= plain < len(self.names):
            raise InvalidInput(f"has the label {plain}, which is not within 0 to {len(self.names) - 1}.")
        return plain

    def value(self, found: Any) -> Any:
        """What a loss takes: a number, a vector (labels,) of 0 and 1, a score or scores. Raises InvalidInput."""
        if self.kind == REGRESSION:
            return scores(found, len(self.names))
        if self.kind == SINGLE:
            if isinstance(found, (list, tuple)):
                raise InvalidInput(f"has several labels, {short(found)}, where one is learned.")
            return self.number(found)
        if not isinstance(found, (list, tuple)):
            raise InvalidInput(f"must have a list of labels, not {short(found)}.")
        if self.vectors:
            if len(found) != len(self.names) or any(v not in (0, 1) for v in found):
                raise InvalidInput(f"must have {len(self.names)} labels that are 0 or 1, not {short(found)}.")
            return [float(v) for v in found]
        own = {self.number(v) for v in found}
        return [float(number in own) for number in range(len(self.names))]

    def read(self, rows: Rows, number: int, row: Row, name: str) -> Any:
        """The value of a row's cell. Raises InvalidInput with the row."""
        found = cell(rows, number, row, name)
        try:
            return self.value(found)
        except InvalidInput as error:
            raise InvalidInput(f"{rows.at(number)} {error}") from None


def kinds_of(labels: Labels | None) -> dict[str, str]:
    """The column of labels with its dtype; none without labels."""
    return {} if labels is None else {"labels": "int64" if labels.kind == SINGLE else "float32"}


def facts_of(labels: Labels | None) -> dict[str, Any]:
    """What a model must know of labels."""
    return {} if labels is None else {"labels": labels.names, "problem_type": labels.kind}


def labels_in(rows: Rows, name: str, known: Sequence[str] | None, kind: str | None) -> Labels:
    """The labels of a column.

    Args:
        known: the names in order; those that the source knows, else those that are found, sorted, when left out.
            Whole numbers from 0 on without a gap are the labels' own numbers; any others are names.
        kind: the problem_type; scores and lists tell it, when left out.

    Raises:
        InvalidInput: labels that do not fit each other, or a single one.
    """
    if kind is not None and kind not in KINDS:
        raise InvalidInput(f"problem_type is one of {', '.join(KINDS)}, not {kind!r}.")
    known = tuple(map(str, known or rows.classes(name) or ()))
    values = list(values_of(rows, name))
    listed = all(isinstance(value, (list, tuple)) for value in values)
    if kind == REGRESSION or (kind is None and not listed and len(known) < 2 and scored(values)):
        width = max(len(value) for value in values) if listed else 1
        return Labels(known or tuple(f"LABEL_{i}" for i in range(width)), REGRESSION)
    if listed and kind != SINGLE:
        sizes = {len(value) for value in values}
        vectors = all(v in (0, 1) and not isinstance(v, str) for value in values for v in value) and len(sizes) == 1
        vectors = vectors and sizes == {len(known) or max(sizes)}
        if vectors:
            return Labels(known or tuple(f"LABEL_{i}" for i in range(max(sizes))), SEVERAL, vectors=True)
        names, by_name = (known, False) if known else named(v for value in values for v in value)
        return Labels(names, SEVERAL, by_name)
    names, by_name = (known, False) if known else named(values)
    if len(names) < 2:
        raise InvalidInput(
            f"All of {rows.name} has the label {short(values[0])}: there is nothing to tell apart. For another set "
            "than the training set, give the labels of that one."
        )
    return Labels(names, kind or SINGLE, by_name)


def values_of(rows: Rows, name: str) -> Iterator[Any]:
    for begin, chunk in rows.chunks():
        for number, row in enumerate(chunk, begin):
            value = cell(rows, number, row, name)
            if isinstance(value, str) and not value.strip():
                raise InvalidInput(f"{rows.at(number)} has an empty {name}, which is no label. Mend or remove the row.")
            yield value


def named(values: Iterable[Any]) -> tuple[tuple[str, ...], bool]:
    """The sorted names of labels, and whether numbers among them are names."""
    different = {value if isinstance(value, str) else whole(value) for value in values}
    numbers = {whole(value) for value in different}
    if None in numbers:
        return tuple(sorted(map(str, different))), False
    ordered = sorted(number for number in numbers if number is not None)
    if ordered == list(range(len(ordered))):
        return tuple(f"LABEL_{number}" for number in ordered), False
    return tuple(map(str, ordered)), True


def whole(value: Any) -> int | None:
    """A whole number, written as one, as 1.0 or as "1"; None for anything else."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*-?\d+\s*", value) else None
    try:
        return int(value) if int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        return None


def scored(values: Sequence[Any]) -> bool:
    """Whether these are scores: floats, or strings of numbers of which one is no whole number."""
    if all(isinstance(value, str) for value in values):
        return any(whole(value) is None for value in values) and all(number(value) is not None for value in values)
    return any(
        isinstance(value, float) or getattr(getattr(value, "dtype", None), "kind", "") == "f" for value in values
    )


def numeric(values: Iterable[Any]) -> bool:
    """Whether all are numbers, or written as such."""
    return all(number(value) is not None for value in values)


def number(value: Any) -> float | None:
    """A finite number, None for anything else."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < float("inf") else None


def scores(value: Any, count: int) -> Any:
    """A score, or a list of `count`. Raises InvalidInput, whose message goes on after "Row 7"."""
    several = list(value) if isinstance(value, (list, tuple)) else [value]
    found = [number(one) for one in several]
    if len(found) != count or None in found:
        what = "a number" if count == 1 else f"{count} numbers"
        raise InvalidInput(f"must have {what} as its label, not {short(value)}.")
    return found[0] if count == 1 else found
