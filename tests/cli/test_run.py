"""`multihead run`: files, pipes, rows that fail, runs that are gone on with."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from threading import Timer

import pyarrow
import pyarrow.parquet
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file, save_file

from multihead.cli.main import cli
from multihead.cli.precision import CHOICES, load_options
from multihead.cli.render.answers import render
from multihead.cli.render.output_file import Output
from multihead.cli.render.status import summary
from multihead.data_files import read
from multihead.errors import InvalidInput, ModelNotFound, MultiheadError, UnsupportedOption
from multihead.pipelines.answers import Metadata, WithNotices
from multihead.pipelines.text_classification import TextClassification
from multihead.training.signals import Signals

TEXTS = ["The fox jumps.", "A dog", "the lazy dog"]


def run(*words, text=None):
    result = CliRunner().invoke(cli, ["run", *map(str, words)], input=text)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answered(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path):
    """The same texts in every kind of file."""
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n")
    (tmp_path / "a.csv").write_text("id,review\n" + "".join(f'{n},"{t}"\n' for n, t in enumerate(TEXTS)))
    (tmp_path / "a.tsv").write_text("id\treview\n" + "".join(f"{n}\t{t}\n" for n, t in enumerate(TEXTS)))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"n": n, "review": t}) + "\n" for n, t in enumerate(TEXTS)))
    pyarrow.parquet.write_table(pyarrow.table({"n": [0, 1, 2], "review": TEXTS}), tmp_path / "a.parquet")
    return tmp_path


def test_texts_pipes_and_every_kind_of_file_give_the_same_lines(classifier, files):
    expected = answered(run("sentiment-analysis", *TEXTS, "-m", classifier))
    assert [line["row"] for line in expected] == [0, 1, 2]
    assert [line["input"] for line in expected] == TEXTS
    assert set(expected[0]["output"]) == {"label", "score"}
    assert answered(run("sentiment-analysis", "-", "-m", classifier, text="\n".join(TEXTS))) == expected
    for kind in ("txt", "csv", "tsv", "jsonl", "parquet"):
        column = () if kind == "txt" else ("--column", "review")
        assert (
            answered(run("text-classification", "--file", files / f"a.{kind}", *column, "-m", classifier)) == expected
        )


def test_options_go_to_the_task(classifier):
    result = answered(run("sentiment-analysis", TEXTS[0], "-m", classifier, "--set", "top_k=2"))
    assert len(result[0]["output"]) == 2
    with pytest.raises(MultiheadError, match="topk"):
        run("sentiment-analysis", TEXTS[0], "-m", classifier, "--set", "topk=2")
    with pytest.raises(MultiheadError, match="sentiment"):
        run("sentiment", TEXTS[0])


@pytest.mark.parametrize("precision", [name for name in CHOICES if name not in ("gguf", "file")])
def test_every_precision_answers_alike(classifier, precision):
    words = ("sentiment-analysis", TEXTS[0], "-m", classifier, "--set", "top_k=null", "--precision")
    expected, found = (answered(run(*words, name))[0]["output"] for name in ("float32", precision))
    assert {row["label"]: row["score"] for row in found} == pytest.approx(
        {row["label"]: row["score"] for row in expected}, abs=0.0 if precision == "fp32" else 0.2
    )


def test_a_precision_becomes_what_the_pipeline_takes():
    assert load_options("auto", None) == load_options("auto", "cpu") == {"precision": "auto"}
    assert load_options("auto", "cuda") == {}
    assert load_options("fp32", None) == load_options("float32", None) == {"dtype": "float32"}
    for name in ("bf16", "bfloat16"):
        assert load_options(name, None) == load_options(name, "cpu") == {"precision": "bf16"}
        assert load_options(name, "cuda:0") == {"dtype": "bfloat16"}
    assert load_options("int4", "cuda") == {"precision": "int4"}
    assert load_options("gguf", None) == {"precision": "gguf"}


def test_questions_rankings_and_comparisons_have_words_of_their_own(bert, llama):
    found = answered(run("text-ranking", *TEXTS, "--query", "fox", "-m", bert))
    assert len(found[0]["output"]) == 3
    found = answered(run("sentence-similarity", *TEXTS, "--source", "fox", "-m", bert))
    assert len(found[0]["output"]) == 3
    small = ("--set", "max_new_tokens=2", "--set", "prompt={context} {question}")
    found = answered(run("question-answering", *TEXTS, "--question", "Who?", "-m", llama, *small))
    assert [line["input"]["context"] for line in found] == TEXTS
    pair = json.dumps({"question": "Who?", "context": TEXTS[0]})
    assert answered(run("question-answering", pair, "-m", llama, *small))[0]["output"] == found[0]["output"]


def test_a_bad_row_is_named_and_the_rest_goes_on(classifier, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n{"text": 7}\nnot json\n{"text": "dog"}\n')
    result = run("sentiment-analysis", "--file", path, "-m", classifier)
    found = answered(result)
    assert [("error" in line) for line in found] == [False, True, True, False]
    assert "Row 1: must be a text" in result.stderr
    assert "Row 2: Line 3 of rows.jsonl" in result.stderr
    with pytest.raises(InvalidInput, match="Input 1"):
        run("sentiment-analysis", "--file", path, "-m", classifier, "--strict")


def test_notices_of_rows_go_to_standard_error(classifier, monkeypatch):
    own = TextClassification.postprocess

    def postprocess(self, item, *rest):
        answer = own(self, item, *rest)
        return WithNotices(answer, ["a \x1b[31m dog"]) if "dog" in item else answer

    monkeypatch.setattr(TextClassification, "postprocess", postprocess)
    result = run("sentiment-analysis", "cat", "dog", "-m", classifier)
    assert [row["row"] for row in answered(result)] == [0, 1]
    assert result.stderr.splitlines() == ["Row 1: a \\x1b[31m dog"]


def test_a_run_is_gone_on_with_and_not_mixed_up(classifier, files):
    out = files / "out.jsonl"
    words = ("sentiment-analysis", "--file", files / "a.csv", "--column", "review", "-m", classifier, "--output", out,
             "--precision", "float32", "--set", "batch_size=1")  # fmt: skip
    run(*words)
    whole = out.read_text()
    assert len(whole.splitlines()) == 3
    out.write_text(whole[: whole.index("\n") + 20])  # as a stop in the middle of the second row leaves it
    assert "rows 0 to 0 already" in run(*words).stderr
    assert out.read_text() == whole
    with pytest.raises(InvalidInput, match="differs in options"):
        run(*words, "--set", "top_k=2")
    run(*words, "--set", "top_k=2", "--overwrite")
    assert isinstance(json.loads(out.read_text().splitlines()[0])["output"], list)


def ignore_ctrl_c():
    """As a shell does for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("number", "status", "ignoring"),
    [(signal.SIGINT, 130, None), (signal.SIGINT, 130, ignore_ctrl_c), (signal.SIGTERM, 143, None)],
)
def test_a_signal_leaves_an_output_that_the_same_command_completes(classifier, tmp_path, number, status, ignoring):
    source, out = tmp_path / "many.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"{TEXTS[n % 3]} {n}\n" for n in range(300_000)))
    words = [sys.executable, "-m", "multihead", "run", "sentiment-analysis", "--file", str(source), "-m",
             str(classifier), "--output", str(out), "--precision", "float32"]  # fmt: skip
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=ignoring
    )
    end = time.time() + 60
    while not (out.exists() and out.stat().st_size > 10_000) and time.time() < end:
        time.sleep(0.02)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == status, error
    assert "The same command goes on" in error
    count = len(out.read_text().splitlines())
    assert 0 < count < 300_000
    source.write_text("".join(f"{TEXTS[n % 3]} {n}\n" for n in range(count + 50)))
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert f"rows 0 to {count - 1} already" in done.stderr
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == list(range(count + 50))


