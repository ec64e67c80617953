"""Rows of files, one at a time: text, CSV, TSV, JSON, JSON lines, Parquet, and SQuAD's nested JSON made flat."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from .errors import InvalidInput, ModelNotFound, read_errors
from .errors import told as said
from .files import refused

ENDINGS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # that files in another encoding begin with
FIELD = 1 << 26  # characters of a field of CSV at most
LARGE, MOST, RATIO = 1 << 22, 1 << 29, 500  # bytes of a batch; bytes of a Parquet file unpacked, and times its own
TOGETHER = 32  # rows of a Parquet file that are decoded at once: a small file may hold very long ones
NUL = "\ud800"  # for a NUL byte, at which the csv module ends before Python 3.11
WRONG = re.compile(f"[\\0{NUL}\udc80-\udcff]")  # what no text holds: the bytes of another encoding
BROKEN = (ValueError, OverflowError)  # what values that are none raise in Arrow: its own errors are ValueErrors too
Entry = tuple[int | None, Any]  # line from 1, None where a row has no line of its own; the row


def read(path: Path) -> Iterator[Any]:
    """The rows of a file: strings of a text file's lines, dicts of all others; an error in a broken row's place.

    Raises:
        ModelNotFound: no such file. AccessDenied: it must not be read. InvalidInput: a kind of file that is not read,
            or a file that cannot be read on.
    """
    return (row for _, row in entries(path))


def entries(path: Path) -> Iterator[Entry]:
    """The rows of a file with their lines; never more than a part of it in memory, but for .json.

    Raises:
        As `read`.
    """
    kind = path.suffix.lower()
    if kind not in ENDINGS and not path.is_dir():
        raise InvalidInput(f"{path} is none of {', '.join(ENDINGS)}.")
    check(path)
    if kind == ".parquet":
        return ((None, row) for row in parquet(path))
    if kind in (".csv", ".tsv"):
        return table(path, "," if kind == ".csv" else "\t")
    if kind == ".json":
        return document(path)
    return lines(path, parsed=kind != ".txt")


def check(path: Path) -> None:
    """Raises ModelNotFound, AccessDenied or InvalidInput for what cannot be read as a file of rows."""
    if path.is_fifo():  # what is read of it here would be lacking later
        return
    try:
        with path.open("rb") as file:
            mark = file.read(2)
    except IsADirectoryError:
        raise InvalidInput(f"{path} is a folder, not a file.") from None
    except FileNotFoundError as error:
        raise ModelNotFound(f"There is no file {path}.") from error
    except OSError as error:
        raise refused(path, error) from error
    if mark in MARKS:
        raise InvalidInput(f"{path.name} is in {MARKS[mark]}, and only UTF-8 is read. Save the file as UTF-8.")


def opened(path: Path, newline: str | None = None) -> IO[str]:
    """A file in UTF-8; bytes that are none are halves of characters in the text, which `flaw` finds."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def flaw(text: str) -> str | None:
    """What is wrong with a text of a file, where it is none."""
    if text.isascii() and "\0" not in text:
        return None
    found = WRONG.search(text)
    if found is None:
        return None
    place = len(text[: found.start()].encode("utf-8", "surrogateescape")) + 1
    if found[0] in ("\0", NUL):
        return (
            f"has a NUL byte at place {place}, as files in UTF-16 have. Save the file as UTF-8, or take the byte out."
        )
    return f"is no UTF-8: byte 0x{ord(found[0]) - 0xDC00:02x} at place {place}. Save the file as UTF-8."


def plain(path: Path, *, whole: bool = False) -> Iterator[str]:
    """The lines of a text file of any ending, or the text as a whole.

    Raises:
        ModelNotFound, AccessDenied: the file cannot be read. InvalidInput: a byte that is no UTF-8.
    """
    check(path)
    found = list(lines(path, parsed=False, ends=True)) if whole else lines(path, parsed=False)
    texts = (sound(text) for _, text in found)
    return iter(["".join(texts)]) if whole else texts


