"""Rerankers: a number from 0 to 1 between two texts is learned by binary cross-entropy, as the reference learns it."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import sentence_transformers as reference
import torch
import transformers
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

import multihead
from multihead.errors import InvalidInput
from multihead.training.arguments import TrainingArguments
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS, losses

TEXTS = (("a fox", 1), ("the fox jumps", 1), ("a rock", 0), ("coffee", 0))


def rows(kind=float, **more):
    return [{"query": "the fox", "passage": text, "label": more.get(text, kind(label))} for text, label in TEXTS]


@pytest.fixture(scope="module")
def ranker(tmp_path_factory, bert):
    """A checkpoint with a head of one label and no dropout, written by the reference."""
    folder = tmp_path_factory.mktemp("ranker")
    torch.manual_seed(5)
    config = transformers.AutoConfig.from_pretrained(
        bert, num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(bert).save_pretrained(folder)
    return folder


def made(folder, model, data, **changes):
    rest = {name: changes.pop(name) for name in ("options", "processing_class") if name in changes}
    settings = {**SETTINGS, "save_strategy": "no", "max_steps": 1, **changes}
    return Trainer(model, TrainingArguments(folder, **settings), train_dataset=data, task="text-classification", **rest)


@pytest.mark.parametrize("kind", [float, int])
def test_a_reranker_learns_as_a_plain_loop_does_and_scores_alike_everywhere(kind, ranker, tmp_path):
    plain = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0.0,
             "per_device_train_batch_size": 4, "weight_decay": 0.0, "warmup_steps": 0}  # fmt: skip
    run = made(tmp_path, ranker, rows(kind), max_steps=5, **plain)
    run.train()
    assert run.objective.describe() == "binary cross-entropy of each label"

    cross = reference.CrossEncoder(str(ranker), device="cpu")
    loss, wanted = BinaryCrossEntropyLoss(cross), []
    step = torch.optim.SGD(cross.parameters(), lr=0.1)
    sides = [[row[name] for row in rows()] for name in ("query", "passage")]
    for _ in range(5):
        step.zero_grad()
        value = loss(sides, torch.tensor([row["label"] for row in rows()]))
        value.backward()
        step.step()
        wanted.append(value.item())
    assert losses(run) == pytest.approx(wanted, abs=1e-4)

    run.save_model(tmp_path / "saved")
    pairs = list(zip(*sides, strict=True))
    scores = multihead.CrossEncoder.from_pretrained(tmp_path / "saved").predict(pairs)
    assert scores == pytest.approx(cross.eval().predict(pairs), abs=1e-3)
    read = reference.CrossEncoder(str(tmp_path / "saved"), device="cpu")
    assert scores == pytest.approx(read.predict(pairs), abs=1e-5)
    assert multihead.AutoConfig.from_pretrained(tmp_path / "saved").problem_type == "multi_label_classification"


def test_a_new_head_of_pairs_with_scores_from_0_to_1_has_one_label(bert, tmp_path):
    data = rows(coffee=0.25)
    run = made(tmp_path, bert, data)
    assert run.model.config.num_labels == 1
    scores = 1 / (1 + np.exp(-run.predict(data).predictions[:, 0]))
    found = run.evaluate(data)
    assert found["eval_mse"] == pytest.approx(np.mean((scores - [1, 1, 0, 0.25]) ** 2), abs=1e-6)
    labels = torch.tensor([1.0, 1.0, 0.0, 0.25])
    logits = torch.from_numpy(run.predict(data).predictions[:, 0])
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).item()
    assert found["eval_loss"] == pytest.approx(wanted, abs=1e-6)
    with pytest.raises(InvalidInput, match=r"Row 3 has the label 3\.0, which is not a number from 0 to 1"):
        run.evaluate(rows(coffee=3.0))


def squared(folder, model, data, **more):
    run = made(folder, model, data, **more)
    return run.objective.describe(run.features(data, training=True)) == "squared error"


def test_what_is_no_relevance_is_learned_as_before(bert, ranker, tmp_path):
    assert squared(tmp_path, bert, rows(coffee=3.0))
    assert squared(tmp_path, bert, rows(), options={"problem_type": "regression"})
    assert squared(tmp_path, bert, [{"text": row["passage"], "label": row["label"]} for row in rows()])
    assert made(tmp_path, bert, rows(int)).model.config.num_labels == 2
    config = multihead.AutoConfig.from_pretrained(ranker, problem_type="regression")
    own = multihead.BertForSequenceClassification.from_pretrained(ranker, config=config)
    assert squared(tmp_path, own, rows(), processing_class=multihead.AutoTokenizer.from_pretrained(ranker))


def test_a_head_of_one_label_is_not_thrown_away_without_a_word(ranker, tmp_path):
    names = datasets.ClassLabel(names=["entailment", "not_entailment"])
    features = datasets.Features({**dict.fromkeys(("query", "passage"), datasets.Value("string")), "label": names})
    with pytest.warns(UserWarning, match=r"has a head for 'LABEL_0', and the labels to learn are 'entailment'"):
        run = made(tmp_path, ranker, datasets.Dataset.from_list(rows(int), features=features))
    assert run.model.config.num_labels == 2


@pytest.mark.parametrize("name", ["LABEL_0", "relevance"])
def test_a_reranker_may_be_given_itself(name, ranker, tmp_path):
    model = multihead.BertForSequenceClassification.from_pretrained(ranker, id2label={0: name}, label2id={name: 0})
    run = made(tmp_path, model, rows(int), processing_class=multihead.AutoTokenizer.from_pretrained(ranker))
    run.train()
    assert run.objective.describe() == "binary cross-entropy of each label"
    assert run.model.config.id2label == {0: name}
