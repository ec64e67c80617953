"""Rows of data files, one at a time: text, CSV, TSV, JSON, JSON lines, Parquet, Arrow, and flattened SQuAD JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from .errors import InvalidInput, ModelNotFound, read_errors
from .errors import describe_error as error_text
from .files import open_error

ENDINGS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow")
BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # first bytes of another encoding
MAX_FIELD = 1 << 26  # characters of a CSV field
BATCH_BYTES = 1 << 22  # of an Arrow batch that is converted at once
MAX_BYTES, MAX_RATIO = 1 << 29, 500  # of an unpacked Parquet file, plus so many times the size of the file
PARQUET_ROWS = 32  # decoded at once: a small file may have very long rows
ARROW_MARK = b"ARROW1"  # first bytes of the IPC file format
NUL = "\ud800"  # stands for a NUL byte, at which the csv module stops before Python 3.11
NOT_UTF8 = re.compile(f"[\\0{NUL}\udc80-\udcff]")  # NUL, and bytes of another encoding
CONVERSION_ERRORS = (ValueError, OverflowError)  # of invalid values in Arrow; its own errors are ValueErrors
NumberedRow = tuple[int | None, Any]  # line from 1, or None if a row has no line of its own; the row


def read(path: Path) -> Iterator[Any]:
    """Yield the rows of a file: strings of a text file, dicts of all others, an error instead of a broken row.

    Raises:
        ModelNotFound: no such file. AccessDenied: no right to read it. InvalidInput: an unknown format, or a file
            that is broken from some row on.
    """
    return (row for _, row in numbered_rows(path))


def numbered_rows(path: Path) -> Iterator[NumberedRow]:
    """Yield the rows of a file with their line numbers. Only a .json file is held in memory.

    Raises:
        As `read`.
    """
    kind = path.suffix.lower()
    if kind not in ENDINGS and not path.is_dir():
        raise InvalidInput(f"{path} is none of {', '.join(ENDINGS)}.")
    check_readable(path)
    if kind == ".parquet":
        return ((None, row) for row in parquet_rows(path))
    if kind == ".arrow":
        return ((None, row) for row in arrow_file_rows(path))
    if kind in (".csv", ".tsv"):
        return csv_rows(path, "," if kind == ".csv" else "\t")
    if kind == ".json":
        return json_rows(path)
    return line_rows(path, parsed=kind != ".txt")


def check_readable(path: Path) -> None:
    """Raise ModelNotFound, AccessDenied or InvalidInput for a path that is no readable UTF-8 file."""
    if path.is_fifo():  # bytes read here would be missing later
        return
    try:
        with path.open("rb") as file:
            mark = file.read(2)
    except IsADirectoryError:
        raise InvalidInput(f"{path} is a folder, not a file.") from None
    except FileNotFoundError as error:
        raise ModelNotFound(f"There is no file {path}.") from error
    except OSError as error:
        raise open_error(path, error) from error
    if mark in BYTE_ORDER_MARKS:
        raise InvalidInput(
            f"{path.name} is in {BYTE_ORDER_MARKS[mark]}, and only UTF-8 is read. Save the file as UTF-8."
        )


def open_utf8(path: Path, newline: str | None = None) -> IO[str]:
    """Open a file as UTF-8. Other bytes become lone surrogates, which `find_encoding_error` finds."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def find_encoding_error(text: str) -> str | None:
    """Return the encoding error of a text as the end of a sentence; None if there is none."""
    if text.isascii() and "\0" not in text:
        return None
    found = NOT_UTF8.search(text)
    if found is None:
        return None
    place = len(text[: found.start()].encode("utf-8", "surrogateescape")) + 1
    if found[0] in ("\0", NUL):
        return (
            f"has a NUL byte at place {place}, as files in UTF-16 have. Save the file as UTF-8, or take the byte out."
        )
    return f"is no UTF-8: byte 0x{ord(found[0]) - 0xDC00:02x} at place {place}. Save the file as UTF-8."


def read_lines(path: Path, *, whole: bool = False) -> Iterator[str]:
    """Yield the lines of a text file with any suffix, or its whole text.

    Raises:
        ModelNotFound, AccessDenied: the file cannot be read. InvalidInput: a byte that is no UTF-8.
    """
    check_readable(path)
    found = list(line_rows(path, parsed=False, ends=True)) if whole else line_rows(path, parsed=False)
    texts = (row_or_raise(text) for _, text in found)
    return iter(["".join(texts)]) if whole else texts


def row_or_raise(row: Any) -> Any:
    """Return the row. Raises InvalidInput if it is an error."""
    if isinstance(row, InvalidInput):
        raise row
    return row


