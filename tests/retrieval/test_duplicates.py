"""Equal and near texts are found, the same ones each time, and nothing else is left out."""

from __future__ import annotations

import numpy as np
import pytest

import multihead.retrieval.duplicates as duplicates
from multihead import deduplicate
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.retrieval.duplicates import Vectored, near_rows, shared_shingles
from multihead.retrieval.vectors import unit_rows


def test_equal_texts_differ_in_case_white_space_and_unicode_forms_only():
    texts = ["A dog", "a  DOG\n", "ﬁne café", "fine cafe\u0301", "a dog.", "a fox"]
    found = deduplicate(texts, None, threshold=1.1)
    assert found.kept == [0, 2, 4, 5]
    assert [(each.row, each.kept, each.exact) for each in found.duplicates] == [(1, 0, True), (3, 2, True)]
    assert deduplicate(texts, None, threshold=1.1, keep="last").kept == [1, 3, 4, 5]
    assert deduplicate(["a dog", "A  dog ", "A dog"], None, threshold=1.1, keep="longest").kept == [1]


def test_texts_without_an_embedding_are_kept(encoder):
    found = deduplicate(["a dog", "", None, "日本", "", "A dog", 7], encoder)
    assert found.kept == [0, 1, 2, 3, 4, 6]
    assert sorted(found.errors) == [1, 2, 3, 4, 6]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_a_row_repeats_an_earlier_kept_one_only(monkeypatch, block):
    """The definition, row by row."""
    monkeypatch.setattr(duplicates, "BLOCK", block)
    monkeypatch.setattr(duplicates, "BLOCK_BYTES", 4 * 3 * 5)
    vectors = unit_rows(np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32))
    kept: list[int] = []
    expected = {}
    for row in range(len(vectors)):
        close = [other for other in kept if vectors[row] @ vectors[other] >= 0.9]
        if close:
            expected[row] = max(close, key=lambda other: vectors[row] @ vectors[other])
        else:
            kept.append(row)
    found = near_rows(Vectored(vectors, list(range(120)), {}, set()), ["x"] * 120, 0.9, True)
    assert {row: other for row, (other, _) in found.items()} == expected
    assert all(score >= 0.9 for _, score in found.values())


def test_different_numbers_are_different_texts():
    vectors = unit_rows(np.ones((4, 2), np.float32))
    texts = ["order 17 of 2,500", "order 18 of 2,500", "order of", "order 2,500 of 17"]
    rows = Vectored(vectors, [0, 1, 2, 3], {}, set())
    assert near_rows(rows, texts, 0.9, True) == {3: (0, pytest.approx(1))}
    assert sorted(near_rows(rows, texts, 0.9, False)) == [1, 2, 3]


def test_long_texts_with_one_beginning_are_compared_to_their_end(encoder):
    same = "the lazy dog " * 20
    texts = [same + "fox jumps quick brown " * 30, same + "a dog doesn't mind it " * 30]
    assert deduplicate(texts, encoder, threshold=0.99).kept == [0, 1]
    assert deduplicate([texts[0], f"{texts[0]} the"], encoder, threshold=0.99).kept == [0]
    assert shared_shingles("a b c d", "a b c d") == 1
    assert shared_shingles("a b", "c d") == 0


def test_all_rows_equal_one_row_and_none(encoder):
    found = deduplicate(["a dog"] * 50, encoder)
    assert found.kept == [0]
    assert len(found.groups[0]) == 49
    assert deduplicate(["a dog"], encoder).kept == [0]
    assert deduplicate([], encoder).kept == []


def test_the_result_is_the_same_each_time(encoder):
    texts = [f"the {a} {b}" for a in ("dog", "fox", "lazy") for b in ("jumps", "mind", "dog", "fox")] * 2
    first = deduplicate(texts, encoder, threshold=0.8)
    assert deduplicate(texts, encoder, threshold=0.8) == first
    assert {each.row for each in first.duplicates}.isdisjoint(first.kept)
    assert all(each.kept in first.kept for each in first.duplicates)


@pytest.mark.parametrize(
    "options", [{"threshold": 0}, {"threshold": "x"}, {"threshold": float("nan")}, {"keep": "best"}]
)
def test_options_without_meaning_are_refused(encoder, options):
    with pytest.raises(UnsupportedOption):
        deduplicate(["a dog"], encoder, **options)
    with pytest.raises(InvalidInput, match="encoder must be"):
        deduplicate(["a dog"], None)
