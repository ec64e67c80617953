"""Batch jobs: files in, parts out, the same answers through any stop, engine and order."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pandas
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from multihead import pipeline
from multihead.data_files import read
from multihead.errors import InvalidInput, ModelNotFound, UnsupportedOption
from multihead.pipelines.batch_inference.engines import Worker
from multihead.pipelines.batch_inference.job import BatchJob, answer_part
from multihead.pipelines.batch_inference.parts import PartFolder
from multihead.pipelines.batch_inference.run import Batch, BatchOptions
from multihead.pipelines.batch_inference.sources import Inputs, cut_parts, estimate_rows, find_files
from tests.cli.rows import call, lines

WORDS = "the quick brown fox jumps over the lazy dog".split()
TEXTS = [" ".join(WORDS[: 1 + n % 9]) for n in range(23)]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    return path


@pytest.fixture
def labels(classifier):
    return pipeline("text-classification", str(classifier), dtype="float32")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] not in "._"}


def answers(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("part-*.jsonl")) for row in lines(path)]


def test_a_job_answers_every_row_once_with_kept_columns_and_a_manifest(labels, rows, tmp_path):
    manifest = labels.map(rows, tmp_path / "out", keep="id", part_rows=10)
    found = answers(tmp_path / "out")
    assert [row["row"] for row in found] == [row["id"] for row in found] == list(range(23))
    expected = [labels(TEXTS[first : first + 10]) for first in (0, 10, 20)]
    assert [row["output"] for row in found] == [answer for part in expected for answer in part]
    assert (manifest["rows"], manifest["failed"]) == (23, 0)
    assert [part["rows"] for part in manifest["parts"]] == [10, 10, 3]
    assert json.loads((tmp_path / "out" / "_manifest.json").read_text()) == manifest
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[:2] == ["_manifest.json", "_run.json"]
    assert not (tmp_path / "out" / ".work").exists()


@pytest.mark.parametrize("format_", ["csv", "tsv", "parquet", "arrow"])
def test_tables_of_all_parts_have_the_same_columns(labels, tmp_path, format_):
    table = pyarrow.table({"id": pyarrow.array([3, 1, 2], pyarrow.int16()), "text": ["fox", "", "dog"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pyarrow.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    source = tmp_path / ("a.arrow" if format_ == "arrow" else "a.parquet")
    manifest = labels.map(source, tmp_path / "out", keep="id", part_rows=1, format=format_, top_k=2)
    assert (manifest["rows"], manifest["failed"]) == (3, 1)  # the second part holds nothing but a failure
    names = ["row", "id", "input", "label_1", "score_1", "label_2", "score_2", "error", "notices"]
    parts = sorted((tmp_path / "out").glob("part-*"))
    assert len(parts) == 3
    if format_ in ("csv", "tsv"):
        frames = [pandas.read_csv(path, sep="\t" if format_ == "tsv" else ",") for path in parts]
        assert [list(frame.columns) for frame in frames] == [names] * 3
        return
    tables = [
        pyarrow.parquet.read_table(p) if format_ == "parquet" else pyarrow.ipc.open_file(p).read_all() for p in parts
    ]
    assert all(each.schema.equals(tables[0].schema) for each in tables)
    joined = pyarrow.concat_tables(tables)
    assert joined.schema.field("id").type == pyarrow.int16()
    assert joined["id"].to_pylist() == [3, 1, 2]
    assert [row["id"] for row in read(parts[0])] == [3]
    assert joined["error"].to_pylist()[1].startswith("Input 1 ")


def test_arrow_files_and_streams_are_read(tmp_path):
    table = pyarrow.table({"text": ["a", "b", None]})
    for name, make in (("file", pyarrow.ipc.new_file), ("stream", pyarrow.ipc.new_stream)):
        with make(str(tmp_path / f"{name}.arrow"), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        assert list(read(tmp_path / f"{name}.arrow")) == table.to_pylist()
    (tmp_path / "broken.arrow").write_bytes(b"ARROW1\0\0 and nothing of the kind")
    with pytest.raises(InvalidInput, match=r"broken\.arrow"):
        list(read(tmp_path / "broken.arrow"))


def test_patterns_and_folders_name_the_file_of_each_row(labels, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name, text in (("b.txt", "fox\ndog\n"), ("deep/a.txt", "lazy\n"), ("_not.txt", "x\n"), (".not.txt", "x\n")):
        (tmp_path / "in" / name).write_text(text)
    for number, source in enumerate(
        [tmp_path / "in", f"{tmp_path}/in/**/[ab].txt", [tmp_path / "in/deep", tmp_path / "in/b.txt"]]
    ):
        labels.map(source, tmp_path / f"out{number}")
        found = answers(tmp_path / f"out{number}")
        assert [(row["file"], row["row"], row["input"]) for row in found] == [
            ("b.txt", 0, "fox"), ("b.txt", 1, "dog"), ("deep/a.txt", 0, "lazy")
        ]  # fmt: skip
    with pytest.raises(InvalidInput, match="would be read too"):
        labels.map(tmp_path / "in", tmp_path / "in" / "out")
    with pytest.raises(ModelNotFound):
        labels.map(tmp_path / "none.txt", tmp_path / "out")
    with pytest.raises(InvalidInput, match="No file matches"):
        labels.map(f"{tmp_path}/*.tsv", tmp_path / "out")


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_a_stopped_job_goes_on_and_ends_as_if_it_had_not_been_stopped(labels, rows, tmp_path, format_):
    expected = labels.map(rows, tmp_path / "whole", part_rows=4, format=format_)

    class Stop(Exception):
        pass

    def batch(output, stop_at):
        left = iter(range(stop_at))

        def advance():
            if next(left, None) is None:
                raise Stop

        own = Batch(source=rows, output=output, inputs=Inputs(labels.task), recipe=labels.recipe, varied=False,
                    record={}, options=BatchOptions(part_rows=4, format=format_), pipe=lambda: labels)  # fmt: skip
        known = []
        try:
            return own.run(lambda part: known.append(part.get("known", False)), advance), known
        except Stop:
            return None, known

    output = tmp_path / "stopped"
    assert batch(output, 9) == (None, [False, False])
    assert not list(output.glob("part-*.parquet"))
    (output / ".work" / "new" / "half.jsonl").write_text('{"row": 8, ')  # as a kill leaves it
    assert batch(output, 7) == (None, [True, True, False])
    manifest, known = batch(output, 99)
    assert known == [True] * 3 + [False] * 3
    assert contents(output) == contents(tmp_path / "whole")
    assert manifest["parts"] == expected["parts"]
    stamps = [path.stat().st_mtime_ns for path in sorted(output.iterdir())]
    assert batch(output, 0) == (manifest, [])
    assert [path.stat().st_mtime_ns for path in sorted(output.iterdir())] == stamps


def test_what_is_read_and_asked_must_be_the_same(labels, rows, tmp_path):
    output = tmp_path / "out"
    rows.with_name("bad.jsonl").write_text('{"text": 7}\n')
    with pytest.raises(InvalidInput, match="Input 0"):
        labels.map(rows.with_name("bad.jsonl"), tmp_path / "bad", strict=True)
    labels.map(rows, output, part_rows=10)
    with pytest.raises(InvalidInput, match="differs in options"):
        labels.map(rows, output, part_rows=10, top_k=2)
    with pytest.raises(InvalidInput, match="differs in part_rows"):
        labels.map(rows, output, part_rows=11)
    rows.write_text(rows.read_text() + '{"id": 1, "text": "fox"}\n')
    with pytest.raises(InvalidInput, match="has changed since"):
        labels.map(rows, output, part_rows=10)
    (output / "_manifest.json").unlink()  # as of a job that is not finished
    (output / ".work" / "done").mkdir(parents=True)
    assert labels.map(rows, output, part_rows=11, overwrite=True)["rows"] == 24
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not empty"):
        labels.map(rows, tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


def test_rows_that_change_while_a_job_is_stopped_are_noticed(labels, rows, tmp_path):
    files = find_files(rows)
    folder = PartFolder(tmp_path / "out", ".jsonl", False, files)
    folder.prepare()
    part = next(cut_parts(files, Inputs(labels.task), False, 10))
    summary = answer_part(labels, BatchJob(labels.recipe, folder), part)
    assert folder.summary(part) == summary
    changed = rows.read_text().replace("the quick", "a quick", 1)
    rows.write_text(changed)
    with pytest.raises(InvalidInput, match=r"part-00000-00000 .* has changed"):
        folder.summary(next(cut_parts(files, Inputs(labels.task), False, 10)))


def test_a_full_disk_ends_a_job_and_leaves_whole_parts(labels, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": TEXTS[n], "more": "x" * 500 * n}) + "\n" for n in range(23)))
    labels.map(rows, tmp_path / "whole", part_rows=8, keep="more")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InvalidInput, match="make room"):
            labels.map(rows, tmp_path / "out", part_rows=8, keep="more")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(contents(tmp_path / "out").items()) < set(contents(tmp_path / "whole").items())
    labels.map(rows, tmp_path / "out", part_rows=8, keep="more")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_workers_give_the_same_parts_and_one_that_is_killed_is_replaced(labels, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    labels.map(rows, tmp_path / "here", part_rows=12)
    files = find_files(rows)
    folder = PartFolder(tmp_path / "there", ".jsonl", False, files)
    (tmp_path / "there").mkdir()
    folder.prepare()
    worker = Worker(BatchJob(labels.recipe, folder), 0, 1)
    try:
        for part in cut_parts(files, Inputs(labels.task), False, 12):
            worker.perform(part)
            worker.process.kill()
            worker.process.wait()
    finally:
        worker.close()
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    labels.recipe = None
    with pytest.raises(UnsupportedOption, match="in memory"):
        labels.map(rows, tmp_path / "out", workers=2)


def test_draws_depend_on_the_row_alone(llama, tmp_path):
    (tmp_path / "a.txt").write_text("fox\n" * 6)
    write = pipeline("text-generation", str(llama), max_new_tokens=4, do_sample=True)
    found = []
    for size in (6, 2):
        write.map(tmp_path / "a.txt", tmp_path / f"out{size}", part_rows=size)
        found.append([row["output"] for row in answers(tmp_path / f"out{size}")])
    assert found[0] == found[1]
    assert len({json.dumps(output) for output in found[0]}) > 1
    assert [write("fox", seed=0)[0]["generated_text"]] == [found[0][0][0]["generated_text"]]
    write.window = 4  # a window is no reason to draw the same again
    texts = [row[0]["generated_text"] for row in write(["fox"] * 6, seed=0)]
    assert texts == [output[0]["generated_text"] for output in found[0]]


def test_the_command_writes_folders_and_tries_a_few_rows(classifier, rows, tmp_path):
    words = ("run", "text-classification", "--file", rows, "-m", classifier, "--precision", "fp32")
    call(*words, "--output", f"{tmp_path}/out/", "--part-rows", 10, "--format", "csv")
    assert sum(len(pandas.read_csv(path)) for path in (tmp_path / "out").glob("*.csv")) == 23
    tried = call(*words, "--dry-run", 2)
    assert len(tried.stdout.splitlines()) == 2
    assert "about 23 rows" in tried.stderr
    for more, error in ((("--workers", 2, "--output", "x.jsonl"), "slash at its end"), (("--format", "csv"), "slash"),
                        (("--output", f"{tmp_path}/o/", "--format", "xls"), "format is one of"),
                        (("--output", f"{tmp_path}/o/", "--workers", 0), "workers is a whole number")):  # fmt: skip
        with pytest.raises((UnsupportedOption, InvalidInput), match=error):
            call(*words, *more)


def test_rows_are_estimated(rows, tmp_path):
    assert estimate_rows(find_files(rows)) == 23
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2, 3]}), tmp_path / "a.parquet")
    assert estimate_rows(find_files(tmp_path / "a.parquet")) == 3
