"""Rows of files: what is broken in one is an error in its place, and what cannot be read on is said."""

from __future__ import annotations

import json
import os
from threading import Thread

import pyarrow
import pyarrow.parquet
import pytest

from multihead.data_files import read, read_lines
from multihead.errors import InvalidInput, ModelNotFound


def found(path, data):
    """The rows of a file with this content; messages in the place of errors."""
    path.write_bytes(data)
    return [str(row) if isinstance(row, InvalidInput) else row for row in read(path)]


@pytest.mark.parametrize(
    ("name", "bad", "good", "row"),
    [
        ("a.txt", b"caf\xe9\n", b"fine\n", "fine"),
        ("a.txt", b"a\0b\n", b"fine\n", "fine"),
        ("a.csv", b"caf\xe9\n", b"fine\n", {"text": "fine"}),
        ("a.csv", b"a\0b\n", b"fine\n", {"text": "fine"}),
        ("a.csv", b"Great, but\n", b'"Great, but"\n', {"text": "Great, but"}),
        ("a.csv", b'"Great" film\n', b'"fi""ne"\n', {"text": 'fi"ne'}),
        ("a.tsv", b"Great\tbut\n", b"fine\n", {"text": "fine"}),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', b'{"text": "fine"}\n', {"text": "fine"}),
        ("a.jsonl", b'{"text": 1, "text": 2}\n', b'{"text": "fine"}\n', {"text": "fine"}),
        ("a.jsonl", b"[" * 100_000 + b"\n", b'{"text": "fine"}\n', {"text": "fine"}),
        ("a.jsonl", b"9" * 5000 + b"\n", b'{"text": "fine"}\n', {"text": "fine"}),
    ],
)
def test_a_broken_line_is_an_error_in_its_place_and_the_rest_is_read(tmp_path, name, bad, good, row):
    header = b"text\n" if name.endswith(("csv", "tsv")) else b""
    rows = found(tmp_path / name, header + good + bad + good)
    line = 3 if header else 2
    assert rows[0] == rows[2] == row
    assert rows[1].startswith(f"Line {line} of {name} ")
    assert len(rows) == 3


def test_rows_have_as_many_fields_as_the_header_names(tmp_path):
    rows = found(tmp_path / "a.csv", b"text,label\nonly\n\nboth,1\nboth,1,2\n")
    assert rows[1] == {"text": "both", "label": "1"}
    assert rows[0].startswith("Line 2 of a.csv has fewer fields than the first line, which names 2: text, label.")
    assert rows[2].startswith("Line 5 of a.csv has more fields")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'text,label\nfine,1\n"open,1\nfine,1\n', "Line 3 of a.csv opens a quote"),
        (b'"text\nfine\n', "Line 1 of a.csv opens a quote"),
        (b"text,text\na,b\n", "names the column 'text' twice"),
        (b"text;label\na;1\n", "fields seem to be separated by ';'"),
        (b"caf\xe9\nfine\n", "The header of a.csv is no UTF-8"),
        ("text\nfine\n".encode("utf-16"), "a.csv is in UTF-16"),
    ],
)
def test_a_table_that_cannot_be_read_is_said_after_the_rows_before(tmp_path, data, message):
    path, rows = tmp_path / "a.csv", []
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=message):
        rows.extend(read(path))  # which keeps what came
    assert rows == ([{"text": "fine", "label": "1"}] if data.startswith(b"text,label") else [])


def test_a_mark_of_byte_order_is_no_part_of_the_first_name(tmp_path):
    assert found(tmp_path / "a.csv", b"\xef\xbb\xbftext\ncaf\xc3\xa9\n") == [{"text": "café"}]
    assert found(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": 1}\n') == [{"text": 1}]


def test_json_documents_name_their_broken_rows(tmp_path):
    rows = found(tmp_path / "a.json", b'[{"text": "fine"}, {"text": "caf\xe9"}]')
    assert rows[0] == {"text": "fine"}
    assert rows[1].startswith("Row 1 of a.json is no UTF-8: byte 0xe9")
    for data in (b"[" * 100_000, b'{"data": [{"a": 1, "a": 2}]}', b"[" + b"9" * 5000 + b"]"):
        with pytest.raises(InvalidInput, match=r"a\.json is no JSON"):
            found(tmp_path / "a.json", data)
    for paragraphs in (3, [3], [{"context": "c", "qas": 3}], [{"context": "c", "qas": [3]}]):
        with pytest.raises(InvalidInput, match="Article 0"):
            found(tmp_path / "a.json", json.dumps([{"paragraphs": paragraphs}]).encode())


def test_a_parquet_text_that_is_no_utf8_is_one_bad_row(tmp_path):
    texts = pyarrow.array([b"a", b"caf\xe9", b"b"], pyarrow.binary()).view(pyarrow.string())
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
    rows = list(read(path))
    assert rows[0::2] == [{"text": "a"}, {"text": "b"}]
    assert str(rows[1]).startswith("Row 1 of a.parquet is no UTF-8")


@pytest.mark.parametrize("size", [0, 1 << 20])  # of other texts, so that rows are read together or each alone
def test_a_broken_value_of_parquet_is_one_bad_row_and_no_row_comes_twice(tmp_path, size):
    many = ["x" * size for _ in range(5)]
    texts = pyarrow.array([b"a", b"b", b"caf\xe9", b"c", b"d"], pyarrow.binary()).view(pyarrow.string())
    times = pyarrow.array([0, 1, 2, 2**62, 4], pyarrow.timestamp("ms"))
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "time": times, "more": many}), path)
    rows = list(read(path))
    assert [row if isinstance(row, InvalidInput) else row["text"] for row in rows] == ["a", "b", rows[2], rows[3], "d"]
    assert str(rows[2]).startswith("Row 2 of a.parquet is no UTF-8")
    assert str(rows[3]).startswith("Row 3 of a.parquet cannot be read")


def test_texts_of_a_file_are_whole_or_refused(tmp_path):
    path = tmp_path / "a.md"
    path.write_bytes(b"one\r\ntwo\n")
    assert list(read_lines(path)) == ["one", "two"]
    assert list(read_lines(path, whole=True)) == ["one\ntwo\n"]
    path.write_bytes(b"one\ncaf\xe9\n")
    for whole in (False, True):
        with pytest.raises(InvalidInput, match=r"Line 2 of a\.md is no UTF-8: byte 0xe9 at place 4"):
            list(read_lines(path, whole=whole))


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match=r"none\.csv"):
        read(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_a_named_pipe_is_read_once_and_from_its_beginning(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    text = {"a.csv": "text\nfox\ndog\n", "a.jsonl": '{"text": "fox"}\n{"text": "dog"}\n', "a.txt": "fox\ndog\n"}[name]
    writer = Thread(target=path.write_text, args=(text,), daemon=True)
    writer.start()
    assert [row if isinstance(row, str) else row["text"] for row in read(path)] == ["fox", "dog"]
    writer.join()


def test_a_pipe_of_no_known_kind_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match=r"pipe is none of \.txt"):
        read(tmp_path / "pipe")