def test_files_and_columns_that_are_not_there_are_named(classifier, files):
    with pytest.raises(ModelNotFound, match=r"none\.csv"):
        run("sentiment-analysis", "--file", files / "none.csv", "-m", classifier)
    (files / "a.xls").write_text("x")
    with pytest.raises(InvalidInput, match=r"\.parquet"):
        run("sentiment-analysis", "--file", files / "a.xls", "-m", classifier)
    with pytest.raises(InvalidInput, match="Did you mean 'review'"):
        run("sentiment-analysis", "--file", files / "a.csv", "--column", "reviews", "-m", classifier)
    (files / "b.csv").write_text("a,b\nx,y\n")
    with pytest.raises(InvalidInput, match="--column"):
        run("sentiment-analysis", "--file", files / "b.csv", "-m", classifier)
    with pytest.raises(InvalidInput, match="question and context"):
        run("question-answering", "--file", files / "a.csv", "-m", classifier)


CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_what_a_csv_writer_writes_is_read(tmp_path_factory, table):
    import csv

    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b"])
        writer.writerows(table)
    written = [row for row in table if row != ("", "")]
    found = [(row["a"], row["b"]) for row in read(path)]
    assert [row for row in found if row != ("", "")] == written


def test_an_output_that_was_cut_anywhere_is_gone_on_with(tmp_path):
    path = tmp_path / "o.jsonl"
    whole = Output(path, {"task": "x"})
    for number in range(4):
        whole.write(number, f"text {number}", {"label": "é"})
    whole.close()
    data = path.read_bytes()
    for end in range(0, len(data) + 1, 7):
        path.write_bytes(data[:end])
        again = Output(path, {"task": "x"})
        assert again.done == data[:end].count(b"\n")
        for number, item in enumerate(again.rest(f"text {n}" for n in range(4)), again.done):
            again.write(number, item, {"label": "é"})
        again.close()
        assert path.read_bytes() == data