def line_rows(path: Path, *, parsed: bool, ends: bool = False) -> Iterator[NumberedRow]:
    """Yield each line, as text or parsed as JSON; with `ends`, the line keeps its end."""
    with open_utf8(path) as file:
        for number, line in enumerate(file, 1):
            text = line if ends else line.rstrip("\r\n")
            if parsed and not text.strip():
                continue
            if problem := find_encoding_error(text):
                yield number, InvalidInput(f"Line {number} of {path.name} {problem}")
            elif not parsed:
                yield number, text
            else:
                try:
                    yield number, json.loads(text, object_pairs_hook=unique_keys)
                except (ValueError, RecursionError) as error:
                    yield number, InvalidInput(f"Line {number} of {path.name} is no JSON: {error}.")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError for a key that occurs twice, since one value would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice in one object")
    return found


def csv_rows(path: Path, separator: str) -> Iterator[NumberedRow]:
    """Yield rows of CSV; an error instead of a row with another number of fields than the header.

    Raises:
        InvalidInput: a header with a column twice or another separator; a quote that is not closed.
    """
    csv.field_size_limit(MAX_FIELD)
    with open_utf8(path, newline="") as file:
        reader = csv.reader((line.replace("\0", NUL) for line in file), delimiter=separator, strict=True)
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
                    raise csv_error(path, begin, error) from error
                yield begin, InvalidInput(f"Line {begin} of {path.name} is no CSV: {error}.")
                continue
            if not fields:
                continue
            if names is None:
                names = check_header(fields, path, separator)
            else:
                yield begin, make_row(fields, names, f"Line {begin} of {path.name}")


def csv_error(path: Path, line: int, error: csv.Error) -> InvalidInput:
    """Return the error for a CSV file that is broken from a line on."""
    if "unexpected end" in str(error):
        return InvalidInput(
            f"Line {line} of {path.name} opens a quote that is closed nowhere, so nothing from there on can be read. "
            'Close it, or write it twice ("") where it belongs to the text.'
        )
    return InvalidInput(f"Line {line} of {path.name} is no CSV: {error}.")


def check_header(names: list[str], path: Path, separator: str) -> list[str]:
    """Return the names of columns. Raises InvalidInput if one occurs twice or the separator is another."""
    if problem := find_encoding_error("".join(names)):
        raise InvalidInput(f"The header of {path.name} {problem}")
    twice = [name for number, name in enumerate(names) if name and name in names[:number]]
    if twice:
        raise InvalidInput(f"The header of {path.name} names the column {twice[0]!r} twice. Rename one of them.")
    other = next((sign for sign in ";\t|," if len(names) == 1 and sign != separator and sign in names[0]), None)
    if other is not None:
        raise InvalidInput(
            f"The header of {path.name} is one column, {names[0]!r}: fields seem to be separated by {other!r}, where "
            f"a {path.suffix} file has {separator!r}. Save it with that, or quote the name."
        )
    return names


def make_row(fields: list[str], names: list[str], where: str) -> dict[str, str] | InvalidInput:
    """Return the row of some fields, or its error."""
    if len(fields) != len(names):
        return InvalidInput(
            f"{where} has {'more' if len(fields) > len(names) else 'fewer'} fields than the first line, which names "
            f"{len(names)}: {', '.join(names)}. A field that holds a separator must be quoted."
        )
    for field in fields:
        if problem := find_encoding_error(field):
            return InvalidInput(f"{where} {problem}")
    return dict(zip(names, fields, strict=True))


def json_rows(path: Path) -> Iterator[NumberedRow]:
    """Yield the rows of a JSON file: of its list, or of the list under "data". JSON lines are accepted too.

    Raises:
        InvalidInput: no JSON, or no such list in it.
    """
    with open_utf8(path) as file:
        text = file.read()
    broken = find_encoding_error(text) is not None
    try:
        found = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # JSON lines with the wrong suffix
            yield from line_rows(path, parsed=True)
            return
        raise InvalidInput(f"Line {error.lineno} of {path.name} is no JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path.name} is no JSON that can be read: {error}.") from error
    rows = found.get("data") if isinstance(found, Mapping) else found
    if not isinstance(rows, list):
        raise InvalidInput(f'{path.name} must hold a list of rows, or {{"data": [...]}}.')
    for number, row in enumerate(rows):
        problem = find_encoding_error(json.dumps(row, ensure_ascii=False)) if broken else None
        if problem:
            yield (
                None,
                InvalidInput(f"Row {number} of {path.name} {problem.partition(' at place')[0]}. Save it as UTF-8."),
            )
        elif isinstance(row, Mapping) and "paragraphs" in row:
            yield from ((None, question) for question in squad_rows(row, f"Article {number} of {path.name}"))
        else:
            yield None, row


