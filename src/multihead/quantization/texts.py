"""Texts for calibration and evaluation as windows of tokens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data_files import read, read_lines, row_or_raise
from ..errors import InvalidInput
from ..tokenizers.tokenizer import Tokenizer

Texts = str | os.PathLike[str] | Sequence[str]
COLUMNS = ("text", "sentence", "content", "document", "prompt")


def windows(texts: Texts, tokenizer: Tokenizer, length: int, count: int | None = None) -> list[list[int]]:
    """Return windows of tokens of texts that are laid end to end, each between the tokenizer's own special tokens.

    Args:
        texts: a file (.txt: one text; others: a text for each row), or texts. length: tokens of a window. count: of
            windows at most, spread evenly over all; None for all.

    Raises:
        InvalidInput: no text, or too few tokens. ModelNotFound, AccessDenied: the file.
    """
    before, after = _special(tokenizer)
    own = length - len(before) - len(after)
    if own < 2:
        raise InvalidInput(f"Windows of {length} tokens leave room for {own} of the text. Choose a greater length.")
    ids: list[int] = []
    for text in _read(texts):
        ids += tokenizer.encode_ids([text], special=False)[0]
    if len(ids) < min(own, 16):
        where = texts if isinstance(texts, (str, os.PathLike)) else "The texts"
        raise InvalidInput(f"{where}: {len(ids)} tokens are too few; give at least {min(own, 16)}.")
    found = [ids[begin : begin + own] for begin in range(0, len(ids), own)]
    found = [window for window in found if len(window) == own] or found
    if count is not None and len(found) > count:
        found = [found[number * len(found) // count] for number in range(count)]
    return [[*before, *window, *after] for window in found]


def _special(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that stand before and after a text."""
    plain, whole = tokenizer.encode_ids(["a"], special=False)[0], tokenizer.encode_ids(["a"])[0]
    for begin in range(len(whole) - len(plain) + 1):
        if whole[begin : begin + len(plain)] == plain:
            return whole[:begin], whole[begin + len(plain) :]
    return [], []


def _read(texts: Texts) -> Iterable[str]:
    if not isinstance(texts, (str, os.PathLike)):
        return texts
    path = Path(texts)
    if path.suffix.lower() == ".txt":
        return read_lines(path, whole=True)
    return _rows(path, map(row_or_raise, read(path)))


def _rows(path: Path, rows: Iterable[Any]) -> Iterator[str]:
    for row in rows:
        if not isinstance(row, Mapping):
            text = row
        else:
            column = next((name for name in COLUMNS if name in row), None)
            if column is None:
                raise InvalidInput(f"{path} has none of the columns {', '.join(COLUMNS)}. Rename the column of texts.")
            text = row[column]
        if not isinstance(text, str):
            raise InvalidInput(f"{path} has a row without a text: {text!r:.60}.")
        yield text + "\n"