def sound(row: Any) -> Any:
    """The same row. Raises InvalidInput where it is an error."""
    if isinstance(row, InvalidInput):
        raise row
    return row


def lines(path: Path, *, parsed: bool, ends: bool = False) -> Iterator[Entry]:
    """Each line, as text or as JSON; with `ends` as it stands."""
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            text = line if ends else line.rstrip("\r\n")
            if parsed and not text.strip():
                continue
            if told := flaw(text):
                yield number, InvalidInput(f"Line {number} of {path.name} {told}")
            elif not parsed:
                yield number, text
            else:
                try:
                    yield number, json.loads(text, object_pairs_hook=unique)
                except (ValueError, RecursionError) as error:
                    yield number, InvalidInput(f"Line {number} of {path.name} is no JSON: {error}.")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError for a name that stands twice in it, since only one value could be kept."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def table(path: Path, between: str) -> Iterator[Entry]:
    """Rows of CSV; an error in the place of one that has not as many fields as the header names.

    Raises:
        InvalidInput: a header that names a column twice or is separated by something else; a quote that stays open.
    """
    csv.field_size_limit(FIELD)
    with opened(path, newline="") as file:
        reader = csv.reader((line.replace("\0", NUL) for line in file), delimiter=between, strict=True)
        names: list[str] | None = None
        begin, fields = 1, list[str]()
        while True:
            begin = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if names is None or "unexpected end" in str(error):
                    raise unreadable(path, begin, error) from error
                yield begin, InvalidInput(f"Line {begin} of {path.name} is no CSV: {error}.")
                continue
            if not fields:
                continue
            if names is None:
                names = header(fields, path, between)
            else:
                yield begin, record(fields, names, f"Line {begin} of {path.name}")


def unreadable(path: Path, line: int, error: csv.Error) -> InvalidInput:
    """The error for a file of CSV that cannot be read on from a line."""
    if "unexpected end" in str(error):
        return InvalidInput(
            f"Line {line} of {path.name} opens a quote that is closed nowhere, so nothing from there on can be read. "
            'Close it, or write it twice ("") where it belongs to the text.'
        )
    return InvalidInput(f"Line {line} of {path.name} is no CSV: {error}.")


def header(names: list[str], path: Path, between: str) -> list[str]:
    """The names of columns. Raises InvalidInput where they cannot be told apart."""
    if told := flaw("".join(names)):
        raise InvalidInput(f"The header of {path.name} {told}")
    twice = [name for number, name in enumerate(names) if name and name in names[:number]]
    if twice:
        raise InvalidInput(f"The header of {path.name} names the column {twice[0]!r} twice. Rename one of them.")
    other = next((sign for sign in ";\t|," if len(names) == 1 and sign != between and sign in names[0]), None)
    if other is not None:
        raise InvalidInput(
            f"The header of {path.name} is one column, {names[0]!r}: fields seem to be separated by {other!r}, where "
            f"a {path.suffix} file has {between!r}. Save it with that, or quote the name."
        )
    return names


def record(fields: list[str], names: list[str], where: str) -> dict[str, str] | InvalidInput:
    """The row of some fields, or what is wrong with them."""
    if len(fields) != len(names):
        return InvalidInput(
            f"{where} has {'more' if len(fields) > len(names) else 'fewer'} fields than the first line, which names "
            f"{len(names)}: {', '.join(names)}. A field that holds a separator must be quoted."
        )
    for field in fields:
        if told := flaw(field):
            return InvalidInput(f"{where} {told}")
    return dict(zip(names, fields, strict=True))