def test_every_setting_that_changes_an_answer_keeps_runs_apart(classifier, llama, files):
    out = files / "out.jsonl"
    (files / "c.txt").write_text("The fox jumps.\n")
    small = ("--set", "max_new_tokens=1", "--set", "prompt={context} {question}", "--output", out)
    words = ("question-answering", "--file", files / "c.txt", "-m", llama, *small)
    run(*words, "--question", "Who?")
    with pytest.raises(InvalidInput, match="differs in question"):
        run(*words, "--question", "When?")
    run("sentiment-analysis", TEXTS[0], "-m", classifier, "--output", out, "--overwrite", "--precision", "fp32")
    for other, what in (((TEXTS[1],), "texts"), ((TEXTS[0], "--precision", "int8"), "precision")):
        with pytest.raises(InvalidInput, match=f"differs in .*{what}"):
            run("sentiment-analysis", *other, "-m", classifier, "--output", out)
    with pytest.raises(InvalidInput, match="differs in device"):
        run("sentiment-analysis", TEXTS[0], "-m", classifier, "--output", out, "--precision", "fp32", "--device", "cpu")
    again = run("sentiment-analysis", TEXTS[0], "-m", classifier, "--output", out, "--precision", "float32")
    assert "rows 0 to 0 already" in again.stderr


@pytest.mark.parametrize("note", ['{"task"', "[]"])
def test_a_broken_note_is_said(classifier, tmp_path, note):
    out = tmp_path / "out.jsonl"
    run("sentiment-analysis", TEXTS[0], "-m", classifier, "--output", out)
    (tmp_path / "out.jsonl.run.json").write_text(note)
    with pytest.raises(InvalidInput, match=r"out\.jsonl\.run\.json .*--overwrite"):
        run("sentiment-analysis", TEXTS[0], "-m", classifier, "--output", out)
    run("sentiment-analysis", TEXTS[0], "-m", classifier, "--output", out, "--overwrite")
    assert len(out.read_text().splitlines()) == 1


def test_half_a_character_is_one_bad_row(classifier, tmp_path):
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "cut \\ud83d [/INST]"}\n{"text": "dog"}\n')
    told = run("sentiment-analysis", "--file", path, "-m", classifier, "--output", out).stderr
    assert "Row 1: has" in told
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [("error" in line) for line in found] == [False, True, False]
    assert found[1]["input"] == "cut \ud83d [/INST]"