def squad_rows(article: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yield the questions of an article in SQuAD format (arXiv:1606.05250, arXiv:1806.03822), each with its context.

    Raises:
        InvalidInput: a paragraph without `context` or `qas`.
    """
    paragraphs = article["paragraphs"]
    for paragraph in paragraphs if isinstance(paragraphs, list) else [None]:
        if not isinstance(paragraph, Mapping) or not {"context", "qas"} <= set(paragraph):
            raise InvalidInput(f"{where} has a paragraph without context and qas, which SQuAD's format needs.")
        rows = paragraph["qas"]
        if not isinstance(rows, list) or not all(isinstance(question, Mapping) for question in rows):
            raise InvalidInput(f"{where} has a paragraph whose qas is no list of questions, as SQuAD's format has.")
        for question in rows:
            yield {"title": article.get("title", ""), "context": paragraph["context"], **question}


def parquet_rows(path: Path) -> Iterator[Any]:
    """Yield the rows of a Parquet file. Raises InvalidInput if it is broken or no Parquet file."""
    number = 0
    with read_errors(f"{path.name}: as Parquet it", InvalidInput):
        file = import_parquet(path).ParquetFile(path, **parquet_options(path))
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            yield from arrow_rows(batch, lambda number: f"Row {number} of {path.name}", number)
            number += len(batch)


def arrow_file_rows(path: Path) -> Iterator[Any]:
    """Yield the rows of a file in Arrow's IPC file or stream format. Raises InvalidInput if it is broken or neither."""
    number = 0
    with read_errors(f"{path.name}: as Arrow it", InvalidInput), open_arrow(path) as batches:
        for batch in batches:
            yield from arrow_rows(batch, lambda number: f"Row {number} of {path.name}", number)
            number += len(batch)


@contextmanager
def open_arrow(path: Path) -> Iterator[Any]:
    """Yield the record batches of an Arrow file, one in memory at a time, as an iterable with a `schema`."""
    import_arrow(path)
    import pyarrow.ipc

    with path.open("rb") as file:
        if file.read(len(ARROW_MARK)) != ARROW_MARK:  # a stream, as `datasets` writes
            file.seek(0)
            yield pyarrow.ipc.open_stream(file)
            return
    with pyarrow.memory_map(str(path)) as source:
        found = pyarrow.ipc.open_file(source)
        yield ArrowBatches(found.schema, (found.get_batch(number) for number in range(found.num_record_batches)))


class ArrowBatches(NamedTuple):
    """Record batches of an Arrow file."""

    schema: Any
    batches: Iterator[Any]

    def __iter__(self) -> Iterator[Any]:
        return self.batches


def read_schema(path: Path) -> Any:
    """Return the Arrow schema of a Parquet or Arrow file; None for any other. Raises InvalidInput if it is broken."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        with read_errors(f"{path.name}: as Parquet it", InvalidInput):
            return import_parquet(path).read_schema(path)
    if kind != ".arrow":
        return None
    with read_errors(f"{path.name}: as Arrow it", InvalidInput), open_arrow(path) as batches:
        return batches.schema


def arrow_rows(table: Any, where: Callable[[int], str], begin: int = 0) -> Iterator[Any]:
    """Yield the rows of an Arrow table or batch; an error instead of a row with invalid values.

    Args:
        where: returns the start of a sentence about the row with a number. begin: number of the first row.
    """
    if table.nbytes <= BATCH_BYTES:
        try:
            yield from table.to_pylist()
            return
        except CONVERSION_ERRORS:  # before the first row is yielded
            pass
    yield from (read_arrow_row(table, place, where(begin + place)) for place in range(len(table)))


def parquet_options(path: Path) -> dict[str, Any]:
    """Return options of ParquetFile that keep a text that many rows share only once in memory.

    Raises:
        InvalidInput: no Parquet file, or one that unpacks to far more bytes than real data does.
    """
    with read_errors(f"{path.name}: as Parquet it", InvalidInput):
        file = import_parquet(path).ParquetFile(path)
        size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
        if size > MAX_BYTES + MAX_RATIO * path.stat().st_size:
            raise InvalidInput(
                f"{path.name} of {path.stat().st_size:,} bytes unpacks to {size:,}: it looks like an attack on memory."
            )
        texts = [field.name for field in file.schema_arrow if str(field.type) in ("string", "binary", "large_string")]
        return {"read_dictionary": texts}


def read_arrow_row(table: Any, place: int, where: str) -> Any:
    """Return one row of an Arrow table, or its error, such as text that is no UTF-8 or a time out of range."""
    try:
        return table.slice(place, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        return InvalidInput(f"{where} is no UTF-8: {error.reason} at place {error.start + 1}.")
    except CONVERSION_ERRORS as error:
        return InvalidInput(f"{where} cannot be read: {error_text(error)}.")


def import_parquet(path: Path) -> Any:
    """Return pyarrow.parquet. Raises InvalidInput if pyarrow is not installed or too old."""
    import_arrow(path)
    import pyarrow.parquet

    return pyarrow.parquet


def import_arrow(path: Path) -> Any:
    """Return pyarrow. Raises InvalidInput if it is not installed or too old."""
    try:
        import pyarrow
    except ImportError as error:
        raise InvalidInput(f"{path.name} needs pyarrow: python -m pip install pyarrow.") from error
    if int(pyarrow.__version__.partition(".")[0]) < 15:  # until 14.0.0 a file's types could run code (CVE-2023-47248)
        raise InvalidInput(f"{path.name} needs pyarrow 15 or newer: python -m pip install -U pyarrow.")
    return pyarrow
