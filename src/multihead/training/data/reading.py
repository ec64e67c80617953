"""What all tasks share in reading rows: which column is which, what a cell holds, how long a text may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput, nearest
from ...tokenizers.core import TokenizerCore
from ...tokenizers.tokenizer import Tokenizer
from .source import Row, Rows

ENCODER = 512  # tokens of a text where nothing is said
DECODER = 1024
SHOWN = 60  # characters of a text in a message


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Of every task.

    Args:
        max_length: tokens of an example at most, special ones included; the smaller of tokenizer's and model's limit
            (and of 512, or 1024 for language models that write), when left out.
        positions: of the model, where it has so many and no more.
        skip_empty: rows with an empty text are left out, instead of refused.
        ignore_columns: that are not read, also where they look as if they belonged to an example.
    """

    max_length: int | None = None
    positions: int | None = None
    skip_empty: bool = False
    ignore_columns: Sequence[str] = ()

    def limit(self, tokenizer: Tokenizer, default: int = ENCODER) -> int:
        """Tokens of an example at most. Raises InvalidInput for more than the model has positions for."""
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
class Taken:
    """Which columns are read and which are left."""

    read: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        if not self.left:
            return []
        return [f"Columns read: {', '.join(self.read)}; not read: {', '.join(self.left)}."]

    @property
    def told(self) -> dict[str, Any]:
        """As `Features` takes it."""
        return {"read": self.read, "dropped": self.left}


def taken(
    rows: Rows, names: Iterable[str | None], options: Reading, companions: Sequence[str] | re.Pattern[str] = (),
    *, named: bool = False,
) -> Taken:  # fmt: skip
    """Which columns are read, `names`, and which are left.

    Args:
        companions: columns that usually are a part of what is read, when they hold a text. named: a user named what is
            read.

    Raises:
        InvalidInput: a companion would be left.
    """
    read = tuple(dict.fromkeys(name for name in names if name))

    def belongs(name: str) -> bool:
        known = companions.fullmatch(name) if isinstance(companions, re.Pattern) else name in companions
        return bool(known) and name not in (*read, *options.ignore_columns)

    left = dict.fromkeys(name for name in rows.columns if name not in read)
    for begin, chunk in rows.chunks() if companions and not named else ():
        for number, row in enumerate(chunk, begin):
            for name, value in row.items():
                if name in read or (name in left and not belongs(name)):
                    continue
                left[name] = None
                if belongs(name) and not is_missing(value) and (not isinstance(value, str) or value.strip()):
                    raise InvalidInput(
                        f"{rows.at(number)} has the column {name} beside {', '.join(read)}, which would not be read. "
                        f"Put it into one of them, name the columns to read, or say ignore_columns={[name]!r}."
                    )
    return Taken(read, tuple(map(str, left)))


def column(rows: Rows, asked: str | None, guesses: Sequence[str], option: str) -> str:
    """The column of this name, or the first guess that there is.

    Args:
        option: how the column is named, for the message.

    Raises:
        InvalidInput: no such column; with the columns there are.
    """
    found = maybe(rows, asked, guesses, option)
    if found is None:
        raise InvalidInput(
            f"Which column of {rows.name} is the {option.removesuffix('_column')}? There are {listed(rows)}; none is "
            f"named {' or '.join(guesses)}. Say it with {option}={next(iter(rows.columns), 'NAME')!r}."
        )
    return found


def maybe(rows: Rows, asked: str | None, guesses: Sequence[str], option: str) -> str | None:
    """Likewise, None where no guess is there. Raises InvalidInput where a name that was asked for is not."""
    if asked is None:
        return next((name for name in guesses if name in rows.columns), None)
    if asked not in rows.columns:
        raise InvalidInput(
            f"There is no column {asked!r}, which {option} names, in {rows.name}. "
            f"There are {listed(rows)}. {nearest(asked, rows.columns)}"
        )
    return asked


def listed(rows: Rows) -> str:
    return ", ".join(map(str, rows.columns)) or "no columns"


def is_missing(value: Any) -> bool:
    """None, or a float that is no number."""
    return value is None or (isinstance(value, float) and value != value)


def cell(rows: Rows, number: int, row: Row, name: str) -> Any:
    """A cell that must be there. Raises InvalidInput with its row."""
    value = row.get(name)
    if is_missing(value):
        raise InvalidInput(f"{rows.at(number)} has no {name} ({'None' if value is None else 'NaN'}).")
    return value


def text(rows: Rows, number: int, row: Row, name: str, skip_empty: bool = False) -> str | None:
    """A cell's text; None for an empty one, where those are skipped.

    Raises:
        InvalidInput: no string, or an empty one.
    """
    value = row.get(name)
    if skip_empty and is_missing(value):
        return None
    value = cell(rows, number, row, name)
    if not isinstance(value, str):
        raise InvalidInput(f"{rows.at(number)} has a {name} that is no string but {type(value).__name__}.")
    if value.strip():
        return value
    if skip_empty:
        return None
    raise InvalidInput(f"{rows.at(number)} has an empty {name}. Fill it, or leave such rows out with skip_empty=True.")


def texts(
    rows: Rows, begin: int, chunk: Sequence[Row], names: Sequence[str], skip_empty: bool
) -> tuple[list[int], list[list[str]]]:
    """The numbers of a chunk's rows that are kept, and the texts of each column of them."""
    numbers: list[int] = []
    found: list[list[str]] = [[] for _ in names]
    for number, row in enumerate(chunk, begin):
        own = [text(rows, number, row, name, skip_empty) for name in names]
        if any(one is None for one in own):
            continue
        numbers.append(number)
        for column_, one in zip(found, own, strict=True):
            column_.append(one or "")
    return numbers, found


def limits(tokenizer: TokenizerCore, length: int, strategy: str = "longest_first", stride: int = 0) -> dict[str, Any]:
    """Settings of a tokenizer's truncation."""
    return {
        "max_length": length, "stride": stride, "strategy": strategy, "direction": tokenizer.truncation_side
    }  # fmt: skip


def encoded(
    tokenizer: TokenizerCore, inputs: Sequence[Any], rows: Rows, numbers: Sequence[int],
    settings: Mapping[str, Any] | None,
    *, words: bool = False, special: bool = True,
) -> list[Any]:  # fmt: skip
    """The library's encodings. Raises InvalidInput with the row of an input that cannot be encoded."""
    try:
        return tokenizer.run(inputs, words=words, special=special, limits=settings)
    except InvalidInput as error:
        if len(inputs) == 1:
            raise InvalidInput(f"{rows.at(numbers[0])}: {error}") from error
        for number, one in zip(numbers, inputs, strict=True):
            encoded(tokenizer, [one], rows, [number], settings, words=words, special=special)
        raise


def typed(tokenizer: Tokenizer) -> dict[str, str]:
    """The column of token types, for tokenizers that give them."""
    return {"token_type_ids": "int8"} if "token_type_ids" in tokenizer.model_input_names else {}


def short(value: Any) -> str:
    """A text as a message shows it."""
    words = repr(value)
    return words if len(words) <= SHOWN else words[: SHOWN - 3] + "..."


def told(count: int, total: int, what: str) -> list[str]:
    """A note where there is something to tell: "31 of 6,920 texts" and what happened to them."""
    return [f"{count:,} of {total:,} {what}"] if count else []


def cut_note(cut: int, total: int, length: int, what: str = "texts") -> list[str]:
    return told(cut, total, f"{what} are longer than {length} tokens and were cut.")


def skipped_note(skipped: int, total: int) -> list[str]:
    return told(skipped, total, "rows have an empty text and were left out.")