def test_words_of_the_data_are_printed_as_they_are(classifier, llama, tmp_path, monkeypatch):
    """Brackets and colons mean styles and pictures to Rich."""
    text = "[/INST] fox [red] :fox:"
    result = run("question-answering", "-m", llama, "--file", write(tmp_path / "bad.jsonl", [{"question": "[/x]",
                 "context": [text]}]))  # fmt: skip
    assert "Row 0" in result.stderr
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False)
    found = [{"entity": "PER", "score": 0.9, "word": "[/INST]", "start": 0, "end": 7}]
    render(console, "ner", text, found)
    terminal = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    summary(terminal, Metadata("ner", "my[/model]", "bf16", "cpu"), 2, tmp_path / "[/out]")
    printed = console.file.getvalue() + terminal.file.getvalue()
    for words in (text, "0.900  PER  [/INST]", "my[/model] · bf16", "2 not answered", "[/out]"):
        assert words in printed


def test_a_question_goes_with_every_row_of_a_file(llama, bert, files):
    small = ("-m", llama, "--set", "max_new_tokens=2", "--set", "prompt={context} {question}")
    expected = answered(run("question-answering", *TEXTS, "--question", "Who?", *small))
    (files / "b.csv").write_text("context\n" + "".join(f'"{text}"\n' for text in TEXTS))
    for words in (("a.txt",), ("b.csv",), ("a.csv", "--column", "review"), ("a.jsonl", "--column", "context=review")):
        path, *columns = words
        found = run("question-answering", "--file", files / path, *columns, "--question", "Who?", *small)
        assert answered(found) == expected
    found = answered(run("text-ranking", "--file", files / "a.txt", "--query", "fox", "-m", bert))
    assert found == answered(run("text-ranking", *TEXTS, "--query", "fox", "-m", bert))
    path = write(files / "s.jsonl", [{"id": n, "sentences": TEXTS} for n in range(2)])
    found = answered(run("sentence-similarity", "--file", path, "--source", "fox", "-m", bert))
    assert [line["input"]["source_sentence"] for line in found] == ["fox", "fox"]


def test_what_is_asked_twice_or_of_another_task_is_refused(classifier, llama, tmp_path):
    path = write(tmp_path / "q.jsonl", [{"question": "Who?", "context": "Ada."}])
    with pytest.raises(InvalidInput, match="a column for question"):
        run("question-answering", "--file", path, "--question", "When?", "-m", llama)
    with pytest.raises(UnsupportedOption, match="--source is not of text-classification"):
        run("sentiment-analysis", "fox", "--source", "dog", "-m", classifier)


