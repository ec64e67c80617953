"""A small query form over one table, as WikiSQL's (Zhong et al., 2017, arXiv:1709.00103), and its execution."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .cells import Column, is_empty, parse_number

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "=": operator.eq,
}  # fmt: skip
AGGREGATORS = {"count": "COUNT", "distinct": "COUNT", "sum": "SUM", "average": "AVERAGE"}


class Condition(NamedTuple):
    """Condition on the cells of a column.

    Args:
        operator: "in", for a cell among `cells` (numbers of rows of any cell that is equal), or one of `COMPARISONS`.
        rows: rows whose cells are equal to what the question names. low, high: values of comparisons.
    """

    column: int
    operator: str
    rows: frozenset[int] = frozenset()
    value: float = 0.0

    def holds(self, columns: Sequence[Column], row: int) -> bool:
        """Return whether a row fulfils the condition. An empty cell fulfils none but "in"."""
        if self.operator == "in":
            return row in self.rows
        own = columns[self.column].values[row]
        return own is not None and COMPARISONS[self.operator](own, self.value)


@dataclass(frozen=True)
class Query:
    """Select a column, where conditions hold, and aggregate.

    Args:
        select: column of the answer. where: conditions, all of which must hold.
        aggregate: "none", "count", "distinct" (different cells), "sum", "average", "max" and "min" (the rows with the
            extreme of the column `by`), "difference" of `by` in two rows, "more" and "less" (yes if `by` of the first
            row of `order` is more than that of the second).
        by: column of the comparison. order: the two rows that are compared.
    """

    select: int
    where: tuple[Condition, ...] = ()
    aggregate: str = "none"
    by: int = -1
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class QueryResult:
    """Answer of a query: its text, the (row, column) and the texts of the cells it comes from, and the aggregator."""

    answer: str
    coordinates: list[tuple[int, int]]
    cells: list[str]
    aggregator: str = "NONE"
    notices: tuple[str, ...] = ()


NOTHING = QueryResult("", [], [])


def matching_rows(query: Query, columns: Sequence[Column]) -> list[int]:
    """Return the rows that fulfil the conditions of a query; of an extreme, those with the extreme value (ties too)."""
    count = len(columns[0].cells)
    rows = [row for row in range(count) if all(condition.holds(columns, row) for condition in query.where)]
    if query.aggregate not in ("max", "min"):
        return rows
    values = columns[query.by].values
    known = [value for row in rows if (value := values[row]) is not None]
    if not known:
        return []
    best = max(known) if query.aggregate == "max" else min(known)
    return [row for row in rows if values[row] == best]


def execute(query: Query, columns: Sequence[Column]) -> QueryResult:
    """Return the result of a query; its answer is "" if no cell answers it."""
    if query.aggregate in ("difference", "more", "less"):
        return compare(query, columns)
    rows, column = matching_rows(query, columns), columns[query.select]
    filled = [row for row in rows if not is_empty(column.cells[row])]
    if query.aggregate == "count":
        return result(str(len(filled)), filled, query.select, columns, "COUNT")
    if query.aggregate == "distinct":
        return result(
            str(len({column.cells[row].casefold() for row in filled})), filled, query.select, columns, "COUNT"
        )
    if query.aggregate in ("sum", "average"):
        return total(query, filled, len(rows), columns)
    if not filled:
        return NOTHING
    texts = dict.fromkeys(column.cells[row].strip() for row in filled)
    return result(", ".join(texts), filled, query.select, columns)


def result(
    answer: str, rows: Sequence[int], column: int, columns: Sequence[Column], aggregator: str = "NONE",
    notices: tuple[str, ...] = (),
) -> QueryResult:  # fmt: skip
    """Return a result whose cells are those of a column in some rows."""
    cells = [columns[column].cells[row].strip() for row in rows]
    return QueryResult(answer, [(row, column) for row in rows], cells, aggregator, notices)


def total(query: Query, rows: Sequence[int], asked: int, columns: Sequence[Column]) -> QueryResult:
    """Return the sum or average of the numbers of a column. A notice says how many rows had none."""
    column = columns[query.select]
    known = [row for row in rows if column.values[row] is not None]
    values = [value for row in known if (value := column.values[row]) is not None]
    if not values:
        return NOTHING
    value = sum(values) / (len(values) if query.aggregate == "average" else 1)
    without = asked - len(values)
    notices = (f"{without} of {asked} rows have no number in {column.name!r}; they are left out.",) if without else ()
    return result(write_number(value, column), known, query.select, columns, AGGREGATORS[query.aggregate], notices)


def compare(query: Query, columns: Sequence[Column]) -> QueryResult:
    """Return the difference of two cells, or "yes" or "no"."""
    one, two = query.order
    column = columns[query.by]
    first, second = column.values[one], column.values[two]
    if first is None or second is None:
        return NOTHING
    if query.aggregate == "difference":
        gap = abs(first - second)
        answer = write_number(gap, column) if column.kind == "number" else f"{gap:g}{' days' * (column.kind == 'date')}"
        return result(answer, query.order, query.by, columns, "DIFFERENCE")
    holds = first > second if query.aggregate == "more" else first < second
    notices = (f"Both have the same {column.name!r}.",) if first == second else ()
    return result("yes" if holds else "no", query.order, query.by, columns, notices=notices)


def write_number(value: float, column: Column) -> str:
    """Write a computed number as the column writes its own: currency or percent sign, thousands separators, unit."""
    known = [number for cell in column.cells if (number := parse_number(cell))]
    before = {number.before for number in known}
    scaled = column.scale == 1 and any(number.magnitude != 1 for number in known)
    after = {"" if scaled else number.after for number in known}
    grouped = scaled or any(abs(number.value) >= 1000 and "," in number.digits for number in known)
    decimals = 2 if before - {""} else 6
    text = f"{round(value, decimals):,.{decimals}f}" if grouped else f"{round(value, decimals):.{decimals}f}"
    text = text.rstrip("0").rstrip(".")
    left = before.pop() if len(before) == 1 else ""
    right = after.pop() if len(after) == 1 else column.unit
    return f"{left}{text}{right if right in ('', '%', '°') else ' ' + right}"
