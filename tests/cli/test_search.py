"""`multihead search`: ranked documents of a file or an index, for one query or many."""

from __future__ import annotations

import io
import json
import os
import shutil

import pytest
import transformers
from rich.console import Console

import multihead.retrieval.embedding as embedding
from multihead import Index, SentenceEncoder
from multihead.cli.search.results import best_sentences, draw_results, excerpt
from multihead.errors import CorruptFile, InvalidInput, ModelNotFound, UnsupportedOption
from tests.conftest import written

from .rows import call, write_rows

TEXTS = ["the quick brown fox jumps", "a dog", "", "the lazy dog", "dog fox dog fox", "日本", "the fox"]
GOOD = [0, 1, 3, 4, 6]


def search(*words, text=None):
    return call("search", *words, "--precision", "float32", text=text)


def found(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "rows.jsonl", TEXTS)


@pytest.fixture
def words(bert, rows):
    return (rows, "--column", "body", "--id", "key", "-m", bert)


def test_a_file_is_searched_as_by_an_index(words, rows, bert):
    first = search(*words, "a fox", "lazy dog", "--top-k", 3)
    assert "there is no index of it yet" in first.stderr
    assert "Row 2 is empty." in first.stderr
    assert "Row 5 has no token" in first.stderr
    index = Index.build([TEXTS[n] for n in GOOD], SentenceEncoder.from_pretrained(bert), ids=[f"k{n}" for n in GOOD])
    for line, query in zip(found(first), ("a fox", "lazy dog"), strict=True):
        assert line["query"] == query
        expected = index.search(query, top_k=3)
        assert [hit["id"] for hit in line["results"]] == [hit["id"] for hit in expected]
        for hit, other in zip(line["results"], expected, strict=True):
            assert hit["score"] == pytest.approx(other["score"], abs=1e-5)
            assert hit["fields"] == {"key": hit["id"], "n": int(hit["id"][1:])}
    again = search(*words, "a fox", "lazy dog", "--top-k", 3)
    assert again.stdout == first.stdout
    assert not again.stderr
    assert found(search(rows, "a fox")) == found(search(f"{rows}.index", "a fox"))  # options are those of the index


def test_queries_come_from_a_file_or_a_pipe(words, tmp_path):
    expected = found(search(*words, "a fox", "dog"))
    (tmp_path / "q.txt").write_text("a fox\ndog\n")
    (tmp_path / "q.csv").write_text("n,question\n1,a fox\n2,dog\n")
    assert found(search(*words, "--queries", tmp_path / "q.txt")) == expected
    assert found(search(*words, "--queries", tmp_path / "q.csv", "--query-column", "question")) == expected
    assert found(search(*words, "-", text="a fox\ndog\n")) == expected


def test_the_index_follows_the_file_and_the_options(words, rows, bert, tmp_path):
    search(*words, "a fox")
    assert "another quantize" in search(*words, "a fox", "--quantize", "int8").stderr
    assert "another column" in search(rows, "--column", "key", "-m", bert, "dog").stderr
    assert "there is no index" in search(*words, "dog", "--index", tmp_path / "other").stderr
    os.utime(rows, (1, 1))
    assert "it has changed" in search(*words, "a fox").stderr
    rows.write_text(json.dumps({"key": "new", "body": "a fox"}) + "\n")
    line = found(search(*words, "a fox"))[0]
    assert [hit["id"] for hit in line["results"]] == ["new"]  # one row, and fewer than --top-k
    assert "built again" in search(*words, "a fox", "--rebuild").stderr


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_quantized_indexes_of_a_file_are_those_of_python(words, bert, precision):
    lines = found(search(*words, "a fox", "--quantize", precision))
    index = Index.build([TEXTS[n] for n in GOOD], SentenceEncoder.from_pretrained(bert), precision=precision)
    expected = index.search("a fox", top_k=5)
    assert [hit["text"] for hit in lines[0]["results"]] == [hit["text"] for hit in expected]
    assert lines[0]["results"][0]["score"] == pytest.approx(expected[0]["score"], abs=1e-4)


def test_hybrid_search_and_rerankers(words, bert, tmp_path, rows):
    pytest.importorskip("bm25s")
    index = Index.build([TEXTS[n] for n in GOOD], SentenceEncoder.from_pretrained(bert))
    expected = index.search("lazy dog", hybrid=True)
    for _ in range(2):  # made for an index without it, then read
        lines = found(search(*words, "lazy dog", "--hybrid"))
        assert [hit["text"] for hit in lines[0]["results"]] == [hit["text"] for hit in expected]
        assert set(lines[0]["results"][0]) == {"corpus_id", "id", "score", "similarity", "text", "fields"}
    assert (tmp_path / "rows.jsonl.index" / "lexical.json").exists()
    reranker = written(tmp_path, transformers.BertForSequenceClassification, num_labels=1)
    line = found(search(*words, "lazy dog", "--rerank", reranker, "--candidates", 3, "--top-k", 2))[0]
    assert len(line["results"]) == 2
    best = [hit["text"] for hit in index.search("lazy dog", top_k=3)]
    assert all(hit["text"] in best for hit in line["results"])


