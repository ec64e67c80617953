"""Approximate search finds nearly what exact search finds, and scores it by the stored vectors."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from multihead import Index, SentenceEncoder
from multihead.errors import CorruptFile, UnsupportedOption
from multihead.retrieval.graph import Graph
from multihead.retrieval.vectors import StoredVectors, unit_rows

from .conftest import DOCUMENTS

pytest.importorskip("faiss")


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_nearly_all_of_the_best_rows_are_found(precision):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(50, 24))
    rows = unit_rows((centers[rng.integers(0, 50, 3000)] + rng.normal(scale=0.5, size=(3000, 24))).astype(np.float32))
    queries = unit_rows((centers[:40] + rng.normal(scale=0.5, size=(40, 24))).astype(np.float32))
    stored = StoredVectors.of(rows, precision, "cosine")
    expected_scores, expected = stored.search(queries, 10)
    scores, found = Graph.build(stored).search(stored, queries, 10)
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, expected, strict=True)]) > 0.95
    same = found == expected
    np.testing.assert_allclose(scores[same], expected_scores[same], atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_an_index_keeps_its_graph(encoder, tmp_path):
    index = Index.build(DOCUMENTS, encoder, approximate=True)
    exact = index.search("fox", top_k=6, exact=True)
    found = index.search("fox", top_k=6)
    scores = {hit["id"]: hit["score"] for hit in exact}  # two of them may differ in the last bits only
    assert {hit["id"]: hit["score"] for hit in found} == pytest.approx(scores, abs=1e-5)
    index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index", encoder)
    assert again.search("fox", top_k=6, exact=False) == found
    again.add(["a quick fox"])
    assert len(again.graph) == 7
    assert len(again.search("fox", top_k=100)) == 7
    plain = Index.build(DOCUMENTS, encoder)
    with pytest.raises(UnsupportedOption, match="make_graph"):
        plain.search("fox", exact=False)
    plain.save(tmp_path / "index")  # over one with a graph
    assert Index.load(tmp_path / "index", encoder).graph is None
    assert not (tmp_path / "index" / "graph.faiss").exists()


def test_a_broken_graph_is_never_given_to_faiss(encoder, tmp_path):
    Index.build(DOCUMENTS, encoder, approximate=True).save(tmp_path / "index")
    path = tmp_path / "index" / "graph.faiss"
    whole = bytearray(path.read_bytes())
    for broken in (bytes(whole[:-3]), bytes([whole[0] ^ 1, *whole[1:]]), b""):
        path.write_bytes(broken)
        with pytest.raises(CorruptFile, match="not what was written"):
            Index.load(tmp_path / "index")
    path.unlink()
    with pytest.raises(CorruptFile, match="missing"):
        Index.load(tmp_path / "index")


def test_distances_and_a_missing_package_are_said(encoder_folder, encoder, monkeypatch):
    other = SentenceEncoder.from_pretrained(encoder_folder, similarity_fn_name="euclidean")
    with pytest.raises(UnsupportedOption, match="euclidean"):
        Index.build(DOCUMENTS, other, approximate=True)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UnsupportedOption, match=r'pip install "multihead\[search\]"'):
        Index.build(DOCUMENTS, encoder, approximate=True)
