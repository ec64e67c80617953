"""`multihead run`: files, pipes, rows that fail, runs that are gone on with."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from threading import Timer

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from multihead.cli import drawing, rows
from multihead.cli.main import cli
from multihead.cli.precision import loading
from multihead.cli.results import Output
from multihead.errors import InvalidInput, ModelNotFound, MultiheadError, UnsupportedOption
from multihead.tasks.answers import Metadata

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


@pytest.mark.parametrize("precision", ["auto", "float32", "fp32", "bfloat16", "bf16", "float16", "int8", "int4"])
def test_every_precision_answers_alike(classifier, precision):
    words = ("sentiment-analysis", TEXTS[0], "-m", classifier, "--set", "top_k=null", "--precision")
    expected, found = (answered(run(*words, name))[0]["output"] for name in ("float32", precision))
    assert {row["label"]: row["score"] for row in found} == pytest.approx(
        {row["label"]: row["score"] for row in expected}, abs=0.0 if precision == "fp32" else 0.2
    )


def test_a_precision_becomes_what_the_pipeline_takes():
    assert loading("auto", None) == loading("auto", "cpu") == {"precision": "auto"}
    assert loading("auto", "cuda") == {}
    assert loading("fp32", None) == loading("float32", None) == {"dtype": "float32"}
    for name in ("bf16", "bfloat16"):
        assert loading(name, None) == loading(name, "cpu") == {"precision": "bf16"}
        assert loading(name, "cuda:0") == {"dtype": "bfloat16"}
    assert loading("int4", "cuda") == {"precision": "int4"}
    assert loading("gguf", None) == {"precision": "gguf"}


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


def interrupted(process):
    """What a process says that is told to stop, again where Python lost the first word (in a finalizer, say)."""
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=6)[1]
    raise AssertionError("It does not stop.")


def test_ctrl_c_leaves_an_output_that_the_same_command_completes(classifier, tmp_path):
    source, out = tmp_path / "many.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"{TEXTS[n % 3]} {n}\n" for n in range(300_000)))
    words = [sys.executable, "-m", "multihead", "run", "sentiment-analysis", "--file", str(source), "-m",
             str(classifier), "--output", str(out), "--precision", "float32"]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    end = time.time() + 60
    while not (out.exists() and out.stat().st_size > 10_000) and time.time() < end:
        time.sleep(0.02)
    error = interrupted(process)
    assert process.returncode == 130, error
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
    found = [(row["a"], row["b"]) for row in rows.read(path)]
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
    result = run("question-answering", text, "-m", llama, "--file", write(tmp_path / "bad.jsonl", [{"question": "[/x]",
                 "context": [text]}]))  # fmt: skip
    assert "Row 0" in result.stderr
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False)
    found = [{"entity": "PER", "score": 0.9, "word": "[/INST]", "start": 0, "end": 7}]
    drawing.show(console, "ner", text, found)
    terminal = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    drawing.footer(terminal, Metadata("ner", "my[/model]", "bf16", "cpu"), 2, tmp_path / "[/out]")
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
    with pytest.raises(InvalidInput, match=r"a\.parquet cannot be read as Parquet"):
        run("sentiment-analysis", "--file", tmp_path / "a.parquet", "-m", classifier)
    with pytest.raises(InvalidInput, match="no folder"):
        run("sentiment-analysis", "fox", "-m", classifier, "--output", tmp_path / "none" / "x.jsonl")