def test_a_live_pipe_is_answered_line_by_line_and_bytes_that_are_no_utf8_are_one_bad_row(classifier):
    words = [sys.executable, "-m", "multihead", "run", "sentiment-analysis", "-", "-m", str(classifier)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    late = Timer(60, process.kill)
    late.start()
    for text in (b"The fox jumps.", b"caf\xe9", b"A dog"):
        process.stdin.write(text + b"\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline() or "{}")
        assert ("error" if text[-1] == 0xE9 else "output") in found, "no answer before the next line"
        time.sleep(0.4)
    process.stdin.close()
    assert process.wait() == 0
    late.cancel()


def test_what_cannot_be_read_or_written_is_one_clear_message(classifier, tmp_path):
    (tmp_path / "a.parquet").write_text("PAR1")
    with pytest.raises(InvalidInput, match=r"a\.parquet.* as Parquet"):
        run("sentiment-analysis", "--file", tmp_path / "a.parquet", "-m", classifier)
    with pytest.raises(InvalidInput, match="no folder"):
        run("sentiment-analysis", "fox", "-m", classifier, "--output", tmp_path / "none" / "x.jsonl")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_loses_in_a_finalizer_still_stops_a_run():
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with Signals(at_once=True) as signals:
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            signals.check()


def command(*words):
    return [sys.executable, "-m", "multihead", "run", *map(str, words)]


def test_two_commands_do_not_write_one_output(classifier, tmp_path):
    source, out = tmp_path / "many.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"{TEXTS[n % 3]} {n}\n" for n in range(4000)))
    words = ("sentiment-analysis", "--file", source, "-m", classifier, "--output", out, "--precision", "fp32")
    processes = [subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [(process.communicate()[1], process.returncode) for process in processes]
    run(*words)
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == list(range(4000))
    assert {error.partition(".")[0] for error, status in told if status} <= {
        f"InvalidInput: Another command is writing {str(out).removesuffix('.jsonl')}"
    }
    assert sorted(os.listdir(tmp_path)) == ["many.txt", "out.jsonl", "out.jsonl.run.json"]


def test_an_output_is_gone_on_with_only_where_its_rows_are_those_of_the_input(classifier, tmp_path):
    source, out = tmp_path / "a.txt", tmp_path / "out.jsonl"
    words = ("sentiment-analysis", "--file", source, "-m", classifier, "--output", out)
    source.write_text("\n".join(TEXTS[:2]) + "\n")
    run(*words)
    whole = out.read_text()
    source.write_text("\n".join(["before", *TEXTS]) + "\n")
    with pytest.raises(InvalidInput, match=r"Row 1 of .* answers another input"):
        run(*words)
    source.write_text(TEXTS[0] + "\n")
    with pytest.raises(InvalidInput, match="has 2 rows, and there are only 1"):
        run(*words)
    source.write_text("\n".join(TEXTS) + "\n")
    rows = whole.splitlines(keepends=True)
    for mixed in (rows[0] + rows[0], rows[1], rows[0] + "\n" + rows[1], whole + "{}\n"):
        out.write_text(mixed)
        with pytest.raises(InvalidInput, match=r"Line \d of .* is not row"):
            run(*words)
        assert out.read_text() == mixed
    out.write_text(whole)
    run(*words)
    assert out.read_text().startswith(whole)
    assert len(answered_in(out)) == 3


def answered_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_output_that_is_the_input_by_any_name_is_refused(classifier, files):
    source = files / "a.csv"
    before = source.read_bytes()
    (files / "hard.jsonl").hardlink_to(source)
    (files / "soft.jsonl").symlink_to(source)
    words = ("sentiment-analysis", "-m", classifier, "--column", "review", "--overwrite")
    for out in (source, files / "hard.jsonl", files / "soft.jsonl", files / ".." / files.name / "a.csv"):
        with pytest.raises(InvalidInput, match="--output"):
            run(*words, "--file", source, "--output", out)
        assert source.read_bytes() == before
    note = files / "o.jsonl.run.json"
    note.hardlink_to(files / "a.jsonl")
    with pytest.raises(InvalidInput, match="reads"):
        run(*words, "--file", files / "a.jsonl", "--output", files / "o.jsonl")
    lines = files / "a.txt"
    for target in ("--output", ">>"):
        with lines.open("rb") as stdin, lines.open("ab") as stdout:
            more = ("--output", lines, "--overwrite") if target == "--output" else ()
            to = subprocess.DEVNULL if more else stdout
            told = subprocess.run(command("sentiment-analysis", "-m", classifier, *more), stdin=stdin, stdout=to)
        assert told.returncode == 1
        assert lines.read_text() == "\n".join(TEXTS) + "\n"


def test_an_output_is_emptied_only_once_there_is_an_answer(classifier, files):
    out = files / "out.jsonl"
    words = ("sentiment-analysis", "--file", files / "a.txt", "--output", out)
    run(*words, "-m", classifier)
    whole = out.read_text()
    for wrong in (("-m", files / "none"), ("-m", classifier, "--set", "topk=2")):
        with pytest.raises(MultiheadError):
            run(*words, *wrong, "--overwrite")
        assert out.read_text() == whole
    run(*words, "-m", classifier, "--overwrite")
    assert out.read_text() == whole


def test_rows_before_a_broken_place_are_answered_and_written(classifier, tmp_path):
    path, out = tmp_path / "a.csv", tmp_path / "out.jsonl"
    path.write_text("text\n" + "a fox\n" * 40 + '"open\n' + "a dog\n" * 3)
    words = ("sentiment-analysis", "--file", path, "-m", classifier)
    with pytest.raises(InvalidInput, match=r"Line 42 of a\.csv opens a quote"):
        run(*words, "--output", out)
    assert len(answered_in(out)) == 40
    path.write_text(path.read_text().replace('"open', "closed"))
    run(*words, "--output", out)
    assert [line["input"] for line in answered_in(out)] == ["a fox"] * 40 + ["closed"] + ["a dog"] * 3
    bad = tmp_path / "b.jsonl"
    bad.write_text('{"text": "fox"}\n' * 20 + "{\n" + '{"text": "fox"}\n' * 5)
    result = CliRunner().invoke(
        cli, ["run", "sentiment-analysis", "--file", str(bad), "-m", str(classifier), "--strict"]
    )
    assert isinstance(result.exception, InvalidInput)
    assert len(result.stdout.splitlines()) == 20


def test_the_exit_status_says_whether_anything_was_answered(classifier, tmp_path):
    some, none = tmp_path / "some.jsonl", tmp_path / "none.jsonl"
    some.write_text('{"text": "fox"}\n{"text": null}\n')
    none.write_text('{"text": null}\n{"text": 3}\n')
    (tmp_path / "empty.jsonl").write_text("")
    words = ("sentiment-analysis", "-m", classifier, "--column", "text", "--file")
    assert run(*words, some).exit_code == 0
    result = run(*words, none)
    assert result.exit_code == 1
    assert "Row 0: has nothing in its column 'text'" in result.stderr
    out = tmp_path / "out.jsonl"
    assert run(*words, tmp_path / "empty.jsonl", "--output", out).exit_code == 0
    assert out.read_text() == ""


def test_what_a_task_needs_is_asked_for_before_a_model_is_loaded(files):
    for words, message in (
        (("zero-shot-classification", "They won"), "--labels"),
        (("zero-shot-classification", "They won", "--labels", " , "), "--labels"),
        (("question-answering", "It was Ada."), "--question"),
        (("text-ranking", "Wings"), "--query"),
        (("sentence-similarity", "Wings"), "--source"),
        (("sentiment-analysis", "fox", "--column", "x"), "--column"),
        (("sentiment-analysis", "fox", "--file", files / "a.txt"), "not both"),
        (("sentiment-analysis", "fox", "--set", "top_k"), "OPTION=VALUE"),
        (("sentiment-analysis", "fox", "--overwrite"), "without --output"),
        (("sentiment-analysis", "--file", files / "a.csv", "--column", "reviews"), "Did you mean 'review'"),
    ):
        with pytest.raises(MultiheadError, match=message):
            run(*words, "-m", files / "no model")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_of_nan_answers_nothing(classifier, tmp_path, precision):
    folder = tmp_path / "broken"
    shutil.copytree(classifier, folder)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = torch.full_like(weights["classifier.weight"], torch.nan)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    result = run("sentiment-analysis", *TEXTS, "-m", folder, "--precision", precision)
    assert result.exit_code == 1
    assert all("not a number" in line["error"] for line in answered(result))


def test_inputs_that_json_has_no_form_for_are_written_as_it_can(classifier, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": NaN}\n{"text": "fox"}\n')
    lines = run("sentiment-analysis", "--file", path, "-m", classifier).stdout.splitlines()
    assert json.loads(lines[0], parse_constant=pytest.fail)["input"] is None
    assert "output" in json.loads(lines[1])


@pytest.mark.parametrize("out", ["-", "/dev/null", "/dev/stdout", "pipe"])
def test_an_output_that_cannot_be_gone_on_with_is_refused_with_what_to_do(classifier, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(InvalidInput, match="--output"):
        run("sentiment-analysis", "fox", "-m", classifier, "--output", out)
    assert os.listdir() == ["pipe"]


def test_a_disk_that_fills_is_told_with_the_row_and_the_run_goes_on_once_there_is_room(tmp_path):
    items = [f"text {n}" for n in range(100)]
    with closing(Output(tmp_path / "o.jsonl", {})) as output:
        for number, item in enumerate(items[:3]):
            output.write(number, item, number)
        size = (tmp_path / "o.jsonl").stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            with pytest.raises(InvalidInput, match=r"Row 3 cannot be written to .*o\.jsonl: File too large"):
                output.write(3, items[3], 3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
    with closing(Output(tmp_path / "o.jsonl", {})) as output:
        for number, item in enumerate(output.rest(items), output.done):
            output.write(number, item, number)
    assert [row["row"] for row in answered_in(tmp_path / "o.jsonl")] == list(range(100))
