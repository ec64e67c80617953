"""The store of features: what goes in comes out, whatever is cut, chosen or padded."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.errors import InvalidInput
from multihead.training.data.features import FeatureBuilder, split_windows
from multihead.training.data.tokenized import features_of

RUNS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=9), min_size=1, max_size=20)


def store(runs):
    builder = FeatureBuilder({"input_ids": "int32", "labels": "int32"}, {"score": "float32"}, {"window": "int32"})
    for number, run in enumerate(runs):
        builder.add(number * 2, input_ids=run, labels=[i // 2 for i in run], score=number / 2, window=number)
    return builder.build(None)


@given(RUNS, st.data())
@settings(max_examples=80, deadline=None)
def test_what_goes_in_comes_out_of_the_store_and_of_any_subset(runs, data):
    features = store(runs)
    order = data.draw(st.lists(st.integers(0, len(runs) - 1), max_size=12))
    for found, numbers in ((features, range(len(runs))), (features.subset(order), order)):
        assert len(found) == len(numbers)
        assert found.lengths.tolist() == [len(runs[n]) for n in numbers]
        assert found.row.tolist() == [2 * n for n in numbers]
        assert found.extras["window"].tolist() == list(numbers)
        for place, n in enumerate(numbers):
            assert found[place]["input_ids"].tolist() == runs[n]
            assert found[place]["labels"].tolist() == [i // 2 for i in runs[n]]
            assert found[place]["score"] == n / 2
            assert "window" not in found[place]


@given(RUNS, st.integers(1, 7), st.booleans())
@settings(max_examples=80, deadline=None)
def test_windows_lose_no_token_and_keep_the_order(runs, size, across):
    features = split_windows(store(runs), size, across=across)
    flat = [i for run in runs for i in run]
    assert [i for n in range(len(features)) for i in features[n]["input_ids"].tolist()] == flat
    assert [i for n in range(len(features)) for i in features[n]["labels"].tolist()] == [i // 2 for i in flat]
    lengths = features.lengths.tolist()
    if across:
        assert lengths == [size] * (len(flat) // size) + [len(flat) % size] * bool(len(flat) % size)
    owner = [2 * n for n, run in enumerate(runs) for _ in run]
    begins = np.cumsum([0, *lengths])[:-1] if lengths else []
    assert features.row.tolist() == [owner[begin] for begin in begins]
    if not across:
        parts = [run[i : i + size] for run in runs for i in range(0, len(run), size)]
        assert [features[n]["input_ids"].tolist() for n in range(len(features))] == parts


def test_indices_slices_and_ends_are_as_of_a_list():
    features = store([[1], [2, 3], [4]])
    assert features[-1]["input_ids"].tolist() == [4]
    assert [example["input_ids"].tolist() for example in features[1:]] == [[2, 3], [4]]
    assert [len(example["input_ids"]) for example in features] == [1, 2, 1]
    with pytest.raises(IndexError):
        features[3]
    assert features[1:].ragged["input_ids"].flat is features.ragged["input_ids"].flat


def test_the_store_takes_little_more_than_its_numbers():
    features = store([[7] * 100] * 1000)
    assert features.nbytes < 1000 * (2 * 400 + 50)


def test_a_store_without_examples_is_refused():
    with pytest.raises(InvalidInput, match="Nothing is left to learn"):
        FeatureBuilder({"input_ids": "int32"}).build(None)


TOKENIZED = [
    {"input_ids": [2, 5, 6, 0], "attention_mask": [1, 1, 1, 0], "token_type_ids": [0, 0, 1, 0], "label": 1, "idx": 4,
     "sentence": "a b"},
    {"input_ids": [2, 7, 0, 0], "attention_mask": [1, 1, 0, 0], "token_type_ids": [0, 1, 0, 0], "label": 0, "idx": 5,
     "sentence": "a"},
]  # fmt: skip


@pytest.mark.parametrize("make", [
    lambda rows: rows, datasets.Dataset.from_list, lambda rows: datasets.Dataset.from_list(rows).with_format("torch"),
    lambda rows: [{k: torch.tensor(v) if k != "sentence" else v for k, v in row.items()} for row in rows],
], ids=["list", "dataset", "torch dataset", "tensors"])  # fmt: skip
def test_tokenized_examples_lose_their_padding_and_nothing_else(make):
    features = features_of(make(TOKENIZED))
    assert [features[n]["input_ids"].tolist() for n in (0, 1)] == [[2, 5, 6], [2, 7]]
    assert [features[n]["token_type_ids"].tolist() for n in (0, 1)] == [[0, 0, 1], [0, 1]]
    assert features.numbers["labels"].tolist() == [1, 0]
    assert features.dropped == ("sentence",)
    assert features.numbers["idx"].tolist() == [4, 5]
    assert set(features_of(make(TOKENIZED), ["token_type_ids"]).dropped) == {"sentence", "idx"}
    assert features_of(features) is features


def test_padding_on_the_left_moves_the_places_of_an_answer():
    features = features_of([{"input_ids": [0, 0, 2, 5, 6], "attention_mask": [0, 0, 1, 1, 1],
                             "start_positions": 3, "end_positions": 4}])  # fmt: skip
    assert features[0]["input_ids"].tolist() == [2, 5, 6]
    assert (features[0]["start_positions"], features[0]["end_positions"]) == (1, 2)


def test_labels_of_tokens_are_cut_with_them_and_labels_of_a_target_are_not():
    row = {"input_ids": [2, 5, 0], "attention_mask": [1, 1, 0], "labels": [8, 9, -100]}
    assert features_of([row])[0]["labels"].tolist() == [8, 9]
    other = {**row, "labels": [7, 8, 9, -100]}
    target = features_of([other], source_target=True)
    assert target[0]["labels"].tolist() == [7, 8, 9]
    assert target.lengths.tolist() == [5]
    with pytest.raises(InvalidInput, match="Row 0 has 3 input_ids and 4 labels"):
        features_of([other])


def test_several_labels_of_a_text_are_a_row_of_numbers():
    features = features_of(
        [{"input_ids": [1, 2], "labels": [0.0, 1.0, 1.0]}, {"input_ids": [3], "labels": [1.0, 0, 0]}]
    )
    assert features.numbers["labels"].dtype == np.float32
    assert features.numbers["labels"].tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(("examples", "message"), [
    ([{"text": "a"}], r"need input_ids; these have text"),
    ([{"input_ids": [1], "labels": 1}, {"input_ids": [1]}], "Row 1 has no labels"),
    ([{"input_ids": [1], "labels": 1}, {"input_ids": [1], "labels": [1]}], "Row 1 has labels that is neither"),
    ([{"input_ids": [1, 2], "attention_mask": [1]}], "Row 0 has 2 input_ids and an attention_mask"),
    ([{"input_ids": [[1, 2]]}], "Row 0 has input_ids that is neither"),
    ([{"input_ids": "abc"}], "Row 0 has input_ids that is neither"),
    ([{"input_ids": [2**40]}], "Row 0 has 1099511627776 in input_ids"),
])  # fmt: skip
def test_examples_that_do_not_fit_are_refused(examples, message):
    with pytest.raises(InvalidInput, match=message):
        features_of(examples)


def test_a_token_outside_the_vocabulary_is_named_with_its_row():
    features = features_of([{"input_ids": [1, 2]}, {"input_ids": [3, 30]}])
    features.check_vocabulary(31)
    with pytest.raises(InvalidInput, match=r"Vocabulary mismatch: row 1 has the token 30 .* 30 tokens \(0 to 29\)"):
        features.check_vocabulary(30)
    features.subset([0]).check_vocabulary(30)
    with pytest.raises(InvalidInput, match="the token -1"):
        features_of([{"input_ids": [1, -1]}]).check_vocabulary(30)
