"""Labels as data sets write them: names, whole numbers, several of either, vectors of 0 and 1, scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from ...errors import InvalidInput, nearest
from .reading import cell, short
from .source import Row, Rows

SINGLE, SEVERAL, REGRESSION = KINDS = (
    "single_label_classification", "multi_label_classification", "regression",
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """What a classifier must know of its labels, and how the rows at hand write them.

    Args:
        names: in order. kind: the `problem_type`, one of `KINDS`. by_name: numbers in the data are names, such as 1 to
            5 stars; else 0 is the first label. vectors: several labels are given as a 0 or 1 for each. A single label
            of several is given as a number from 0 to 1.
        found: the names were found in rows that write names, and their order is that of the alphabet, so that numbers
            in other rows may mean anything.
        classes: names of the numbers in the rows at hand, where their source knows them; see `of`.
    """

    names: tuple[str, ...]
    kind: str = SINGLE
    by_name: bool = False
    vectors: bool = False
    found: bool = False
    classes: tuple[str, ...] = ()

    def of(self, rows: Rows, column: str) -> Labels:
        """The same labels as the rows of another source write them in a column."""
        classes = rows.classes(column) or ()
        nameless = is_nameless(self.names) or is_nameless(classes)
        vectors = self.vectors
        if self.kind == SEVERAL:
            lists = [value for value in values_of(rows, column) if isinstance(value, (list, tuple))]
            twice = any(len({*map(str, one)}) < len(one) for one in lists)
            sure = self.vectors or self.found or twice
            vectors = sure and not classes and are_vectors(lists, len(self.names))
        return replace(self, classes=() if nameless else tuple(classes), vectors=vectors)

    def number(self, value: Any) -> int:
        """The number of a label. Raises InvalidInput, whose message goes on after "Row 7"."""
        plain = whole(value)
        if isinstance(value, str) and (place := self._place(value)) is not None:
            return place
        if plain is not None and self.classes:
            if not 0 <= plain < len(self.classes):
                raise InvalidInput(f"has the label {plain}, which is not within 0 to {len(self.classes) - 1}.")
            value, plain = self.classes[plain], None
        elif plain is not None and self.by_name:
            value, plain = next((name for name in self.names if whole(name) == plain), str(plain)), None
        if plain is None:
            place = self._place(value) if isinstance(value, str) else None
            return place if place is not None else self._unknown(value)
        return self._counted(plain)

    def _place(self, name: str) -> int | None:
        """The number of the label with this name, which may differ in capitals where only one label then has it."""
        if name in self.names:
            return self.names.index(name)
        alike = [number for number, own in enumerate(self.names) if own.casefold() == name.strip().casefold()]
        return alike[0] if len(alike) == 1 else None

    def _counted(self, plain: int) -> int:
        """A number that no name stands for, as that of a label. Raises InvalidInput where it may mean another."""
        known = shown(self.names)
        if self.found:
            raise InvalidInput(
                f"has the label {plain}, and the labels are known by name only: {known}. Write names here too, or say "
                "in which order they are counted: labels=[...]."
            )
        inside = [re.findall(r"\d+", name) for name in self.names]
        counts = [int(digits[0]) for digits in inside if len(digits) == 1]
        if len({*counts}) == len(self.names) and counts != list(range(len(counts))):
            raise InvalidInput(
                f"has the label {plain}, which may be the number in a name or the place of one, of {known}. Write "
                "names."
            )
        if not 0 <= plain < len(self.names):
            raise InvalidInput(f"has the label {plain}, which is not within 0 to {len(self.names) - 1}.")
        return plain

    def _unknown(self, value: Any) -> NoReturn:
        hint = f" {nearest(value, self.names)}" if isinstance(value, str) else ""
        advice = (
            " The rows number their labels by names of their own; where both mean the same, give these in the model's "
            "order: labels=[...]."
            if self.classes
            else ""
        )
        raise InvalidInput(f"has the label {short(value)}, which is none of {shown(self.names)}.{hint}{advice}")

    def value(self, found: Any) -> Any:
        """What a loss takes: a number, a vector (labels,) of 0 and 1, a score or scores. Raises InvalidInput."""
        if self.kind == REGRESSION:
            return scores(found, len(self.names))
        if self.kind == SINGLE:
            if isinstance(found, (list, tuple)):
                raise InvalidInput(f"has several labels, {short(found)}, where one is learned.")
            return self.number(found)
        if len(self.names) == 1 and not isinstance(found, (list, tuple)):
            share = scores(found, 1)
            if not 0 <= share <= 1:
                raise InvalidInput(f"has the label {short(found)}, which is not a number from 0 to 1.")
            return [share]
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


def shown(names: Sequence[str]) -> str:
    """Names as a message lists them."""
    return ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")


def is_nameless(names: Sequence[str]) -> bool:
    """Whether these are no names but the numbers of labels, as a config counts labels that nobody named."""
    return all(name == f"LABEL_{number}" for number, name in enumerate(names))


def names_of(config: Any) -> tuple[str, ...]:
    """The names of a config's labels, in order."""
    told = config.id2label or {}
    return tuple(str(told[number]) for number in sorted(told))


