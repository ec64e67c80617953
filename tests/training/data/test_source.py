"""Rows of every source are alike, know where they stand, and broken ones are named with file and line."""

from __future__ import annotations

import json

import datasets
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.errors import InvalidInput, ModelNotFound
from multihead.training.data.source import Rows

ROWS = [{"text": "The fox", "label": 1}, {"text": "a dog, lazy", "label": 0}, {"text": "naß", "label": 1}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


def written(folder):
    """The same rows in every kind of file."""
    for ending, between in (("csv", ","), ("tsv", "\t")):
        lines = [between.join(("text", "label"))] + [f'"{row["text"]}"{between}{row["label"]}' for row in ROWS]
        (folder / f"a.{ending}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    (folder / "a.json").write_text(json.dumps(ROWS, indent=1))
    (folder / "b.json").write_text(json.dumps({"version": "1", "data": ROWS}))
    (folder / "c.json").write_text("\n".join(map(json.dumps, ROWS)))
    pyarrow.parquet.write_table(pyarrow.table(COLUMNS), folder / "a.parquet")
    return folder


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "b.json", "c.json", "a.parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    rows = Rows.of(written(tmp_path) / name)
    assert [{"text": row["text"], "label": int(row["label"])} for row in rows] == ROWS
    assert rows.columns == ("text", "label")
    assert name in rows.location(1)


@pytest.mark.parametrize("source", [
    ROWS, tuple(ROWS), COLUMNS, pandas.DataFrame(COLUMNS), pyarrow.table(COLUMNS), datasets.Dataset.from_list(ROWS),
    (row for row in ROWS), datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
], ids=["list", "tuple", "columns", "pandas", "arrow", "dataset", "generator", "iterable"])  # fmt: skip
def test_every_source_in_memory_gives_the_same_rows(source):
    rows = Rows.of(source)
    assert list(rows) == ROWS
    assert rows[1] == ROWS[1]
    assert rows[-1] == ROWS[-1]
    assert rows[1:] == ROWS[1:]
    assert rows.location(2) == "row 2"
    assert [(begin, len(part)) for begin, part in rows.chunks(2)] == [(0, 2), (2, 1)]
    with pytest.raises(IndexError):
        rows[3]


def test_files_are_put_together_and_a_row_still_knows_its_own(tmp_path):
    written(tmp_path)
    for source in ([tmp_path / "a.csv", tmp_path / "a.jsonl"], str(tmp_path / "a.[cj]s*[vl]")):
        rows = Rows.of(source)
        assert len(rows) == 6
        assert rows.location(0) == "line 2 of a.csv"
        assert rows.location(5) == "line 3 of a.jsonl"
        assert rows[3] == ROWS[0]


def test_a_quoted_field_of_several_lines_keeps_the_line_it_begins_at(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"two\nlines",1\n\nlast,0\n')
    rows = Rows.of(tmp_path / "a.csv")
    assert rows[0]["text"] == "two\nlines"
    assert [rows.location(i) for i in (0, 1)] == ["line 2 of a.csv", "line 5 of a.csv"]


def test_parallel_text_files_are_rows_of_their_lines(tmp_path):
    (tmp_path / "a.en").write_text("one\n\nthree\n")
    (tmp_path / "a.de").write_text("eins\nzwei\ndrei\n")
    pair = {"en": tmp_path / "a.en", "de": str(tmp_path / "a.de")}
    rows = Rows.of(pair)
    assert list(rows) == [{"en": "one", "de": "eins"}, {"en": "", "de": "zwei"}, {"en": "three", "de": "drei"}]
    assert rows.location(2) == "line 3 of a.en and a.de"
    assert list(Rows.parallel(**pair)) == list(rows)
    (tmp_path / "a.de").write_text("eins\nzwei\n")
    with pytest.raises(InvalidInput, match=r"a\.en has 3, a\.de has 2"):
        Rows.of(pair)


def test_texts_are_rows_and_a_text_file_may_be_one(tmp_path):
    text = "First.\n\n  Second,\nlast\n"
    (tmp_path / "a.txt").write_text(text)
    assert [row["text"] for row in Rows.of(tmp_path / "a.txt")] == ["First.", "", "  Second,", "last"]
    assert list(Rows.of(tmp_path / "a.txt", whole_files=True)) == [{"text": text}]
    assert list(Rows.of(["one text", "another"])) == [{"text": "one text"}, {"text": "another"}]


def test_squads_nested_json_is_flat(tmp_path):
    answers = [{"text": "fox", "answer_start": 4}]
    article = {"title": "T", "paragraphs": [{"context": "The fox", "qas": [{"id": "1", "question": "Who?",
               "answers": answers}]}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"data": [article]}))
    assert list(Rows.of(tmp_path / "a.json")) == [
        {"title": "T", "context": "The fox", "id": "1", "question": "Who?", "answers": answers}
    ]
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": "x"}]}]}))
    with pytest.raises(InvalidInput, match=r"Article 0 of a\.json .* qas"):
        Rows.of(tmp_path / "a.json")


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.jsonl", b'{"a": 1}\n{"a": \n', r"Line 2 of a\.jsonl is no JSON"),
    ("a.jsonl", b'{"a": 1}\n[1]\n', r"Line 2 of a\.jsonl is no object"),
    ("a.json", b'[{"a": 1},\n {]', r"Line 2 of a\.json is no JSON"),
    ("a.json", b'{"a": 1}', r"a\.json must hold a list"),
    ("a.csv", b"a,b\n1,2\n1\n", r"Line 3 of a\.csv has fewer fields .* 2: a, b"),
    ("a.csv", b"a,b\n1,2,3\n", r"Line 2 of a\.csv has more fields"),
    ("a.csv", b"a,b\n1,2\n\xff,3\n", r"Line 3 of a\.csv is no UTF-8: byte 0xff at place 1"),
    ("a.txt", b"one\ntwo \xe4\n", r"Line 2 of a\.txt is no UTF-8: byte 0xe4 at place 5"),
    ("a.jsonl", b'{"a": 1}\n{"a": "\xe4"}\n', r"Line 2 of a\.jsonl is no UTF-8"),
    ("a.csv", b"a,b\n", r"no rows in a\.csv"),
    ("a.txt", b"", r"no rows in a\.txt"),
    ("a.xls", b"x", r"a\.xls is none of"),
])  # fmt: skip
def test_a_broken_file_is_refused_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        Rows.of(tmp_path / name)


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_a_text_of_arrow_that_is_no_utf8_is_refused_with_its_row(tmp_path, kept):
    texts = pyarrow.array([b"a", b"b", b"caf\xe9"], pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"text": texts})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows = Rows.of(tmp_path / "a.parquet" if kept == "file" else table)
    assert rows[1] == {"text": "b"}
    for take in (lambda: rows[2], lambda: list(rows)):
        with pytest.raises(InvalidInput, match=r"Row 2 (of a\.parquet )?is no UTF-8"):
            take()


def test_sources_that_give_no_rows_are_refused(tmp_path):
    for source, message in (([], "no rows"), ({"a": []}, "no rows"), (7, "not from int"),
                            ({"a": [1], "b": [1, 2]}, "a has 1, b has 2"), ({"a": 3}, "'a' must be a list"),
                            (tmp_path, "is a folder")):  # fmt: skip
        with pytest.raises(InvalidInput, match=message):
            Rows.of(source)
    with pytest.raises(ModelNotFound, match=r"none\.csv"):
        Rows.of(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match="data\\['train'\\]"):
        Rows.of(datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}))
    with pytest.raises(InvalidInput, match="Row 1 is no mapping"):
        list(Rows.of([{"a": 1}, [2]]))


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.one_of(st.integers(), st.none(), st.text()), min_size=1),
                min_size=1, max_size=12))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rows_of_json_lines_come_back_though_they_have_other_columns(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("json") / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    assert list(Rows.of(path)) == table
