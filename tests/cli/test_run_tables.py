"""`multihead run --keep`, and outputs that are tables: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.cli.main import cli
from multihead.cli.render.table_file import TableOutput, open_output
from multihead.data_files import read
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.pipelines.answers import Failure
from multihead.pipelines.batch_inference.columns import KeptRow

TEXTS = ['The "fox", he said', "A dog\nand a line", "=cmd|' /C calc'!A0", "Füchse, 犬 und 🦊"]
ENDINGS = (".csv", ".tsv", ".parquet")


def run(*words):
    result = CliRunner().invoke(cli, ["run", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def load(path: Path) -> pandas.DataFrame:
    if path.suffix == ".parquet":
        return pandas.read_parquet(path)
    return pandas.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=False)


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "date", "review"])
        writer.writerows([f"00{n}", "2024-01-02", text] for n, text in enumerate(TEXTS))
    return path


def write(path, rows, *, varied=False, source=None, record=None, **options):
    """Write rows of (item, answer) or (item, answer, notices) to an output."""
    output = open_output(path, record or {}, varied=varied, source=source, **options)
    try:
        rest = list(output.rest(rows_item for rows_item, *_ in rows))
        assert len(rest) == len(rows) - output.done
        for number, row in list(enumerate(rows))[output.done :]:
            output.write(number, row[0], row[1], row[2] if len(row) > 2 else ())
        output.finish()
    finally:
        output.close()
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_kept_columns_and_answers_are_a_table_with_the_same_values_as_json_lines(classifier, reviews, ending):
    words = ("sentiment-analysis", "--file", reviews, "--column", "review", "-m", classifier, "--precision", "fp32")
    lines = reviews.with_name("out.jsonl")
    run(*words, "--keep", "id,date", "--output", lines)
    expected = [json.loads(line) for line in lines.read_text().splitlines()]
    assert list(expected[0])[:5] == ["row", "id", "date", "input", "output"]
    out = reviews.with_name("out" + ending)
    run(*words, "--keep", "id,date", "--output", out)
    table = load(out)
    assert list(table.columns) == ["row", "id", "date", "input", "label", "score", "error", "notices"]
    assert list(table["input"]) == TEXTS
    assert list(table["label"]) == [row["output"]["label"] for row in expected]
    assert list(table["score"]) == pytest.approx([row["output"]["score"] for row in expected], abs=0)
    if ending == ".parquet":
        assert list(table["id"]) == ["000", "001", "002", "003"]
    else:
        rows = list(csv.DictReader(out.open(encoding="utf-8", newline=""), delimiter="\t" if ending == ".tsv" else ","))
        assert [row["id"] for row in rows] == ["000", "001", "002", "003"]
        assert [row["input"] for row in read(out)] == TEXTS
    assert sorted(os.listdir(reviews.parent)) == sorted(["reviews.csv", "out.jsonl", "out.jsonl.run.json", out.name])


def test_every_column_is_kept_and_the_text_stands_there_once(classifier, reviews):
    out = reviews.with_name("out.csv")
    words = ("sentiment-analysis", "--file", reviews, "--column", "review", "-m", classifier)
    run(*words, "--keep", "all", "--output", out)
    assert list(load(out).columns) == ["row", "id", "date", "review", "label", "score", "error", "notices"]
    assert list(load(out)["review"]) == TEXTS
    printed = [json.loads(line) for line in run(*words, "--keep", "id", "--keep", "date").stdout.splitlines()]
    assert [list(row)[:5] for row in printed] == [["row", "id", "date", "input", "output"]] * 4


def test_columns_that_are_missing_or_clash_are_named_before_a_model_is_loaded(reviews, classifier, llama):
    words = ("sentiment-analysis", "--file", reviews, "--column", "review", "-m", reviews.with_name("none"))
    with pytest.raises(InvalidInput, match=r"no column 'dat'\. Did you mean 'date'"):
        run(*words, "--keep", "id,dat")
    with pytest.raises(UnsupportedOption, match="--keep needs a --file with columns"):
        run("sentiment-analysis", "fox", "--keep", "id")
    with pytest.raises(UnsupportedOption, match="one table"):
        run("table-question-answering", "--file", reviews, "--query", "Who?", "--keep", "id")
    (clash := reviews.with_name("b.csv")).write_text("row,label,text\n1,good,fox\n")
    with pytest.raises(InvalidInput, match="the output has a column 'row'"):
        run("sentiment-analysis", "--file", clash, "--keep", "all")
    out = reviews.with_name("o.csv")
    words = ("sentiment-analysis", "--file", clash, "-m", classifier, "--output")
    with pytest.raises(InvalidInput, match="answers have a column 'label'"):
        run(*words, out, "--keep", "label")
    assert not out.exists()
    run(*words, reviews.with_name("o.jsonl"), "--keep", "label")
    row = json.loads(reviews.with_name("o.jsonl").read_text())
    assert row["label"] == "good"
    assert row["output"]["label"]


@pytest.mark.parametrize("taken", ["row", "output", "error", "notices", "input"])
def test_a_kept_column_of_a_later_row_replaces_nothing_of_the_output(classifier, tmp_path, taken):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "A fox"}\n' + json.dumps({"text": "A dog", taken: 77}) + "\n")
    words = ("sentiment-analysis", "--file", source, "-m", classifier, "--keep", "all", "--output")
    out = tmp_path / "out.jsonl"
    with pytest.raises(InvalidInput, match=f"column '{taken}' of its own, and so has row 1 of the input"):
        run(*words, out)
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == [0]


@pytest.mark.parametrize("ending", ENDINGS)
def test_numbers_of_any_size_and_names_of_any_letters_are_kept(tmp_path, ending):
    big, long = 1 << 70, (1 << 53) + 1
    kept = [{"big": big, "long": long, "mixed": long, "half\ud800": "x\ud800"},
            {"big": 1, "long": -(1 << 63), "mixed": 0.5, "half\ud800": None}]  # fmt: skip
    rows = [(KeptRow("x", row), {"score": 0.5}) for row in kept]
    table = load(write(tmp_path / f"o{ending}", rows))
    assert list(map(str, table["big"])) == [str(big), "1"]
    assert list(map(int, table["long"])) == [long, -(1 << 63)]
    if ending == ".parquet":  # pandas reads such a column of CSV as floats
        assert list(table["mixed"]) == [str(long), "0.5"]
    assert table["half\\ud800"][0] == "x\\ud800"


@pytest.mark.parametrize("ending", ENDINGS)
def test_failed_rows_keep_their_columns_and_notices_are_text(tmp_path, ending):
    failure = Failure(1, InvalidInput("Input 1 is empty."))
    rows = [
        (KeptRow("fox", {"id": 7}), {"label": "A", "score": 0.5}, ["too long", "cut"]),
        (KeptRow("", {"id": 8}), failure),
        (KeptRow(InvalidInput("Line 3"), {}), failure),
    ]
    table = load(write(tmp_path / f"o{ending}", rows))
    assert table["notices"].iloc[0] == "too long; cut"
    assert table["error"].iloc[1] == "Input 1 is empty."
    assert [value for value in table["id"] if value in (7, 8, "7", "8")] != []
    assert list(table["row"]) == [0, 1, 2]


def test_answers_become_columns_by_their_shape(tmp_path):
    def names(*answers, varied=False):
        path = write(tmp_path / "o.csv", [("x", a) for a in answers], varied=varied, overwrite=True)
        return list(load(path).columns)[2:-2], load(path).iloc[-1].to_dict()

    assert names([{"summary_text": "s"}])[0] == ["summary_text"]
    assert names({"answer": "a", "score": 0.1, "start": 0, "end": 1})[0] == ["answer", "score", "start", "end"]
    first, second = [{"label": "A", "score": 0.9}], [{"label": "B", "score": 0.8}, {"label": "C", "score": 0.2}]
    columns, last = names(first, second)
    assert columns == ["label_1", "score_1", "label_2", "score_2"]
    assert last["label_2"] == "C"
    columns, last = names({"sequence": "x", "labels": ["A", "B"], "scores": [0.7, 0.3]})
    assert columns == ["label_1", "score_1", "label_2", "score_2"]
    columns, last = names([{"entity": "PER", "word": "Ada"}], varied=True)
    assert columns == ["output"]
    assert json.loads(last["output"]) == [{"entity": "PER", "word": "Ada"}]
    assert json.loads(names([[0.5, 1.0]])[1]["output"]) == [[0.5, 1.0]]
    assert json.loads(names({"answer": "2", "cells": ["a", "b"]})[1]["cells"]) == ["a", "b"]


def test_types_of_a_parquet_file_come_back(tmp_path):
    columns = {
        "id": pyarrow.array([1, None, 3], pyarrow.int16()),
        "day": [datetime.date(2024, 2, 29), None, datetime.date(1999, 1, 1)],
        "time": pyarrow.array([datetime.datetime(2024, 1, 1, 12, 30, 1, 5)] * 3, pyarrow.timestamp("us", "UTC")),
        "clock": [datetime.time(23, 59, 1, 5), None, datetime.time(0)],
        "price": [decimal.Decimal("1.50"), None, decimal.Decimal("20.25")],
        "tags": [["a"], [], None],
        "ok": [True, False, None],
    }
    source = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), source)
    rows = [(KeptRow("x", row), {"score": 0.5 if n else 1}) for n, row in enumerate(read(source))]
    table = pyarrow.parquet.read_table(write(tmp_path / "out.parquet", rows, source=source))
    for name in ("id", "day", "time", "clock", "price", "ok"):
        assert table[name].to_pylist() == pyarrow.table(columns)[name].to_pylist()
        assert table.schema.field(name).type == pyarrow.table(columns).schema.field(name).type
    assert table["tags"].to_pylist() == ['["a"]', "[]", None]
    assert table["score"].to_pylist() == [1.0, 0.5, 0.5]


CELLS = st.text(st.characters(exclude_characters="\0"), max_size=12)


@pytest.mark.parametrize("ending", ENDINGS)
@given(st.lists(st.tuples(CELLS, CELLS, st.floats(allow_nan=False)), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_any_text_in_a_cell_comes_back(tmp_path_factory, ending, rows):
    path = tmp_path_factory.mktemp("t") / f"o{ending}"
    write(path, [(KeptRow(text, {"k": kept}), {"label": text, "score": score}) for text, kept, score in rows])
    if ending == ".parquet":
        found = pyarrow.parquet.read_table(path).to_pylist()
    else:
        with path.open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file, delimiter="," if ending == ".csv" else "\t"))

    def shown(text):
        return text.encode("utf-8", "backslashreplace").decode()

    assert [row["label"] for row in found] == [shown(text) for text, _, _ in rows]
    assert [row["k"] for row in found] == [shown(kept) for _, kept, _ in rows]
    for row, (_, _, score) in zip(found, rows, strict=True):
        assert row["score"] in ("", None) if score in (float("inf"), -float("inf")) else float(row["score"]) == score


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_that_was_stopped_anywhere_is_gone_on_with(tmp_path, ending):
    rows = [(KeptRow(f"text {n}", {"id": n}), {"label": "é", "score": n / 8}) for n in range(5)]
    whole = load(write(tmp_path / f"whole{ending}", rows))
    path = tmp_path / f"o{ending}"
    for done in range(6):
        output = TableOutput(path, {"task": "x"}, varied=False, source=None, overwrite=True)
        for number, (item, answer) in enumerate(rows[:done]):
            output.write(number, item, answer)
        assert f"kept beside {path}" in output.progress
        output.close()
        if done:
            with pytest.raises(InvalidInput, match="differs in task"):
                TableOutput(path, {"task": "y"}, varied=False, source=None)
            changed = TableOutput(path, {"task": "x"}, varied=False, source=None)
            with pytest.raises(InvalidInput, match="answers another input"):
                changed.rest(KeptRow(f"text {n}", {"id": -n - 1}) for n in range(5))
            changed.close()
        write(path, rows, record={"task": "x"})
        pandas.testing.assert_frame_equal(load(path), whole)
        with pytest.raises(InvalidInput, match="exists already"):
            write(path, rows, record={"task": "x"})
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, f"whole{ending}"])


def test_a_killed_run_is_completed_by_the_same_command(classifier, tmp_path):
    source, out, rows = tmp_path / "many.csv", tmp_path / "out.parquet", tmp_path / ".out.parquet.rows.jsonl"

    def make(count):
        source.write_text("id,text\n" + "".join(f"{n},the fox {n}\n" for n in range(count)))

    make(200_000)
    words = [sys.executable, "-m", "multihead", "run", "sentiment-analysis", "--file", str(source), "-m",
             str(classifier), "--keep", "id", "--output", str(out), "--precision", "float32"]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    end = time.time() + 60
    while not (rows.exists() and rows.stat().st_size > 10_000) and time.time() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not out.exists()
    count = rows.read_bytes().count(b"\n")
    assert 0 < count < 200_000
    make(count + 50)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert f"rows 0 to {count - 1} already" in done.stderr
    table = load(out)
    assert [int(n) for n in table["id"]] == list(table["row"]) == list(range(count + 50))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_without_rows_or_answers_is_a_table_too(tmp_path, ending):
    assert list(load(write(tmp_path / f"none{ending}", [])).columns) == ["row", "error", "notices"]
    failure = Failure(0, InvalidInput("Input 0 is empty."))
    table = load(write(tmp_path / f"failed{ending}", [(KeptRow("", {"id": 1}), failure)]))
    assert table["error"].tolist() == ["Input 0 is empty."]


def test_suffixes_that_are_not_written_are_refused(tmp_path):
    for name in ("o.csv.gz", "o.xlsx"):
        with pytest.raises(InvalidInput, match=r"\.jsonl, \.csv"):
            open_output(tmp_path / name, {}, varied=False, source=None)
    assert os.listdir(tmp_path) == []


def test_parquet_without_pyarrow_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidInput, match="pip install pyarrow"):
        open_output(tmp_path / "o.parquet", {}, varied=False, source=None)
    assert os.listdir(tmp_path) == []