def alike(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether every one of the names is one of the others, capitals aside, and no two of either are the same so."""
    own, known = ([name.strip().casefold() for name in each] for each in (names, others))
    return set(own) <= set(known) and len(set(own)) == len(own) and len(set(known)) == len(known)


def known_labels(names: Sequence[str], kind: str = SINGLE, **more: Any) -> Labels:
    """Labels whose names are known. Names that are whole numbers are what numbers in the data mean."""
    numbers = [whole(name) for name in names]
    by_name = len(names) > 0 and None not in numbers and len({*numbers}) == len(numbers)
    return Labels(tuple(map(str, names)), kind, by_name, **more)


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
    classes = rows.classes(name) or ()
    known = tuple(map(str, known or classes))
    values = list(values_of(rows, name))
    listed = all(isinstance(value, (list, tuple)) for value in values)
    if kind == REGRESSION or (kind is None and not listed and len(known) < 2 and scored(values)):
        width = max(len(value) for value in values) if listed else 1
        return Labels(known or tuple(f"LABEL_{i}" for i in range(width)), REGRESSION)
    if listed and kind != SINGLE:
        size = len(known) or max(map(len, values))
        if not classes and are_vectors(values, size):
            return Labels(known or tuple(f"LABEL_{i}" for i in range(size)), SEVERAL, vectors=True)
        several = known_labels(known, SEVERAL) if known else named((v for value in values for v in value), SEVERAL)
        return several.of(rows, name)
    found = known_labels(known, kind or SINGLE) if known else named(values, kind or SINGLE)
    if len(found.names) < 2:
        raise InvalidInput(
            f"All of {rows.name} has the label {short(values[0])}: there is nothing to tell apart. For another set "
            "than the training set, give the labels of that one."
        )
    return found


def are_vectors(values: Sequence[Any], size: int) -> bool:
    """Whether all are lists of `size` numbers that are 0 or 1."""
    return bool(values) and all(
        len(value) == size and all(v in (0, 1) and not isinstance(v, str) for v in value) for value in values
    )


def values_of(rows: Rows, name: str) -> Iterator[Any]:
    for begin, chunk in rows.chunks():
        for number, row in enumerate(chunk, begin):
            value = cell(rows, number, row, name)
            if isinstance(value, str) and not value.strip():
                raise InvalidInput(f"{rows.at(number)} has an empty {name}, which is no label. Mend or remove the row.")
            yield value


def named(values: Iterable[Any], kind: str = SINGLE) -> Labels:
    """The labels that values name, sorted; whole numbers from 0 on without a gap are the labels' own."""
    different = {value if isinstance(value, str) else whole(value) for value in values}
    numbers = {whole(value) for value in different}
    if None in numbers:
        mixed = any(isinstance(value, int) for value in different)
        return Labels(tuple(sorted(map(str, different))), kind, by_name=mixed, found=True)
    ordered = sorted(number for number in numbers if number is not None)
    if ordered == list(range(len(ordered))):
        return Labels(tuple(f"LABEL_{number}" for number in ordered), kind)
    if len(ordered) > 3 and ordered == list(range(-1, len(ordered) - 1)):
        raise InvalidInput(
            f"The labels are 0 to {ordered[-1]}, and -1, which marks rows without a label in many data sets. Leave "
            f"such rows out; or, where -1 is a label, say labels={list(map(str, ordered))}."
        )
    return Labels(tuple(map(str, ordered)), kind, by_name=True)


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
