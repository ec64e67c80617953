"""Inputs of a task from the rows of a file: which columns are taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput, nearest
from ..catalog import TASKS

KEEP_ALL = "all"
ROW_KEYS = ("row", "input", "output", "error", "notices")  # of a row of the output
TEXT_COLUMNS = ("text", "sentence", "review", "content", "document", "prompt", "source")  # guessed in this order


@dataclass(frozen=True)
class KeptRow:
    """Input of a row with the columns that go into its output too."""

    input: Any
    kept: Mapping[str, Any]


def input_of(item: Any) -> Any:
    """Return the input of a `KeptRow`; anything else as it is."""
    return item.input if isinstance(item, KeptRow) else item


def keep_columns(
    inputs: Iterator[Any], rows: Iterator[Any], keep: Sequence[str], taken: Sequence[str]
) -> Iterator[Any]:
    """Yield the input of each row with columns of the row.

    Args:
        keep: names of columns, or "all". taken: names that a column cannot have in the output.

    Raises:
        InvalidInput: a column that the first row lacks, or whose name is taken, also of a later row of JSON.
    """
    every: bool | None = None  # whether all columns are kept, which the first row decides
    for number, (given, row) in enumerate(zip(inputs, rows, strict=True)):
        if not isinstance(row, Mapping):
            yield KeptRow(given, {})
            continue
        if every is None:
            every = KEEP_ALL in keep and KEEP_ALL not in row
            check_there(row, [] if every else keep)
        names = list(row) if every else keep
        if clash := [name for name in names if name in taken]:
            raise InvalidInput(
                f"--keep: the output has a column {clash[0]!r} of its own, and so has row {number} of the input. "
                "Rename it in the input, or leave it out."
            )
        yield KeptRow(given, {name: row.get(name) for name in names})


def check_there(row: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise InvalidInput for a column that a row lacks."""
    for name in names:
        if name not in row:
            raise InvalidInput(f"--keep: there is no column {name!r}. {nearest(name, map(str, row))}")


def select_inputs(rows: Iterator[Any], task: str, columns: Sequence[str], shared: Mapping[str, str]) -> Iterator[Any]:
    """Yield one input a row.

    Args:
        columns: the column of texts, or `key=column` for each key of an input; guessed when empty.
        shared: values of keys that all inputs have, and that are then no columns.

    Raises:
        InvalidInput: a column that does not exist, none that can be guessed, or one for a key of `shared`.
    """
    plan: Any = None
    for row in rows:
        if not isinstance(row, Mapping):
            yield row
            continue
        if plan is None:
            plan = choose_columns(row, task, columns, shared)
        if isinstance(plan, str):
            value = row.get(plan)
            yield InvalidInput(f"has nothing in its column {plan!r}.") if value is None else value
        else:
            yield {**shared, **{key: row.get(column) for key, column in plan.items()}}


def choose_columns(
    row: Mapping[str, Any], task: str, columns: Sequence[str], shared: Mapping[str, str]
) -> str | dict[str, str]:
    """Return the column of texts, or the column of each key. Raises InvalidInput as `select_inputs` does."""
    entry = TASKS[task]
    keys = tuple(key for key in entry.keys if key not in shared)
    if entry.pair and entry.pair[-1] in row and not columns:
        keys = entry.pair
    plan = dict(column.partition("=")[::2] for column in columns if "=" in column)
    plain = [column for column in columns if "=" not in column]
    for column in [*plan.values(), *plain]:
        if column not in row:
            raise InvalidInput(f"There is no column {column!r}. {nearest(column, map(str, row))}")
    if twice := [key for key in shared if key in plan or key in row]:
        raise InvalidInput(f"The file has a column for {twice[0]}, and the command line gives it too. Leave one out.")
    if plain and not keys:
        return plain[0]
    if keys:
        plan = {**{key: key for key in keys if key in row}, **dict(zip(keys, plain, strict=False)), **plan}
        if missing := [key for key in keys if key not in plan]:
            raise InvalidInput(
                f"{task} needs {' and '.join(keys)} of each row; the file has {', '.join(map(str, row))}. Name the "
                f"column of each: --column {missing[0]}=NAME."
            )
        return plan
    found = next((name for name in TEXT_COLUMNS if name in row), None)
    texts = [name for name, value in row.items() if isinstance(value, str)]
    if found is None and len(texts) != 1:
        raise InvalidInput(f"Which column has the texts? Name one of {', '.join(map(str, row))} with --column.")
    return found or texts[0]
