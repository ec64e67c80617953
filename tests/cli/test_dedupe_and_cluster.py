"""`multihead dedupe` and `multihead cluster`: rows written again, reports, and input that is wrong."""

from __future__ import annotations

import csv
import json

import pytest

from multihead.cli.row_output import write_rows as write_table
from multihead.errors import InvalidInput, ModelNotFound, UnsupportedOption

from .rows import call, lines, write_rows

TEXTS = ["the quick brown fox", "The quick  brown fox", "a dog", "", "dog 17", "dog 18", 'a "dog", a fox']


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "rows.jsonl", TEXTS)


@pytest.fixture
def words(rows, bert):
    return (rows, "--column", "body", "--id", "key", "-m", bert, "--precision", "float32")


def test_rows_that_are_kept_are_written_as_they_were(words, rows, tmp_path):
    result = call("dedupe", *words, "--threshold", "1", "--output", tmp_path / "kept.jsonl",
                  "--report", tmp_path / "pairs.csv")  # fmt: skip
    kept = lines(tmp_path / "kept.jsonl")
    assert kept == [row for n, row in enumerate(lines(rows)) if n != 1]
    assert "Row 3 is kept: it is empty." in result.stderr
    assert json.loads(result.stdout) == {
        "rows": 7, "kept": 6, "equal": 1, "near": 0, "groups": 1, "without_embedding": 1,
    }  # fmt: skip
    with (tmp_path / "pairs.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert [(pair["id"], pair["kept_id"], pair["kind"], pair["score"]) for pair in pairs] == [
        ("k1", "k0", "equal", "1.0")
    ]
    call("dedupe", *words, "--threshold", "1.5", "--keep", "last", "--output", tmp_path / "last.csv")
    with (tmp_path / "last.csv").open() as file:
        assert [row["body"] for row in csv.DictReader(file)] == TEXTS[1:]


def test_near_rows_are_left_out_unless_their_numbers_differ(words):
    def near(*more):
        return json.loads(call("dedupe", *words, "--threshold", "0.01", *more).stdout)

    assert near("--ignore-numbers")["kept"] < near()["kept"]


def test_lines_of_text(tmp_path, bert):
    (tmp_path / "a.txt").write_text("a dog\nA dog\na fox\n")
    call("dedupe", tmp_path / "a.txt", "--threshold", "2", "--output", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "a dog\na fox\n"


def test_rows_get_their_cluster(words, rows, tmp_path):
    result = call("cluster", *words, "-k", "2", "--output", tmp_path / "c.jsonl")
    labeled = lines(tmp_path / "c.jsonl")
    assert [{k: v for k, v in row.items() if k != "cluster"} for row in labeled] == lines(rows)
    assert labeled[3]["cluster"] is None
    assert "Row 3 is in no cluster: it is empty." in result.stderr
    told = json.loads(result.stdout)
    assert told["rows"] == 7
    assert [each["rows"] for each in told["clusters"]] == [
        sum(row["cluster"] == n for row in labeled) for n in range(2)
    ]
    assert told["clusters"][0]["center"]["id"].startswith("k")
    assert -1 <= told["silhouette"] <= 1
    again = call("cluster", *words, "-k", "2")
    assert again.stdout == result.stdout
    with pytest.raises(InvalidInput, match="column 'n' already"):
        call("cluster", *words, "-k", "2", "--output", tmp_path / "d.jsonl", "--label", "n")


@pytest.mark.parametrize("command", ["dedupe", "cluster"])
def test_wrong_input_is_said(command, rows, words, bert, tmp_path):
    for name, content in (("empty.jsonl", ""), ("broken.jsonl", "{\n"), ("head.csv", "body\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InvalidInput, match="has no rows"):
            call(command, tmp_path / name, "-m", bert)
    with pytest.raises(ModelNotFound):
        call(command, tmp_path / "no.jsonl", "-m", bert)
    with pytest.raises(InvalidInput, match="no column 'no'"):
        call(command, rows, "--column", "no", "-m", bert)
    with pytest.raises(InvalidInput, match="is what this command reads"):
        call(command, *words, "--output", rows, "--overwrite")
    (tmp_path / "there.jsonl").write_text("mine")
    with pytest.raises(InvalidInput, match="exists already"):
        call(command, *words, "--output", tmp_path / "there.jsonl")
    with pytest.raises(InvalidInput, match="must end in"):
        call(command, *words, "--output", tmp_path / "x.parquet")


def test_options_that_do_not_fit_are_said(words):
    for more in (("-k", "2", "--threshold", "0.5"), ("--method", "communities"), ("-k", "2", "--method", "hdbscan")):
        with pytest.raises(UnsupportedOption):
            call("cluster", *words, *more)
    with pytest.raises(InvalidInput, match="9 clusters need"):
        call("cluster", *words, "-k", "9")


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_a_table_keeps_every_line_end_of_a_text(tmp_path, ending):
    rows = [{"body": text, "sure": True} for text in ("a\rb", "a\nb", "a\r\nb", 'a "b", c\td', "")]
    path = tmp_path / f"kept{ending}"
    write_table(path, rows)
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file, delimiter="," if ending == ".csv" else "\t"))
    assert found == [{"body": row["body"], "sure": "true"} for row in rows]