def test_a_stopped_build_continues(words, monkeypatch):
    monkeypatch.setattr(embedding, "WINDOW_TEXTS", 2)
    import multihead.cli.search.build as build

    whole, calls = build.embed_texts, []

    def stops(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*given)

    with monkeypatch.context() as patch:
        patch.setattr(build, "embed_texts", stops)
        assert search(*words, "a fox").exit_code == 1
    calls.clear()
    monkeypatch.setattr(build, "embed_texts", lambda *given: calls.append(1) or whole(*given))
    assert found(search(*words, "a fox"))
    assert len(calls) == 2  # of four windows


def test_ids_that_occur_twice_are_named(bert, tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("id,text\na,a fox\na,a dog\nb,the fox\n")
    result = search(path, "--id", "id", "--column", "text", "-m", bert, "fox")
    assert "Row 1 has the id of row 0: 'a'" in result.stderr
    assert sorted(hit["id"] for hit in found(result)[0]["results"]) == ["a", "b"]
    with pytest.raises(InvalidInput, match="Row 1 has the id"):
        search(path, "--id", "id", "--column", "text", "-m", bert, "fox", "--strict", "--rebuild")


def test_queries_without_an_embedding_are_named(words):
    result = search(*words, "a fox", "", "日本")
    assert [line["row"] for line in found(result)] == [0]
    assert "Query 1 is empty." in result.stderr
    assert "Query 2 has no token" in result.stderr
    assert search(*words, "").exit_code == 1
    with pytest.raises(InvalidInput, match="Query 0 is empty"):
        search(*words, "", "--strict")


def test_another_model_is_refused(words, rows, classifier, tmp_path):
    search(*words, "a fox")
    shutil.copytree(f"{rows}.index", tmp_path / "planes")
    with pytest.raises(InvalidInput, match="gives other vectors"):
        search(tmp_path / "planes", "a fox", "-m", classifier)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (("no.jsonl", "x"), ModelNotFound, r"no file and no index"),
        ((".", "x"), ModelNotFound, "no index"),
        (("empty.jsonl", "x"), InvalidInput, "no row with an embedding"),
        (("rows.jsonl", "x", "--column", "no"), InvalidInput, "no column 'no'"),
        (("rows.jsonl",), InvalidInput, "There is no query"),
        (("rows.jsonl", "x", "--candidates", "5"), UnsupportedOption, "--rerank"),
        (("rows.jsonl", "x", "--query-column", "q"), UnsupportedOption, "--queries"),
        (("rows.jsonl", "--queries", "empty.jsonl"), InvalidInput, "has no queries"),
        (("rows.jsonl", "x", "--index", "."), InvalidInput, "holds files and no index"),
    ],
)
def test_wrong_calls_are_said(rows, bert, tmp_path, monkeypatch, given, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    column = () if "--column" in given else ("--column", "body")
    with pytest.raises(error, match=message):
        search(*given, *column, "-m", bert)


def test_a_broken_index_and_options_of_a_file_are_said(words, rows):
    search(*words, "a fox")
    with pytest.raises(UnsupportedOption, match="--column belongs to the index of a file"):
        search(f"{rows}.index", "a fox", "--column", "body")
    path = rows.with_name("rows.jsonl.index") / "vectors.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptFile):
        search(*words, "a fox")


def test_a_terminal_shows_the_best_sentence(bert):
    text = "A dog sleeps. The fox jumps over the lazy dog [/b]. " + "A dog sleeps here. " * 40
    index = Index.build([text, "the fox"], SentenceEncoder.from_pretrained(bert))
    hits = index.search("The fox jumps over the lazy dog")
    vector = index.embed_queries(["The fox jumps over the lazy dog"])[0]
    spans = best_sentences(index, vector, hits)
    place = next(n for n, hit in enumerate(hits) if hit["corpus_id"] == 0)
    start, end = spans[place]
    assert text[start:end].strip() in text
    console = Console(file=io.StringIO(), width=100, markup=False)
    draw_results(console, "fox", hits, spans)
    shown = console.file.getvalue()
    assert "█" in shown
    assert "the fox" in shown
    assert excerpt(text, (14, 51)).plain.startswith("A dog sleeps. The fox jumps over the lazy dog [/b].")
    assert len(excerpt(text, (14, 51)).plain) < 370
    assert excerpt("x" * 1000, (0, 1000)).plain == "x" * 360 + " …"
