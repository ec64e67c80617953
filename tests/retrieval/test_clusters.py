"""Clusters are those of scikit-learn and of the reference's community detection, with stable names."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
import sentence_transformers as reference

from multihead import Index, cluster_texts, deduplicate
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.retrieval.clusters import (
    by_size,
    cluster_vectors,
    communities,
    distinctive_words,
    silhouette,
    words_of,
)
from multihead.retrieval.vectors import unit_rows

pytest.importorskip("sklearn")
OPTIONS = {"k": None, "threshold": None, "min_size": 5, "seed": 0}


@pytest.fixture(scope="module")
def groups():
    """Vectors around four directions, 40, 30, 20 and 10 of them, in a mixed order."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2, 3], [40, 30, 20, 10]))
    return unit_rows((np.eye(4, 8)[labels] + rng.normal(scale=0.1, size=(100, 8))).astype(np.float32)), labels


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("kmeans", {"k": 4}),
        ("kmeans", {}),
        ("agglomerative", {"k": 4}),
        ("agglomerative", {"threshold": 0.5}),
        ("agglomerative", {}),
        ("hdbscan", {}),
        ("communities", {"threshold": 0.7}),
    ],
)
def test_every_method_finds_clear_groups(groups, method, options):
    vectors, labels = groups
    found = by_size(cluster_vectors(vectors, method, **{**OPTIONS, **options}))
    inside = found >= 0
    assert inside.mean() > 0.9
    assert found[inside].tolist() == labels[inside].tolist()
    assert silhouette(vectors, found, 0) > 0.6


def test_communities_are_the_references():
    vectors = unit_rows(np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32))
    for threshold, least in ((0.8, 5), (0.6, 20), (0.99, 2)):
        expected = reference.util.community_detection(vectors, threshold, least)
        labels = by_size(communities(vectors, threshold, least))
        found = sorted((np.flatnonzero(labels == n).tolist() for n in range(labels.max() + 1)), key=str)
        assert Counter(map(len, found)) == Counter(map(len, expected)) or len(found) == len(expected)
        first = max(expected, key=len)
        assert sorted(first) in found


def test_texts_are_grouped_and_named(encoder):
    texts = ["the dog", "a dog", "dog", None, "quick brown fox", "the quick fox", ""]
    found = cluster_texts(texts, encoder, k=2)
    assert [label is None for label in found.labels] == [False, False, False, True, False, False, True]
    assert sorted(found.errors) == [3, 6]
    assert [each.label for each in found.clusters] == [0, 1]
    assert len(found.clusters[0].rows) >= len(found.clusters[1].rows)
    for each in found.clusters:
        assert each.center in each.rows
        assert all(found.labels[row] == each.label for row in each.rows)
    again = cluster_texts(texts, encoder, k=2)
    assert (again.labels, again.clusters, again.silhouette) == (found.labels, found.clusters, found.silhouette)


def test_words_tell_clusters_apart():
    counts = [Counter({"the": 50, "dog": 30, "bark": 10}), Counter({"the": 48, "fox": 30, "jump": 9})]
    assert distinctive_words(counts, 0, 2) == ["dog", "bark"]
    assert distinctive_words(counts, 1, 2) == ["fox", "jump"]
    assert distinctive_words([Counter(a=3)], 0, 3) == []  # there is nothing to tell it from
    assert distinctive_words([Counter(a=3), Counter()], 0, 3) == ["a"]
    assert words_of("Der Hund, 17 x 東京都") == ["der", "hund", "東京", "京都"]


@pytest.mark.parametrize("options", [{}, {"k": 3}, {"k": 1}, {"method": "agglomerative"}, {"method": "hdbscan"},
                                     {"threshold": 0.9}, {"method": "agglomerative", "k": 2}])  # fmt: skip
def test_rows_that_are_all_equal_are_one_cluster(encoder, options):
    found = cluster_texts(["a dog"] * 12, encoder, **options)
    if options.get("k") != 2 and "method" not in options:
        assert set(found.labels) == {0}
    assert found.silhouette is None or options


def test_one_text(encoder):
    for options in ({}, {"k": 1}, {"method": "agglomerative"}):
        assert cluster_texts(["a dog"], encoder, **options).labels == [0]
    assert cluster_texts(["a dog"], encoder, method="hdbscan").labels == [-1]
    assert cluster_texts(["a dog"], encoder, threshold=0.5).clusters == []
    for texts in ([], ["", None]):
        with pytest.raises(InvalidInput, match="no text"):
            cluster_texts(texts, encoder)
    with pytest.raises(InvalidInput, match="3 clusters need"):
        cluster_texts(["a dog", "a fox"], encoder, k=3)


@pytest.mark.parametrize(
    "options",
    [{"k": 0}, {"k": True}, {"k": 2, "threshold": 0.5}, {"k": 2, "method": "hdbscan"}, {"method": "x"},
     {"method": "communities"}, {"threshold": 0.5, "method": "kmeans"}, {"threshold": 2}, {"min_size": 1}],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(encoder, options):
    with pytest.raises(UnsupportedOption):
        cluster_texts(["a dog", "a fox"], encoder, **options)


def test_the_package_is_named_where_it_is_missing(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(UnsupportedOption, match=r'pip install "multihead\[cluster\]"'):
        cluster_texts(["a dog", "a fox"], encoder, k=2)
    assert cluster_texts(["a dog"] * 6, encoder, threshold=0.5).labels == [0] * 6


def test_a_single_text_is_no_list_of_characters(encoder):
    for text in ("a dog and a fox", b"a dog", {"text": "a dog"}):
        for read in (Index.build, deduplicate, cluster_texts):
            with pytest.raises(InvalidInput, match="Give a list of texts"):
                read(text, encoder)
    with pytest.raises(InvalidInput, match="Give vectors of numbers"):
        Index.build(["a dog"], encoder).search_vectors("a dog")