def document(path: Path) -> Iterator[Entry]:
    """The rows of a JSON file: of its list, or of the list under its "data"; JSON lines are read as such.

    Raises:
        InvalidInput: no JSON, or JSON without such a list.
    """
    with opened(path) as file:
        text = file.read()
    broken = flaw(text) is not None
    try:
        found = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # an object a line, under the wrong ending
            yield from lines(path, parsed=True)
            return
        raise InvalidInput(f"Line {error.lineno} of {path.name} is no JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path.name} is no JSON that can be read: {error}.") from error
    rows = found.get("data") if isinstance(found, Mapping) else found
    if not isinstance(rows, list):
        raise InvalidInput(f'{path.name} must hold a list of rows, or {{"data": [...]}}.')
    for number, row in enumerate(rows):
        told = flaw(json.dumps(row, ensure_ascii=False)) if broken else None
        if told:
            yield None, InvalidInput(f"Row {number} of {path.name} {told.partition(' at place')[0]}. Save it as UTF-8.")
        elif isinstance(row, Mapping) and "paragraphs" in row:
            yield from ((None, question) for question in questions(row, f"Article {number} of {path.name}"))
        else:
            yield None, row


def questions(article: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """The questions of an article in SQuAD's format (arXiv:1606.05250, arXiv:1806.03822), each with its context.

    Raises:
        InvalidInput: a paragraph without `context` or `qas`.
    """
    paragraphs = article["paragraphs"]
    for paragraph in paragraphs if isinstance(paragraphs, list) else [None]:
        if not isinstance(paragraph, Mapping) or not {"context", "qas"} <= set(paragraph):
            raise InvalidInput(f"{where} has a paragraph without context and qas, which SQuAD's format needs.")
        asked = paragraph["qas"]
        if not isinstance(asked, list) or not all(isinstance(question, Mapping) for question in asked):
            raise InvalidInput(f"{where} has a paragraph whose qas is no list of questions, as SQuAD's format has.")
        for question in asked:
            yield {"title": article.get("title", ""), "context": paragraph["context"], **question}


def parquet(path: Path) -> Iterator[Any]:
    """The rows of a Parquet file. Raises InvalidInput where it is none, or is broken."""
    number = 0
    with read_errors(f"{path.name}: as Parquet it", InvalidInput):
        file = arrow(path).ParquetFile(path, **compact(path))
        for batch in file.iter_batches(batch_size=TOGETHER):
            yield from arrow_rows(batch, lambda number: f"Row {number} of {path.name}", number)
            number += len(batch)


def arrow_rows(table: Any, where: Callable[[int], str], begin: int = 0) -> Iterator[Any]:
    """The rows of an Arrow table or batch, an error in the place of one whose values are none.

    Args:
        where: says where the row of a number stands, as a sentence begins. begin: number of the first one.
    """
    if table.nbytes <= LARGE:
        try:
            yield from table.to_pylist()
            return
        except BROKEN:  # before the first row is given
            pass
    yield from (alone(table, place, where(begin + place)) for place in range(len(table)))


def compact(path: Path) -> dict[str, Any]:
    """Options that keep a text which many rows of a Parquet file share once in memory.

    Raises:
        InvalidInput: the file is none, or unpacks to far more than files of honest rows do.
    """
    with read_errors(f"{path.name}: as Parquet it", InvalidInput):
        file = arrow(path).ParquetFile(path)
        size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
        if size > MOST + RATIO * path.stat().st_size:
            raise InvalidInput(
                f"{path.name} of {path.stat().st_size:,} bytes unpacks to {size:,}: it is no honest file."
            )
        texts = [field.name for field in file.schema_arrow if str(field.type) in ("string", "binary", "large_string")]
        return {"read_dictionary": texts}


def alone(table: Any, place: int, where: str) -> Any:
    """One row of an Arrow table, or its error: a text that is no UTF-8, a time that Python does not hold."""
    try:
        return table.slice(place, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        return InvalidInput(f"{where} is no UTF-8: {error.reason} at place {error.start + 1}.")
    except BROKEN as error:
        return InvalidInput(f"{where} cannot be read: {said(error)}.")


def arrow(path: Path) -> Any:
    """pyarrow's module for Parquet. Raises InvalidInput where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidInput(f"Reading {path.name} needs pyarrow: python -m pip install pyarrow.") from error
    if int(pyarrow.__version__.partition(".")[0]) < 15:  # until 14.0.0 a file's types could run code (CVE-2023-47248)
        raise InvalidInput(f"Reading {path.name} needs pyarrow 15 or newer: python -m pip install -U pyarrow.")
    return pyarrow.parquet
