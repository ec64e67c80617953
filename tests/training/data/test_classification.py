"""Text and token classification: labels of every kind, each at its text or token; what cannot be is named."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.errors import InvalidInput
from multihead.training.data import text_classification as texts
from multihead.training.data import token_classification as tokens
from multihead.training.data.labels import Labels
from multihead.training.data.text_classification import TextClassificationOptions
from multihead.training.data.token_classification import TokenClassificationOptions

SENTENCES = ["The fox jumps.", "A dog", "the lazy dog doesn't mind"]


def classified(values, tokenizer, **options):
    rows = [{"text": text, "label": label} for text, label in zip(SENTENCES, values, strict=True)]
    return texts.prepare(rows, tokenizer, TextClassificationOptions(**options))


@pytest.mark.parametrize(("labels", "names", "kind", "expected"), [
    ([1, 0, 1], ("LABEL_0", "LABEL_1"), "single_label_classification", [1, 0, 1]),
    (["1", "0", "1"], ("LABEL_0", "LABEL_1"), "single_label_classification", [1, 0, 1]),
    ([np.int64(1), 0, True], ("LABEL_0", "LABEL_1"), "single_label_classification", [1, 0, 1]),
    (["pos", "neg", "pos"], ("neg", "pos"), "single_label_classification", [1, 0, 1]),
    ([1, 5, 10], ("1", "5", "10"), "single_label_classification", [0, 1, 2]),
    (["1", "10", "5"], ("1", "5", "10"), "single_label_classification", [0, 2, 1]),
    ([0.5, 1.0, -2.0], ("LABEL_0",), "regression", [0.5, 1.0, -2.0]),
    (["3.8", "5", "1"], ("LABEL_0",), "regression", [np.float32(3.8), 5, 1]),
    ([["b"], ["a", "b"], []], ("a", "b"), "multi_label_classification", [[0, 1], [1, 1], [0, 0]]),
    ([[1], [0, 2], []], ("LABEL_0", "LABEL_1", "LABEL_2"), "multi_label_classification",
     [[0, 1, 0], [1, 0, 1], [0, 0, 0]]),
    ([[0, 1], [1, 1], [0, 0]], ("LABEL_0", "LABEL_1"), "multi_label_classification", [[0, 1], [1, 1], [0, 0]]),
])  # fmt: skip
def test_labels_of_every_kind_are_understood(wordpiece, labels, names, kind, expected):
    features = classified(labels, wordpiece)
    assert features.metadata == {"labels": names, "problem_type": kind}
    assert features.numbers["labels"].tolist() == expected
    assert [features[n]["input_ids"].tolist() for n in range(3)] == [wordpiece.encode(text) for text in SENTENCES]


def test_a_models_own_names_and_a_sources_names_come_first(wordpiece):
    features = classified(["b", "a", 2], wordpiece, labels=["c", "b", "a"])
    assert features.numbers["labels"].tolist() == [1, 2, 2]
    assert features.metadata["labels"] == ("c", "b", "a")
    kinds = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    data = datasets.Dataset.from_dict({"text": SENTENCES, "label": [1, 1, 1]}, features=kinds)
    assert texts.prepare(data, wordpiece, TextClassificationOptions()).metadata["labels"] == ("no", "yes")
    other = texts.prepare(
        [{"text": "x", "label": "yes"}], wordpiece, TextClassificationOptions(), Labels(("no", "yes"))
    )
    assert other.numbers["labels"].tolist() == [1]


def test_pairs_have_types_and_columns_are_guessed_or_named(wordpiece, their_wordpiece):
    rows = [{"premise": "The fox", "hypothesis": "A dog", "label": i} for i in (0, 1)]
    features = texts.prepare(rows, wordpiece, TextClassificationOptions())
    theirs = their_wordpiece("The fox", "A dog")
    assert features[0]["input_ids"].tolist() == theirs["input_ids"]
    assert features[0]["token_type_ids"].tolist() == theirs["token_type_ids"]
    swapped = TextClassificationOptions(text_column="hypothesis", pair_column="premise")
    found = texts.prepare(rows, wordpiece, swapped)
    assert found[0]["input_ids"].tolist() == their_wordpiece("A dog", "The fox")["input_ids"]


def test_texts_that_are_too_long_are_cut_and_counted(wordpiece, their_wordpiece):
    features = classified([0, 1, 1], wordpiece, max_length=6)
    theirs = their_wordpiece(SENTENCES, truncation=True, max_length=6)["input_ids"]
    assert [features[n]["input_ids"].tolist() for n in range(3)] == theirs
    assert features.notes == ["2 of 3 texts are longer than 6 tokens and were cut."]
    assert features.lengths.max() == 6


def test_the_limit_is_the_tokenizers_and_the_models(wordpiece):
    long = [{"text": "dog " * 600, "label": i} for i in (0, 1)]
    settings = ({}, {"positions": 24}, {"max_length": 128})
    options = [TextClassificationOptions(**each) for each in settings]
    lengths = [texts.prepare(long, wordpiece, each).lengths.max() for each in options]
    assert lengths == [64, 24, 128]
    with pytest.raises(InvalidInput, match="max_length = 99 is more than the 24 positions"):
        texts.prepare(long, wordpiece, TextClassificationOptions(max_length=99, positions=24))
    with pytest.raises(InvalidInput, match="max_length is a whole number of tokens from 3, not 1"):
        texts.prepare(long, wordpiece, TextClassificationOptions(max_length=1))


@pytest.mark.parametrize(("rows", "options", "message"), [
    ([{"text": "a", "label": "x"}, {"text": " ", "label": "y"}], {}, "Row 1 has an empty text.*skip_empty"),
    ([{"text": "a", "label": "x"}, {"text": None, "label": "y"}], {}, r"Row 1 has no text \(None\)"),
    ([{"text": "a", "label": "x"}, {"text": 7, "label": "y"}], {}, "Row 1 has a text that is no string but int"),
    ([{"text": "a", "label": 1}, {"text": "b", "label": float("nan")}], {}, r"Row 1 has no label \(NaN\)"),
    ([{"text": "a", "label": "x"}, {"text": "b"}], {}, "Row 1 has no label"),
    ([{"text": "a", "label": -1}], {}, "All of the data has the label -1"),
    ([{"txt": "a", "label": 1}], {}, r"Which column .* is the text\? There are txt, label.*text_column='txt'"),
    ([{"text": "a", "lab": 1}], {}, "is the label.*text, lab"),
    ([{"text": "a", "label": 1}], {"text_column": "texts"}, "no column 'texts'.*Did you mean 'text'"),
    ([{"text": "a", "label": "goood"}], {"labels": ["bad", "good"]}, "Row 0 has the label 'goood'.*'bad', 'good'"),
    ([{"text": "a", "label": 2}], {"labels": ["bad", "good"]}, "Row 0 has the label 2, which is not within 0 to 1"),
    ([{"text": "a", "label": [1]}], {"labels": ["a", "b"], "problem_type": "single_label_classification"},
     "Row 0 has several labels"),
    ([{"text": "a", "label": "x"}], {"problem_type": "regression"}, "Row 0 must have a number as its label"),
    ([{"text": "a", "label": "x"}], {"problem_type": "single"}, "problem_type is one of"),
])  # fmt: skip
def test_what_cannot_be_is_named_with_its_row(wordpiece, rows, options, message):
    with pytest.raises(InvalidInput, match=message):
        texts.prepare(rows, wordpiece, TextClassificationOptions(**options))


def test_empty_texts_may_be_left_out(wordpiece):
    rows = [{"text": "a", "label": 0}, {"text": "", "label": 1}, {"text": "b", "label": 1}]
    features = texts.prepare(rows, wordpiece, TextClassificationOptions(skip_empty=True))
    assert features.row.tolist() == [0, 2]
    assert features.notes == ["1 of 3 rows have an empty text and were left out."]
    assert features.location(1) == "row 2"


WORDS = ["The", "quickest", "fox", "from", "München"]
TAGS = ["O", "B-X", "I-X", "O", "B-Y"]


def as_run_ner_aligns(encoding, tags, names, every):
    """The alignment that the field's token classification script describes."""
    found, last = [], None
    for word in encoding.word_ids():
        if word is None:
            found.append(-100)
        elif word != last:
            found.append(names.index(tags[word]))
        elif every:
            tag = tags[word]
            inner = "I-" + tag[2:] if tag.startswith("B-") else tag
            found.append(names.index(inner if inner in names else tag))
        else:
            found.append(-100)
        last = word
    return found


