"""Which of a file's columns a task takes as its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..data_files import read
from ..errors import InvalidInput, nearest

__all__ = ["KEYS", "chosen", "planned", "read"]

KEYS: Mapping[str, Sequence[str]] = {  # task -> what a row must have, for tasks whose input is no single text
    "question-answering": ("question", "context"),
    "sentence-similarity": ("source_sentence", "sentences"),
    "text-ranking": ("query", "documents"),
    "table-question-answering": ("table", "query"),
}
TEXT = ("text", "sentence", "review", "content", "document", "prompt", "source")


def chosen(rows: Iterator[Any], task: str, columns: Sequence[str], asked: Mapping[str, str]) -> Iterator[Any]:
    """What the task takes of each row.

    Args:
        columns: the column of texts, or `key=column` for each key of a task whose input has several; guessed when left
            out.
        asked: what every row is given for one of these keys, which then is no column.

    Raises:
        InvalidInput: a column that is not there, none that can be guessed, or one for what is asked already.
    """
    plan: Any = None
    for row in rows:
        if not isinstance(row, Mapping):
            yield row
            continue
        if plan is None:
            plan = planned(row, task, columns, asked)
        if isinstance(plan, str):
            value = row.get(plan)
            yield InvalidInput(f"has nothing in its column {plan!r}.") if value is None else value
        else:
            yield {**asked, **{key: row.get(column) for key, column in plan.items()}}


def planned(
    row: Mapping[str, Any], task: str, columns: Sequence[str], asked: Mapping[str, str]
) -> str | dict[str, str]:
    """The column of texts, or the column of each key."""
    keys = tuple(key for key in KEYS.get(task, ()) if key not in asked)
    if task == "text-classification" and "text_pair" in row and not columns:
        keys = ("text", "text_pair")
    plan = dict(column.partition("=")[::2] for column in columns if "=" in column)
    plain = [column for column in columns if "=" not in column]
    for column in [*plan.values(), *plain]:
        if column not in row:
            raise InvalidInput(f"There is no column {column!r}. {nearest(column, map(str, row))}")
    if twice := [key for key in asked if key in plan or key in row]:
        raise InvalidInput(f"The file has a column for {twice[0]}, and the command line says it too. Leave one out.")
    if plain and not keys:
        return plain[0]
    if keys:
        plan = {**{key: key for key in keys if key in row}, **dict(zip(keys, plain, strict=False)), **plan}
        if lacking := [key for key in keys if key not in plan]:
            raise InvalidInput(
                f"{task} needs {' and '.join(keys)} of each row; the file has {', '.join(map(str, row))}. Say which "
                f"column is which: --column {lacking[0]}=NAME."
            )
        return plan
    found = next((name for name in TEXT if name in row), None)
    texts = [name for name, value in row.items() if isinstance(value, str)]
    if found is None and len(texts) != 1:
        raise InvalidInput(f"Which column has the texts? Name one of {', '.join(map(str, row))} with --column.")
    return found or texts[0]
