"""`multihead embed`: every output has the vectors of `encode`; failures are named; a stopped run continues."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from sentence_transformers.util.quantization import quantize_embeddings

import multihead.retrieval.embedding as embedding
from multihead import SentenceEncoder
from multihead.cli.main import cli
from multihead.errors import InvalidInput, MultiheadError, TextTooLong, UnsupportedOption

from .rows import call, lines, write_rows

TEXTS = ["The fox jumps.", "A dog", "", "the lazy dog", "dog " * 50, "日本", "a fox"]
GOOD = [0, 1, 3, 4, 6]
EXACT = ("--precision", "float32")


def embed(*words, text=None):
    return call("embed", *words, *EXACT, text=text)


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "rows.jsonl", TEXTS)


@pytest.fixture
def expected(bert):
    return SentenceEncoder.from_pretrained(bert).encode([TEXTS[n] for n in GOOD])


def test_every_output_has_the_vectors_of_encode(bert, rows, expected, tmp_path):
    words = ("--file", rows, "--column", "body", "--id", "key", "-m", bert)
    told = embed(*words, "--output", tmp_path / "v.npy").stderr
    assert "Row 2 is empty." in told
    assert "Row 5 has no token that the model knows." in told
    assert "1 texts have more than 24 tokens" in told
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-6)
    assert lines(tmp_path / "v.ids.jsonl") == [f"k{n}" for n in GOOD]
    assert [(row["row"], row["id"]) for row in lines(tmp_path / "v.errors.jsonl")] == [(2, "k2"), (5, "k5")]

    embed(*words, "--output", tmp_path / "v.jsonl")
    found = lines(tmp_path / "v.jsonl")
    assert [row["id"] for row in found] == [f"k{n}" for n in range(len(TEXTS))]
    assert np.array([found[n]["embedding"] for n in GOOD], np.float32).tolist() == np.load(tmp_path / "v.npy").tolist()
    assert found[2]["error"] == "Row 2 is empty."

    embed(*words, "--output", tmp_path / "v.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["row", "id", "embedding", "error"]
    vectors = table["embedding"].to_pylist()
    assert [n for n, vector in enumerate(vectors) if vector is not None] == GOOD
    assert np.array([vectors[n] for n in GOOD], np.float32).tolist() == np.load(tmp_path / "v.npy").tolist()
    assert table["id"].to_pylist() == [f"k{n}" for n in range(len(TEXTS))]
    assert not [path for path in os.listdir(tmp_path) if path.startswith(".")]


def test_texts_and_pipes_give_json_lines(bert, expected):
    found = [json.loads(line) for line in embed(*TEXTS, "-m", bert).stdout.splitlines()]
    np.testing.assert_allclose([found[n]["embedding"] for n in GOOD], expected, atol=1e-6)
    assert [row["id"] for row in found] == list(range(len(TEXTS)))
    piped = embed("-", "-m", bert, text="".join(f"{text}\n" for text in TEXTS))
    assert [json.loads(line) for line in piped.stdout.splitlines()] == found


def test_a_pipe_is_answered_while_it_is_written(bert):
    words = [sys.executable, "-m", "multihead", "embed", "-", "-m", str(bert), *EXACT]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for number, text in enumerate((b"The fox jumps.", b"caf\xe9", b"A dog")):
            process.stdin.write(text + b"\n")
            process.stdin.flush()
            row = json.loads(process.stdout.readline())
            assert row["row"] == number
            assert ("error" in row) == (number == 1)
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("ending", ["npy", "jsonl", "parquet"])
def test_quantized_outputs_have_the_references_numbers(bert, rows, tmp_path, precision, ending, monkeypatch):
    monkeypatch.setattr(embedding, "WINDOW_TEXTS", 2)
    words = ("--file", rows, "--column", "body", "-m", bert, "--normalize")
    embed(*words, "--output", tmp_path / "f.npy")
    whole = np.load(tmp_path / "f.npy")
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-6)
    expected = quantize_embeddings(whole, precision)
    path = tmp_path / f"q.{ending}"
    embed(*words, "--output", path, "--quantize", precision)
    if ending == "npy":
        found = np.load(path)
        assert found.dtype == expected.dtype
    elif ending == "jsonl":
        found = [row["embedding"] for row in lines(path) if "embedding" in row]
    else:
        found = [row for row in pyarrow.parquet.read_table(path)["embedding"].to_pylist() if row is not None]
    np.testing.assert_array_equal(found, expected)
    ranges = tmp_path / "q.ranges.npy"
    assert ranges.exists() == precision.endswith("int8")
    if ranges.exists():  # a query is quantized with the ranges of the documents
        line = embed("a fox", "-m", bert, "--normalize", "--quantize", precision, "--ranges", ranges).stdout
        query = quantize_embeddings(whole[-1:], precision, np.load(ranges))[0]
        assert np.abs(np.array(json.loads(line)["embedding"]) - query).max() <= 1


def test_prompts_and_dimensions_are_those_of_encode(tmp_path, bert):
    encoder = SentenceEncoder.from_pretrained(bert, prompts={"query": "the dog "})
    encoder.save_pretrained(tmp_path / "model")
    words = ("a fox", "-m", tmp_path / "model")
    for options, given in (
        (("--prompt-name", "query"), {"prompt_name": "query"}),
        (("--prompt", "lazy "), {"prompt": "lazy "}),
        (("--truncate-dim", "5", "--normalize"), {"truncate_dim": 5, "normalize_embeddings": True}),
    ):
        found = json.loads(embed(*words, *options).stdout)["embedding"]
        np.testing.assert_allclose(found, encoder.encode("a fox", **given), atol=1e-6)
    for options in (("--prompt-name", "quest"), ("--prompt", "a", "--prompt-name", "query"), ("--truncate-dim", 17)):
        with pytest.raises(InvalidInput):
            embed(*words, *options)


class TestStopped:
    @pytest.fixture(autouse=True)
    def small_windows(self, monkeypatch):
        monkeypatch.setattr(embedding, "WINDOW_TEXTS", 2)

    @pytest.fixture
    def stopped(self, bert, rows, tmp_path, monkeypatch):
        """A run that was stopped after two parts."""
        whole, calls = embedding.embed_texts, []

        def stops(*given):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return whole(*given)

        words = ("--file", rows, "--column", "body", "--id", "key", "-m", bert, "--output")
        embed(*words, tmp_path / "whole.npy")
        with monkeypatch.context() as patch:
            patch.setattr(embedding, "embed_texts", stops)
            assert "The same command continues" in embed(*words, tmp_path / "v.npy").stderr
        assert not (tmp_path / "v.npy").exists()
        return words

    def test_the_same_command_continues_it(self, stopped, tmp_path):
        told = embed(*stopped, tmp_path / "v.npy").stderr
        assert "4 rows are embedded already" in told
        for name in ("npy", "ids.jsonl", "errors.jsonl"):
            assert (tmp_path / f"v.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()
        assert not [path for path in os.listdir(tmp_path) if path.startswith(".")]

    def test_a_part_that_was_written_by_half_is_embedded_again(self, stopped, tmp_path):
        (tmp_path / ".v.npy.parts" / "000002.npy").write_bytes(b"half")
        embed(*stopped, tmp_path / "v.npy")
        assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()

    def test_other_options_are_not_mixed_in(self, stopped, tmp_path):
        with pytest.raises(InvalidInput, match="differs in normalize"):
            embed(*stopped, tmp_path / "v.npy", "--normalize")
        embed(*stopped, tmp_path / "v.npy", "--normalize", "--overwrite")
        np.testing.assert_allclose(np.linalg.norm(np.load(tmp_path / "v.npy"), axis=1), 1, rtol=1e-6)

    def test_rows_that_changed_are_not_mixed_in(self, stopped, rows, tmp_path):
        rows.write_text(rows.read_text().replace("A dog", "A hog"))
        with pytest.raises(InvalidInput, match="not those that are read now"):
            embed(*stopped, tmp_path / "v.npy")

        embed(*stopped, tmp_path / "v.npy", "--overwrite")
        embed(*stopped, tmp_path / "new.npy")
        assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "new.npy").read_bytes()

    def test_a_stop_before_the_first_part_leaves_nothing_in_the_way(self, stopped, tmp_path):
        (tmp_path / ".w.npy.parts").mkdir()
        embed(*stopped, tmp_path / "w.npy")
        assert (tmp_path / "w.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()

    def test_a_broken_part_is_said(self, stopped, tmp_path):
        (tmp_path / ".v.npy.parts" / "000000.npy").write_bytes(b"half")
        with pytest.raises(MultiheadError, match="to begin again"):
            embed(*stopped, tmp_path / "v.npy")


@pytest.mark.parametrize(("given", "read"), [
    ([1, -(1 << 63)], [1, -(1 << 63)]), ([1, True], ["1", "true"]), ([1, 1 << 63], ["1", str(1 << 63)]),
    (["x\ud800", 1.5], ["x\\ud800", "1.5"]), ([None, [1]], ["null", "[1]"]),
])  # fmt: skip
def test_ids_of_any_kind_are_in_a_parquet_file(bert, tmp_path, given, read):
    source, out = tmp_path / "in.jsonl", tmp_path / "v.parquet"
    source.write_text("".join(json.dumps({"id": one, "text": "a fox"}) + "\n" for one in given))
    embed("--file", source, "--column", "text", "--id", "id", "-m", bert, "--output", out)
    assert pyarrow.parquet.read_table(out)["id"].to_pylist() == read


def test_an_existing_file_is_kept(bert, rows, tmp_path):
    words = ("--file", rows, "--column", "body", "-m", bert, "--output", tmp_path / "v.npy")
    (tmp_path / "v.ids.jsonl").write_text("mine")
    with pytest.raises(InvalidInput, match=r"v\.ids\.jsonl exists already"):
        embed(*words)
    assert (tmp_path / "v.ids.jsonl").read_text() == "mine"
    embed(*words, "--overwrite")
    with pytest.raises(InvalidInput, match=r"v\.npy exists already"):
        embed(*words)
    with pytest.raises(InvalidInput, match="is what this command reads"):
        embed("--file", rows, "--column", "body", "-m", bert, "--output", rows, "--overwrite")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("--column", "no"), InvalidInput, "no column 'no'"),
        (("--column", "body", "--id", "no"), InvalidInput, "no column 'no'"),
        (("--column", "body", "--output", "v.txt"), InvalidInput, "must end in"),
        (("--column", "body", "--quantize", "int8"), UnsupportedOption, "--output or --ranges"),
        (("--column", "body", "--overwrite"), UnsupportedOption, "--overwrite"),
        (("--column", "body", "--ranges", "x.npy"), UnsupportedOption, "--ranges has no effect"),
        (("--column", "body", "--quantize", "int8", "--ranges", "x.npy"), InvalidInput, "x.npy"),
        (("--column", "body", "--strict"), InvalidInput, "Row 2 is empty"),
        (("--column", "n"), InvalidInput, "must be a text"),
        (("a text",), UnsupportedOption, "not both"),
    ],
)
def test_wrong_options_are_said(bert, rows, words, error, message):
    if words == ("--column", "n"):
        words = (*words, "--strict")
    with pytest.raises(error, match=message):
        embed("--file", rows, "-m", bert, *words)


def test_files_without_rows(bert, tmp_path):
    for name, content in (("a.txt", ""), ("a.jsonl", ""), ("a.csv", "text\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InvalidInput, match="no rows to embed"):
            embed("--file", tmp_path / name, "-m", bert)
    (tmp_path / "b.txt").write_text("\n\n")
    assert embed("--file", tmp_path / "b.txt", "-m", bert).exit_code == 1
    with pytest.raises(InvalidInput, match="No row has an embedding"):
        embed("--file", tmp_path / "b.txt", "-m", bert, "--output", tmp_path / "v.npy")
    (tmp_path / "c.txt").write_text("a fox\n")
    embed("--file", tmp_path / "c.txt", "-m", bert, "--output", tmp_path / "one.npy")
    assert np.load(tmp_path / "one.npy").shape == (1, 16)
    with pytest.raises(InvalidInput, match="two embeddings or more"):
        embed("--file", tmp_path / "c.txt", "-m", bert, "--output", tmp_path / "two.npy", "--quantize", "int8")


def test_too_long_without_truncation(bert):
    found = embed(*TEXTS[3:5], "-m", bert, "--no-truncation")
    assert "Row 1 has 52 tokens" in found.stderr
    with pytest.raises(TextTooLong):
        embed(*TEXTS[3:5], "-m", bert, "--no-truncation", "--strict")


def test_a_file_is_written_by_a_process_that_reads_a_pipe(bert, tmp_path):
    result = CliRunner().invoke(
        cli, ["embed", "-", "-m", str(bert), "--output", str(tmp_path / "v.jsonl")], input=io.BytesIO(b"a\nfox\n")
    )
    assert result.exit_code == 0
    assert [row["row"] for row in lines(tmp_path / "v.jsonl")] == [0, 1]