@pytest.mark.parametrize("every", [False, True])
def test_tags_stand_at_the_first_tokens_of_their_words(wordpiece, their_wordpiece, every):
    features = tokens.prepare(
        [{"tokens": WORDS, "ner_tags": TAGS}], wordpiece, TokenClassificationOptions(label_all_tokens=every)
    )
    names = features.metadata["labels"]
    assert names == ("B-X", "B-Y", "I-X", "O")
    theirs = their_wordpiece(WORDS, is_split_into_words=True)
    assert features[0]["input_ids"].tolist() == theirs["input_ids"]
    assert features[0]["labels"].tolist() == as_run_ner_aligns(theirs, TAGS, list(names), every)


@given(st.lists(st.tuples(st.sampled_from([*WORDS, "supercalifragilistic", "."]), st.sampled_from("abc")), min_size=1,
                max_size=40), st.integers(0, 9))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_windows_label_every_word_exactly_once(wordpiece, row, stride):
    words, tags = map(list, zip(*row, strict=True))
    options = TokenClassificationOptions(max_length=14, stride=stride, labels=["a", "b", "c"])
    features = tokens.prepare([{"words": words, "tags": tags}], wordpiece, options)
    labels = [label for n in range(len(features)) for label in features[n]["labels"].tolist() if label != -100]
    assert ["abc"[label] for label in labels] == tags
    assert features.lengths.max() <= 14
    assert not features.notes


