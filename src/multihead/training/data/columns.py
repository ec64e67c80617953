"""Reading of rows, shared by all tasks: options, column detection, cells, truncation and tokenization."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput, nearest
from ...tokenizers.core import TokenizerCore
from ...tokenizers.tokenizer import Tokenizer
from .source import Row, Rows

ENCODER_LIMIT = 512  # default number of tokens of an example
DECODER_LIMIT = 1024
MESSAGE_WIDTH = 60  # characters of a text in a message


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """Options common to all data readers.

    Args:
        max_length: maximum number of tokens of an example, special tokens included. Default: the smallest of the
            tokenizer's limit, the model's limit and 512 (1024 for generative language models).
        positions: number of learned positions of the model; None if it has no such limit.
        skip_empty: leave out rows with an empty text, instead of refusing them.
        ignore_columns: columns that are not read, even if their names suggest that they belong to an example.
    """

    max_length: int | None = None
    positions: int | None = None
    skip_empty: bool = False
    ignore_columns: Sequence[str] = ()

    def limit(self, tokenizer: Tokenizer, default: int = ENCODER_LIMIT) -> int:
        """Return the maximum number of tokens of an example.

        Raises:
            InvalidInput: max_length is no possible number, or exceeds the positions of the model.
        """
        if self.max_length is None:
            return min(n for n in (tokenizer.limit, self.positions, default) if n is not None)
        least = tokenizer.num_special_tokens_to_add(False) + 1
        if isinstance(self.max_length, bool) or not isinstance(self.max_length, int) or self.max_length < least:
            raise InvalidInput(f"max_length is a whole number of tokens from {least}, not {self.max_length!r}.")
        if self.positions is not None and self.max_length > self.positions:
            raise InvalidInput(
                f"max_length = {self.max_length} is more than the {self.positions} positions of this model."
            )
        return self.max_length


@dataclass(frozen=True)
class ColumnUse:
    """Columns of a data set that are read, and columns that are ignored."""

    read: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        if not self.ignored:
            return []
        return [f"Columns read: {', '.join(self.read)}; not read: {', '.join(self.ignored)}."]

    @property
    def feature_fields(self) -> dict[str, Any]:
        """Arguments of `Features`."""
        return {"read": self.read, "dropped": self.ignored}


def column_use(
    rows: Rows, names: Iterable[str | None], options: ReaderOptions,
    companions: Sequence[str] | re.Pattern[str] = (), *, named: bool = False,
) -> ColumnUse:  # fmt: skip
    """Split the columns of a data set into those that are read (`names`) and those that are ignored.

    Args:
        companions: columns that usually belong to an example if they hold a text. named: the user named the columns
            to read, so companions are not searched.

    Raises:
        InvalidInput: a companion column with a text would be ignored.
    """
    read = tuple(dict.fromkeys(name for name in names if name))

    def belongs(name: str) -> bool:
        known = companions.fullmatch(name) if isinstance(companions, re.Pattern) else name in companions
        return bool(known) and name not in (*read, *options.ignore_columns)

    ignored = dict.fromkeys(name for name in rows.columns if name not in read)
    for begin, chunk in rows.chunks() if companions and not named else ():
        for number, row in enumerate(chunk, begin):
            for name, value in row.items():
                if name in read or (name in ignored and not belongs(name)):
                    continue
                ignored[name] = None
                if belongs(name) and not is_missing(value) and (not isinstance(value, str) or value.strip()):
                    raise InvalidInput(
                        f"{rows.subject(number)} has the column {name} in addition to {', '.join(read)}, which would "
                        "not be read. Put it into one of them, name the columns to read, or pass "
                        f"ignore_columns={[name]!r}."
                    )
    return ColumnUse(read, tuple(map(str, ignored)))


def require_column(rows: Rows, name: str | None, guesses: Sequence[str], option: str) -> str:
    """Return the named column, or the first guess that exists.

    Args:
        option: option that names the column, for the message.

    Raises:
        InvalidInput: no such column; the message lists the columns.
    """
    column = find_column(rows, name, guesses, option)
    if column is None:
        raise InvalidInput(
            f"Which column of {rows.name} is the {option.removesuffix('_column')}? There are {list_columns(rows)}; "
            f"none is named {' or '.join(guesses)}. Pass {option}={next(iter(rows.columns), 'NAME')!r}."
        )
    return column


def find_column(rows: Rows, name: str | None, guesses: Sequence[str], option: str) -> str | None:
    """Return the named column, or the first guess that exists, or None. Raises InvalidInput for a missing name."""
    if name is None:
        return next((guess for guess in guesses if guess in rows.columns), None)
    if name not in rows.columns:
        raise InvalidInput(
            f"There is no column {name!r}, which {option} names, in {rows.name}. "
            f"There are {list_columns(rows)}. {nearest(name, rows.columns)}"
        )
    return name


def list_columns(rows: Rows) -> str:
    return ", ".join(map(str, rows.columns)) or "no columns"


def is_missing(value: Any) -> bool:
    """Return True for None and for NaN."""
    return value is None or (isinstance(value, float) and value != value)


def require_cell(rows: Rows, number: int, row: Row, name: str) -> Any:
    """Return the value of a cell. Raises InvalidInput, naming the row, if it is missing."""
    value = row.get(name)
    if is_missing(value):
        raise InvalidInput(f"{rows.subject(number)} has no {name} ({'None' if value is None else 'NaN'}).")
    return value


def require_text(rows: Rows, number: int, row: Row, name: str, skip_empty: bool = False) -> str | None:
    """Return the text of a cell; None for an empty text with `skip_empty`.

    Raises:
        InvalidInput: the cell is no string, or an empty string without `skip_empty`.
    """
    value = row.get(name)
    if skip_empty and is_missing(value):
        return None
    value = require_cell(rows, number, row, name)
    if not isinstance(value, str):
        raise InvalidInput(f"{rows.subject(number)} has a {name} that is no string but {type(value).__name__}.")
    if value.strip():
        return value
    if skip_empty:
        return None
    raise InvalidInput(
        f"{rows.subject(number)} has an empty {name}. Fill it, or leave such rows out with skip_empty=True."
    )


def chunk_texts(
    rows: Rows, begin: int, chunk: Sequence[Row], names: Sequence[str], skip_empty: bool
) -> tuple[list[int], list[list[str]]]:
    """Return the numbers of the rows of a chunk that have all texts, and the texts of each column."""
    numbers: list[int] = []
    columns: list[list[str]] = [[] for _ in names]
    for number, row in enumerate(chunk, begin):
        texts = [require_text(rows, number, row, name, skip_empty) for name in names]
        if any(text is None for text in texts):
            continue
        numbers.append(number)
        for column, text in zip(columns, texts, strict=True):
            column.append(text or "")
    return numbers, columns


def truncation(
    tokenizer: TokenizerCore, length: int, strategy: str = "longest_first", stride: int = 0
) -> dict[str, Any]:
    """Return the truncation settings of a tokenizer."""
    return {
        "max_length": length, "stride": stride, "strategy": strategy, "direction": tokenizer.truncation_side
    }  # fmt: skip


def encode_rows(
    tokenizer: TokenizerCore, inputs: Sequence[Any], rows: Rows, numbers: Sequence[int],
    settings: Mapping[str, Any] | None,
    *, words: bool = False, special: bool = True,
) -> list[Any]:  # fmt: skip
    """Tokenize the texts of rows. Raises InvalidInput, naming the row, for an input that cannot be encoded."""
    try:
        return tokenizer.run(inputs, words=words, special=special, limits=settings)
    except InvalidInput as error:
        if len(inputs) == 1:
            raise InvalidInput(f"{rows.subject(numbers[0])}: {error}") from error
        for number, one in zip(numbers, inputs, strict=True):
            encode_rows(tokenizer, [one], rows, [number], settings, words=words, special=special)
        raise


def token_type_column(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the column of token types and its dtype, for tokenizers that have token types."""
    return {"token_type_ids": "int8"} if "token_type_ids" in tokenizer.model_input_names else {}


def shorten(value: Any) -> str:
    """Return the `repr` of a value, cut to the width of a message."""
    text = repr(value)
    return text if len(text) <= MESSAGE_WIDTH else text[: MESSAGE_WIDTH - 3] + "..."


def count_note(count: int, total: int, what: str) -> list[str]:
    """Return a note such as "31 of 6,920 texts were cut", or none for a count of 0."""
    return [f"{count:,} of {total:,} {what}"] if count else []


def cut_note(cut: int, total: int, length: int, what: str = "texts") -> list[str]:
    return count_note(cut, total, f"{what} are longer than {length} tokens and were cut.")


def skipped_note(skipped: int, total: int) -> list[str]:
    return count_note(skipped, total, "rows have an empty text and were left out.")
