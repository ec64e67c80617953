"""An index finds what an exact comparison finds, and refuses what it cannot answer."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import sentence_transformers as reference
import torch
import transformers

import multihead.retrieval.vectors
from multihead import CrossEncoder, Index, SentenceEncoder, pipeline
from multihead.errors import CorruptFile, InvalidInput, ModelNotFound, MultiheadError, TextTooLong, UnsupportedOption
from multihead.retrieval.vectors import StoredVectors, top_rows, unit_rows
from tests.conftest import written

from .conftest import DOCUMENTS

QUERIES = ["fox", "a lazy dog"]


def places(hits):
    return [[hit["corpus_id"] for hit in own] for own in hits]


def test_results_are_those_of_the_references_semantic_search(encoder, encoder_folder):
    theirs = reference.SentenceTransformer(str(encoder_folder), device="cpu")
    expected = reference.util.semantic_search(theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS), top_k=6)
    index = Index.build(DOCUMENTS, encoder)
    for own, other in zip(index.search(QUERIES, top_k=6), expected, strict=True):
        scores = {hit["corpus_id"]: hit["score"] for hit in other}  # two of them may differ in the last bits only
        assert {hit["corpus_id"]: hit["score"] for hit in own} == pytest.approx(scores, abs=1e-5)
        assert [hit["score"] for hit in own] == sorted((hit["score"] for hit in own), reverse=True)
    assert [len(own) for own in index.search(QUERIES, top_k=4)] == [4, 4]


def test_one_query_gives_one_list_and_rows_keep_ids_texts_and_fields(encoder):
    documents = [{"id": f"d{n}", "text": text, "lang": "en"} for n, text in enumerate(DOCUMENTS)]
    hit = Index.build(documents, encoder).search("the fox", top_k=1)[0]
    assert hit["id"] == f"d{hit['corpus_id']}"
    assert hit["text"] == DOCUMENTS[hit["corpus_id"]]
    assert hit["fields"] == {"lang": "en"}
    plain = Index.build(DOCUMENTS, encoder, ids=list("abcdef")).search("the fox", top_k=1)[0]
    assert set(plain) == {"corpus_id", "id", "score", "text"}
    assert plain["id"] == "abcdef"[plain["corpus_id"]]


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_a_loaded_index_answers_as_the_saved_one(encoder, tmp_path, precision):
    documents = [{"id": n, "text": text, "fields": {"a": [1]}} for n, text in enumerate(DOCUMENTS)]
    index = Index.build(documents, encoder, precision=precision)
    expected = index.search(QUERIES, top_k=3)
    index.save(tmp_path / "index")
    assert Index.load(tmp_path / "index").search(QUERIES, top_k=3) == expected  # the encoder comes from its folder
    index.save(tmp_path / "index")  # over itself
    again = Index.load(tmp_path / "index", encoder)
    assert again.search(QUERIES, top_k=3) == expected
    assert len(again) == len(DOCUMENTS)


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_documents_added_later_are_found_as_if_built_at_once(encoder, tmp_path, precision):
    index = Index.build(DOCUMENTS[:4], encoder, precision=precision)
    index.save(tmp_path / "index")
    index = Index.load(tmp_path / "index", encoder)
    index.add(DOCUMENTS[4:], ids=["new", 17])
    assert [row["id"] for row in index.rows] == [0, 1, 2, 3, "new", 17]
    if precision != "int8":  # whose ranges are those of the first documents
        whole = Index.build(DOCUMENTS, encoder, precision=precision)
        for own, other in zip(index.search(QUERIES), whole.search(QUERIES), strict=True):
            scores = {hit["corpus_id"]: hit["score"] for hit in other}
            assert {hit["corpus_id"]: hit["score"] for hit in own} == pytest.approx(scores, abs=1e-5)
    with pytest.raises(InvalidInput, match="'new' occurs twice"):
        index.add(["a dog again"], ids=["new"])
    with pytest.raises(InvalidInput, match="Document 6 is empty"):
        index.add([" "])
    assert len(index) == len(index.rows) == 6


def test_a_small_index_gives_all_its_rows(encoder):
    assert len(Index.build(DOCUMENTS[:1], encoder, precision="int8").search("fox", top_k=100)) == 1
    assert sorted(places([Index.build(DOCUMENTS, encoder).search("fox", top_k=100)])[0]) == [0, 1, 2, 3, 4, 5]


def test_equal_rows_come_in_their_order(encoder):
    index = Index.build(["a dog"] * 7, encoder)
    index.vectors.codes[:] = np.eye(1, 16)  # with no sum, of which the last bits could differ
    assert places(index.search(["dog", "fox"], top_k=3)) == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean", "manhattan"])
def test_blocks_change_no_result(monkeypatch, measure):
    rng = np.random.default_rng(0)
    rows, queries = rng.integers(-2, 3, (500, 8)).astype(np.float32), rng.normal(size=(30, 8)).astype(np.float32)
    rows[:, 0] = 1
    rows = unit_rows(rows) if measure == "cosine" else rows
    stored = StoredVectors.of(rows, "float32", measure)
    whole = stored.search(queries, 20)
    monkeypatch.setattr(multihead.retrieval.vectors, "BLOCK_BYTES", 4 * 30 * 37)
    monkeypatch.setattr(multihead.retrieval.vectors, "QUERIES", 7)
    parts = stored.search(queries, 20)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stored.score(queries, parts[1]), parts[0], rtol=1e-5, atol=1e-6)


def test_ties_at_the_end_go_to_the_first_rows():
    scores = torch.tensor([[0.0, 1.0, 1.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    best, rows = top_rows(scores, 3)
    assert rows.tolist() == [[3, 1, 2], [4, 3, 2]]
    assert best.tolist() == [[2, 1, 1], [5, 4, 3]]


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_quantized_rows_rank_as_the_reference_rescores_all_of_them(precision):
    pytest.importorskip("usearch")
    rng = np.random.default_rng(0)
    rows = unit_rows(rng.normal(size=(300, 16)).astype(np.float32))
    queries = unit_rows(rng.normal(size=(20, 16)).astype(np.float32))
    stored = StoredVectors.of(rows, precision, "cosine")
    expected, _ = reference.util.quantization.semantic_search_usearch(
        queries, corpus_embeddings=stored.codes, corpus_precision=precision, ranges=stored.ranges, top_k=5,
        rescore_multiplier=60,
    )  # fmt: skip
    scores, got = stored.search(queries, 5)
    assert got.tolist() == places(expected)
    exact, _ = StoredVectors.of(rows, "float32", "cosine").search(queries, 5)
    assert np.abs(scores - exact).max() < (0.02 if precision == "int8" else 0.35)


def test_a_reranker_scores_the_best_again(encoder, tmp_path):
    folder = written(tmp_path, transformers.BertForSequenceClassification, num_labels=1)
    cross = CrossEncoder.from_pretrained(folder)
    index = Index.build(DOCUMENTS, encoder)
    got = index.search("fox", top_k=3, rerank=cross)
    expected = cross.rank("fox", DOCUMENTS, top_k=3)
    assert [(hit["corpus_id"], pytest.approx(hit["score"])) for hit in got] == [
        (row["corpus_id"], row["score"]) for row in expected
    ]
    assert got[0]["similarity"] == pytest.approx(
        next(hit["score"] for hit in index.search("fox") if hit["corpus_id"] == got[0]["corpus_id"])
    )
    pipe = pipeline("text-ranking", str(folder), dtype="float32")
    assert places([index.search("fox", top_k=3, rerank=pipe)]) == places([got])
    few = index.search("fox", top_k=1, rerank=cross, candidates=2)
    assert few[0]["corpus_id"] in places([index.search("fox", top_k=2)])[0]
    with pytest.raises(InvalidInput, match="CrossEncoder or a text-ranking pipeline"):
        index.search("fox", rerank=lambda *_, **__: ["x"])


def test_another_model_is_refused(encoder, encoder_folder, tmp_path, classifier):
    Index.build(DOCUMENTS, encoder).save(tmp_path / "index")
    other = SentenceEncoder.from_pretrained(classifier)
    with pytest.raises(InvalidInput, match="gives other vectors"):
        Index.load(tmp_path / "index", other)
    index = Index.load(tmp_path / "index", encoder)
    with pytest.raises(InvalidInput, match="gives other vectors"):
        index.encoder = other
    with pytest.raises(InvalidInput, match="16 numbers"):
        index.search_vectors(np.ones((1, 4)))
    narrow = SentenceEncoder.from_pretrained(encoder_folder)
    Index.build(DOCUMENTS, narrow, truncate_dim=5).save(tmp_path / "narrow")
    assert len(Index.load(tmp_path / "narrow", encoder).search("fox", top_k=2)) == 2
    folder = tmp_path / "copied"  # the same weights under another name are the same model
    shutil.copytree(encoder_folder, folder)
    assert Index.load(tmp_path / "index", folder).search("fox", top_k=1)


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        ([], {}, "no documents"),
        (["a dog", ""], {}, "Document 1 is empty"),
        (["a dog", " \n"], {}, "Document 1 is empty"),
        (["a dog", None], {}, "Document 1 must be a text"),
        ([{"title": "a dog"}], {}, "Document 0 must be a text"),
        (["a dog", "\ud800 dog"], {}, "Document 1 is no Unicode text"),
        (["a dog", "日本"], {}, "Document 1 has no token that the model knows"),
        (["a dog", "fox"], {"ids": ["x"]}, "ids for 1 documents"),
        (["a dog"], {"ids": ["x", "y"]}, "more ids than documents"),
        (["a dog", "fox"], {"ids": ["x", "x"]}, "'x' occurs twice"),
        (["a dog"], {"ids": [None]}, "must be a string or a whole number"),
        (["a dog"], {"precision": "int4"}, "int4"),
        (["dog " * 50], {"truncation": False}, "at most 24"),
    ],
)
def test_documents_without_a_vector_are_refused(encoder, documents, options, message):
    with pytest.raises(MultiheadError, match=message):
        Index.build(documents, encoder, **options)


def test_documents_that_are_cut_are_counted(encoder):
    assert Index.build(["a dog", "dog " * 50, "fox"], encoder).cut == [1]
    with pytest.raises(TextTooLong):
        Index.build(["dog " * 50], encoder, truncation=False)


@pytest.mark.parametrize("query", ["", "  ", "日本", 7, ["fox", None]])
def test_queries_without_a_vector_are_refused(encoder, query):
    with pytest.raises(InvalidInput):
        Index.build(DOCUMENTS, encoder).search(query)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, None])
def test_top_k_is_a_whole_number_from_1(encoder, top_k):
    with pytest.raises(UnsupportedOption, match="top_k"):
        Index.build(DOCUMENTS, encoder).search("fox", top_k=top_k)


def test_vectors_that_are_not_finite_are_refused(encoder, tmp_path):
    index = Index.build(DOCUMENTS, encoder)
    for bad in (np.nan, np.inf, 0.0):
        with pytest.raises(InvalidInput, match="similar to nothing"):
            index.search_vectors(np.full((1, 16), bad))
    index.vectors.codes[3] = np.nan
    with pytest.raises(CorruptFile, match="not finite"):
        index.search("fox")


def test_distances_are_not_quantized(encoder_folder, encoder):
    other = SentenceEncoder.from_pretrained(encoder_folder, similarity_fn_name="euclidean")
    with pytest.raises(UnsupportedOption, match="euclidean"):
        Index.build(DOCUMENTS, other, precision="binary")
    hits = Index.build(DOCUMENTS, other).search("fox")
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert hits[0]["score"] < 0


class TestBrokenFolders:
    @pytest.fixture
    def folder(self, encoder, tmp_path):
        Index.build(DOCUMENTS, encoder, precision="int8").save(tmp_path / "index")
        return tmp_path / "index"

    def test_a_folder_without_an_index(self, tmp_path, encoder):
        with pytest.raises(ModelNotFound, match=r"has no index\.json"):
            Index.load(tmp_path)
        (tmp_path / "letter.txt").write_text("hello")
        with pytest.raises(InvalidInput, match="holds files and no index"):
            Index.build(DOCUMENTS, encoder).save(tmp_path)

    @pytest.mark.parametrize("name", ["vectors.npy", "rows.jsonl", "offsets.npy", "probe.npy", "ranges.npy"])
    def test_a_file_that_is_missing_or_cut(self, folder, name):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CorruptFile):
            Index.load(folder)
        (folder / name).write_bytes(b"")
        with pytest.raises(CorruptFile):
            Index.load(folder)
        (folder / name).unlink()
        with pytest.raises(CorruptFile):
            Index.load(folder)

    @pytest.mark.parametrize(
        "entries",
        [{"format": 2}, {"rows": 5}, {"width": 8}, {"precision": "binary"}, {"precision": 3}, {"rows": "6"},
         {"similarity": "euclidean"}, {"similarity": "unknown"}, {"truncate_dim": -1}, {"model": None}],
    )  # fmt: skip
    def test_a_description_that_does_not_fit(self, folder, entries):
        path = folder / "index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
        with pytest.raises(MultiheadError):
            Index.load(folder)

    def test_arrays_of_objects_are_never_unpickled(self, folder):
        np.save(folder / "probe.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(CorruptFile):
            Index.load(folder)

    def test_rows_that_are_no_rows(self, folder, encoder):
        size = (folder / "rows.jsonl").stat().st_size
        (folder / "rows.jsonl").write_bytes(b"{" + b" " * (size - 1))
        index = Index.load(folder, encoder)
        with pytest.raises(CorruptFile, match="Line"):
            index.search("fox")


class TestHybrid:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("bm25s")

    def test_ranks_of_embeddings_and_words_are_joined(self, encoder, tmp_path):
        index = Index.build(DOCUMENTS, encoder)
        hits = index.search("fox lazy", hybrid=True, top_k=6)
        dense = places([index.search("fox lazy", top_k=6)])[0]
        words = index.make_lexical().search(["fox lazy"], encoder.tokenizer, 10)[0]
        ids = [set(encoder.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in DOCUMENTS]
        query = set(encoder.tokenizer("fox lazy", add_special_tokens=False)["input_ids"])
        assert set(words) == {row for row, own in enumerate(ids) if own & query}
        expected = {row: 1 / (61 + dense.index(row)) for row in dense}
        for rank, row in enumerate(words):
            expected[row] += 1 / (61 + rank)
        assert {hit["corpus_id"]: pytest.approx(hit["score"]) for hit in hits} == expected
        assert [hit["score"] for hit in hits] == sorted(expected.values(), reverse=True)
        plain = {hit["corpus_id"]: hit["score"] for hit in index.search("fox lazy")}
        assert {hit["corpus_id"]: hit["similarity"] for hit in hits} == pytest.approx(plain)
        index.save(tmp_path / "index")
        again = Index.load(tmp_path / "index", encoder)
        assert again.has_lexical
        assert again.search("fox lazy", hybrid=True, top_k=6) == hits
        again.add(["lazy lazy fox"])
        assert 6 in again.make_lexical().search(["fox lazy"], encoder.tokenizer, 2)[0]

    def test_rows_that_only_the_words_find_have_their_similarity(self, encoder, monkeypatch):
        monkeypatch.setattr("multihead.retrieval.index.FUSED", 1)
        index = Index.build(DOCUMENTS, encoder)
        for query in ("lazy", "quick", "schläft"):
            plain = {hit["corpus_id"]: hit["score"] for hit in index.search(query)}
            for hit in index.search(query, hybrid=True, top_k=1):
                assert hit["similarity"] == pytest.approx(plain[hit["corpus_id"]], abs=1e-6)

    def test_a_query_that_shares_no_token_is_answered_by_embeddings(self, encoder):
        index = Index.build(["a dog", "dog dog"], encoder)
        assert places([index.search("fox", hybrid=True)]) == places([index.search("fox")])

    def test_broken_weights_are_said(self, encoder, tmp_path):
        index = Index.build(DOCUMENTS, encoder)
        index.make_lexical()
        index.save(tmp_path / "index")
        for name, content in (("lexical.data.npy", b"x"), ("lexical.json", b"{}"), ("lexical.vocabulary.json", b"[")):
            whole = (tmp_path / "index" / name).read_bytes()
            (tmp_path / "index" / name).write_bytes(content)
            with pytest.raises(CorruptFile):
                Index.load(tmp_path / "index")
            (tmp_path / "index" / name).write_bytes(whole)

    def test_the_package_is_named_where_it_is_missing(self, encoder, monkeypatch):
        monkeypatch.setitem(sys.modules, "bm25s", None)
        with pytest.raises(UnsupportedOption, match=r'pip install "multihead\[search\]"'):
            Index.build(DOCUMENTS, encoder).search("fox", hybrid=True)