def test_numbers_are_tags_and_a_source_may_know_their_names(wordpiece):
    kinds = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")),
                               "ner_tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-X"]))})  # fmt: skip
    data = datasets.Dataset.from_dict({"tokens": [["The", "fox"]], "ner_tags": [[0, 1]]}, features=kinds)
    features = tokens.prepare(data, wordpiece, TokenClassificationOptions())
    assert features.metadata["labels"] == ("O", "B-X")
    assert [label for label in features[0]["labels"].tolist() if label >= 0] == [0, 1]


def test_what_is_cut_of_words_is_counted(wordpiece):
    options = TokenClassificationOptions(max_length=6)
    features = tokens.prepare([{"tokens": WORDS, "tags": TAGS}, {"tokens": ["A"], "tags": ["O"]}], wordpiece, options)
    assert features.notes[0] == "1 of 2 texts are longer than 6 tokens and were cut."
    assert "words have no token" in features.notes[1]


@pytest.mark.parametrize(("row", "options", "message"), [
    ({"tokens": ["a", "b"], "tags": ["O"]}, {}, "Row 1 has 2 tokens and 1 tags"),
    ({"tokens": ["a", 7], "tags": ["O", "O"]}, {}, "Row 1 has a word 1 that is no string"),
    ({"tokens": [], "tags": []}, {}, "Row 1 has no words"),
    ({"tokens": 5, "tags": ["O"]}, {}, "Row 1 must have a list of tokens"),
    ({"tokens": ["a"], "tags": ["Q"]}, {"labels": ["O", "P"]}, "Row 1 has the label 'Q', which is none of 'O', 'P'"),
    ({"tokens": ["a"], "tags": [9]}, {"labels": ["O", "P"]}, "Row 1 has the label 9, which is not within 0 to 1"),
    ({"tokens": ["a"], "tags": ["O"]}, {"stride": 62}, "stride = 62 leaves no new token"),
])  # fmt: skip
def test_words_and_tags_that_do_not_fit_are_named(wordpiece, row, options, message):
    with pytest.raises(InvalidInput, match=message):
        tokens.prepare([{"tokens": ["x"], "tags": ["O"]}, row], wordpiece, TokenClassificationOptions(**options))
