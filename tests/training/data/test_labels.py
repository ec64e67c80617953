"""Labels have names: where rows and a model both have some they are matched by name, or refused."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers

import multihead
from multihead.errors import CheckpointBroken, InvalidInput, UnsupportedOption
from multihead.training.arguments import TrainingArguments
from multihead.training.data import text_classification as texts
from multihead.training.data import token_classification as tags
from multihead.training.data.labels import Labels
from multihead.training.data.text_classification import TextClassificationOptions
from multihead.training.data.token_classification import TokenClassificationOptions
from multihead.training.data.tokenized import features_of
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS

NAMES = ["good", "fair", "bad"]
WORDS = {"good": "the fox jumps", "fair": "a lazy dog", "bad": "coffee"}


def numbered(names, order=NAMES, column="label"):
    """Rows of a data set that knows what its numbers mean."""
    kinds = {"text": datasets.Value("string"), column: datasets.ClassLabel(names=order)}
    data = {"text": [WORDS[name] for name in names], column: [order.index(name) for name in names]}
    return datasets.Dataset.from_dict(data, features=datasets.Features(kinds))


def named(names):
    return [{"text": WORDS[name], "label": name} for name in names]


def trainer(model, place, rows, task="text-classification", **more):
    settings = {**SETTINGS, "max_steps": 1, "save_strategy": "no", **more.pop("settings", {})}
    return Trainer(model, TrainingArguments(place, **settings), train_dataset=rows, task=task, **more)


def learned(run, rows):
    return run.features(rows, training=False).numbers["labels"].tolist()


@pytest.mark.parametrize("order", [NAMES, ["bad", "good", "fair"]])
def test_numbers_of_another_set_are_read_by_their_names(classifier, tmp_path, order):
    run = trainer(classifier, tmp_path, named(NAMES))
    assert run.model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert learned(run, numbered(NAMES, order)) == learned(run, named(NAMES)) == [2, 1, 0]
    given = multihead.BertForSequenceClassification.from_pretrained(classifier)
    tokenizer = multihead.AutoTokenizer.from_pretrained(classifier)
    run = trainer(given, tmp_path, numbered(NAMES, order), processing_class=tokenizer)
    assert learned(run, run.train_dataset) == [2, 1, 0]


def test_tags_are_read_by_their_names(bert, tmp_path):
    def rows(order):
        kinds = {"tokens": datasets.Sequence(datasets.Value("string")),
                 "ner_tags": datasets.Sequence(datasets.ClassLabel(names=order))}  # fmt: skip
        data = {"tokens": [["the", "fox", "dog"]], "ner_tags": [[order.index(t) for t in ("O", "B-X", "B-Y")]]}
        return datasets.Dataset.from_dict(data, features=datasets.Features(kinds))

    run = trainer(bert, tmp_path, rows(["O", "B-X", "B-Y"]), "token-classification")
    found = run.features(rows(["B-Y", "O", "B-X"]), training=False)[0]["labels"]
    assert next(label for label in found.tolist() if label >= 0) == 0
    assert found.tolist() == run.features(run.train_dataset, training=True)[0]["labels"].tolist()


def test_several_labels_are_read_by_their_names(wordpiece):
    kinds = {"text": datasets.Value("string"), "label": datasets.Sequence(datasets.ClassLabel(names=["b", "a"]))}
    data = datasets.Dataset.from_dict(
        {"text": ["fox", "dog"], "label": [[0, 1], [1]]}, features=datasets.Features(kinds)
    )
    found = texts.prepare(
        data, wordpiece, TextClassificationOptions(), Labels(("a", "b"), "multi_label_classification")
    )
    assert found.numbers["labels"].tolist() == [[1, 1], [1, 0]]
    assert texts.prepare(data, wordpiece, TextClassificationOptions()).numbers["labels"].tolist() == [
        [1, 1],
        [0, 1],
    ]


def test_vectors_of_another_set_are_vectors(wordpiece):
    known = Labels(("a", "b", "c"), "multi_label_classification", detected=True)
    rows = [{"text": "fox", "label": [0, 1, 0]}, {"text": "dog", "label": [1, 0, 1]}]
    assert texts.prepare(rows, wordpiece, TextClassificationOptions(), known).numbers["labels"].tolist() == [
        [0, 1, 0],
        [1, 0, 1],
    ]


def test_stars_stay_stars_in_a_saved_model(bert, tmp_path):
    rows = [{"text": "the fox", "label": stars} for stars in (1, 2, 3, 4, 5)]
    run = trainer(bert, tmp_path, rows)
    run.save_model(tmp_path / "saved")
    model = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    for given in (model, tmp_path / "saved"):
        again = trainer(given, tmp_path, rows[:4], processing_class=run.processing_class)
        assert again.model.config.id2label == {i: str(i + 1) for i in range(5)}
        assert learned(again, rows[:4]) == [0, 1, 2, 3]
        assert learned(again, [{**row, "label": str(row["label"])} for row in rows]) == [0, 1, 2, 3, 4]
        with pytest.raises(InvalidInput, match="Row 0 has the label '0', which is none of '1', '2'"):
            learned(again, [{"text": "fox", "label": 0}])


@pytest.mark.parametrize(("labels", "value", "message"), [
    (Labels(("neg", "pos"), detected=True), 0, "known by name only: 'neg', 'pos'"),
    (Labels(("1 star", "2 stars")), 1, "may be the number in a label name or the index"),
    (Labels(("neg", "pos"), classes=("NEGATIVE", "POSITIVE")), 0, "'NEGATIVE', which is none of 'neg', 'pos'.*order"),
    (Labels(("neg", "pos"), classes=("pos", "neg")), -1, "not within 0 to 1"),
    (Labels(("Neg", "neg")), "NEG", "none of"),
])  # fmt: skip
def test_what_may_mean_two_labels_is_refused(labels, value, message):
    with pytest.raises(InvalidInput, match=message):
        labels.number(value)


def test_names_that_differ_in_capitals_are_one_and_numbers_among_names_are_names(wordpiece):
    assert Labels(("CONTRADICTION", "NEUTRAL")).number("neutral") == 1
    rows = [{"text": "fox", "label": label} for label in ("a", 1, "b")]
    found = texts.prepare(rows, wordpiece, TextClassificationOptions())
    assert found.metadata["labels"] == ("1", "a", "b")
    assert found.numbers["labels"].tolist() == [1, 0, 2]


def test_a_head_with_the_labels_of_the_data_is_kept_and_another_is_drawn_anew(classifier, tmp_path):
    stored = multihead.BertForSequenceClassification.from_pretrained(classifier).head.out.weight
    kept = trainer(classifier, tmp_path, [{"text": "fox", "label": name} for name in ("GOOD", "bad")])
    assert kept.model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert torch.equal(kept.model.head.out.weight, stored)
    with pytest.warns(UserWarning, match="head for 'bad', 'fair', 'good'.*'a', 'b', 'c'.*newly initialized"):
        other = trainer(classifier, tmp_path, [{"text": "fox", "label": name} for name in "abc"])
    assert other.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert not torch.equal(other.model.head.out.weight, stored)


def test_labels_in_another_order_than_the_head_are_refused(classifier, tmp_path):
    order = {0: "good", 1: "fair", 2: "bad"}
    with pytest.raises(UnsupportedOption, match="id2label gives the checkpoint's labels in another order"):
        multihead.AutoModelForSequenceClassification.from_pretrained(classifier, id2label=order)
    with pytest.raises(UnsupportedOption, match="labels in another order"):
        trainer(classifier, tmp_path, named(NAMES), options={"labels": NAMES})
    renamed = {0: "-", 1: "0", 2: "+"}
    model = multihead.AutoModelForSequenceClassification.from_pretrained(classifier, id2label=renamed)
    assert model.config.id2label == renamed


def test_tokenized_examples_that_number_labels_otherwise_are_refused(classifier, tmp_path):
    tokenizer = multihead.AutoTokenizer.from_pretrained(classifier)
    model = multihead.BertForSequenceClassification.from_pretrained(classifier)
    data = numbered(NAMES).map(lambda row: {"input_ids": tokenizer(row["text"])["input_ids"]})
    with pytest.raises(InvalidInput, match="align_labels_with_mapping"):
        Trainer(model, TrainingArguments(tmp_path, **SETTINGS), train_dataset=data).train()
    data = data.align_labels_with_mapping(model.config.label2id, "label")
    run = Trainer(model, TrainingArguments(tmp_path, **SETTINGS), train_dataset=data)
    assert learned(run, data) == [2, 1, 0]


@pytest.mark.parametrize("row", [{"labels": 0, "label": 2}, {"label": 2, "labels": 0}])
def test_of_label_and_labels_the_second_counts(row, classifier):
    with pytest.warns(UserWarning, match="only labels is read, not label"):
        found = features_of([{"input_ids": [5, 6], **row}])
    assert found.numbers["labels"].tolist() == [0]
    assert found.dropped == ("label",)
    theirs = transformers.default_data_collator([{"input_ids": [5, 6], **row}])
    ours = multihead.DataCollatorWithPadding()([{"input_ids": np.array([5, 6]), **row}])
    assert ours["labels"].tolist() == theirs["labels"].tolist()


@pytest.mark.parametrize("given", [{}, {"task_type": "SEQ_CLS"}])
def test_an_adapter_learns_and_keeps_the_head_of_its_task(classifier, tmp_path, given):
    config = multihead.LoraConfig(r=2, **given)
    run = trainer(classifier, tmp_path, named(NAMES), peft_config=config)
    assert run.model.adapters.configs["default"].task_type == "SEQ_CLS"
    assert any(
        name.endswith("classifier/weight") or "head/out" in name for name in run.model.adapters.copies["default"]
    )
    with pytest.warns(UserWarning, match="newly initialized"):
        run = trainer(classifier, tmp_path, [{"text": "fox", "label": name} for name in "abc"], peft_config=config)
    run.train()
    run.save_model(tmp_path / "saved")
    again = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert again.config.id2label == {0: "a", 1: "b", 2: "c"}
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(again(input_ids=ids).logits, run.model.eval()(input_ids=ids).logits)


def test_an_adapter_of_another_task_is_refused(classifier, tmp_path):
    with pytest.raises(UnsupportedOption, match=r"task_type 'CAUSAL_LM'.*set 'SEQ_CLS'"):
        trainer(classifier, tmp_path, named(NAMES), peft_config=multihead.LoraConfig(task_type="CAUSAL_LM"))
    run = trainer(classifier, tmp_path, named(NAMES), peft_config=multihead.LoraConfig())
    more: Any = {"processing_class": run.processing_class, "peft_config": multihead.LoraConfig()}
    with pytest.raises(InvalidInput, match="has an adapter"):
        trainer(run.model, tmp_path, named(NAMES), **more)


def test_a_run_does_not_go_on_with_labels_in_another_order(bert, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 1}
    trainer(bert, tmp_path, numbered(NAMES), settings=settings).train()
    other = trainer(bert, tmp_path, numbered(NAMES, ["bad", "good", "fair"]), settings={**settings, "max_steps": 2})
    with pytest.raises(CheckpointBroken, match="labels"):
        other.train(resume_from_checkpoint=True)


def test_one_of_several_sets_is_evaluated_by_its_name(classifier, tmp_path):
    run = trainer(classifier, tmp_path, named(NAMES), eval_dataset={"easy": named(NAMES[:1])})
    assert "eval_easy_loss" in run.evaluate("easy")


def test_tags_that_are_known_are_not_counted_by_another_order(wordpiece):
    rows = [{"tokens": ["fox"], "tags": ["O"]}, {"tokens": ["dog"], "tags": ["B"]}]
    known = tags.labels_of(rows, TokenClassificationOptions())
    with pytest.raises(InvalidInput, match="Row 0 has the label 1, and the labels are known by name only"):
        tags.prepare([{"tokens": ["fox"], "tags": [1]}], wordpiece, TokenClassificationOptions(), known)
