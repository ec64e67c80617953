"""Objectives: each is the loss that the model's own `forward` and the reference compute, and parts add up exactly."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother

import multihead
from multihead.heads.losses import IGNORED
from multihead.nn.own_names import own_parameters
from multihead.training.arguments import TrainingArguments
from multihead.training.distributed.process_group import ProcessGroup
from multihead.training.objectives.padded_forward import PaddedObjective
from multihead.training.objectives.preference import PreferenceObjective
from multihead.training.objectives.token import objective_of
from multihead.training.optim.optimizer_step import Stepper
from multihead.training.optim.optimizers import create_scheduler
from multihead.training.trainer import Trainer, set_gradient_checkpointing
from tests.training.models import CASES, examples, ours, tensors, theirs
from tests.training.runs import SETTINGS, losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", CASES)
def test_an_objective_is_the_mean_loss_of_the_models_own_forward(name, folder):
    model, data = ours(name, folder).eval(), examples(name)
    objective = objective_of(model)
    batch = objective.collate(data)
    mean = objective(batch)[0] / objective.count(batch)
    padded = tensors(data, model.config.pad_token_id or 0)
    torch.testing.assert_close(mean.float(), model(**padded).loss.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_an_encoder_decoders_tags_are_a_label_for_each_token(padded, tmp_path):
    torch.manual_seed(0)
    size = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
    size |= {"num_attention_heads": 2, "num_key_value_heads": 1, "query_pre_attn_scalar": 8}
    config = multihead.AutoConfig.for_model("t5gemma", encoder=size, decoder=size, num_labels=4, pad_token_id=0)
    model = multihead.AutoModelForTokenClassification.from_config(config)
    data = examples("bert tokens", 6)
    batch = tensors(data)
    if padded:
        data = [{name: value[n] for name, value in batch.items()} for n in range(6)]
    run = Trainer(model, TrainingArguments(tmp_path, **SETTINGS), eval_dataset=data)
    wanted = float(model.eval()(**batch).loss.detach())
    assert run.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_an_objective_is_the_sum_of_the_references_losses_of_each_text_alone(name, folder):
    objective, reference, data = objective_of(ours(name, folder).eval()), theirs(name, folder), examples(name)
    with torch.no_grad():
        found = objective(objective.collate(data))[0]
        wanted = 0.0
        for example in data:
            wanted += reference(**tensors([example])).loss.double() * objective.count([example])
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("name", ["bert label", "bert tokens", "bert masked", "llama", "t5"])
def test_smoothed_labels_are_the_references(name, folder):
    objective, data = objective_of(ours(name, folder).eval(), 0.1), examples(name)
    reference, batch = theirs(name, folder), tensors(data)
    with torch.no_grad():
        outputs = reference(**batch)
        wanted = LabelSmoother(0.1)(outputs, batch["labels"], shift_labels=name == "llama")
        found = objective(data)[0] / objective.count(data)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def stepped(objective, parts, tokens=None):
    """Weights and loss of one step of plain gradient descent over parts of a batch."""
    model = objective.model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    arguments = TrainingArguments(max_tokens_per_pass=tokens, max_grad_norm=0.5, lr_scheduler_type="constant")
    stepper = Stepper(
        objective, objective, optimizer, create_scheduler(optimizer, None, arguments, 1), arguments, ProcessGroup()
    )
    taken = stepper.run(0, parts)
    return {name: p.detach() for name, p in own_parameters(model)}, taken


SPLITS = {
    "batches of one size": ([3, 3, 3], None),
    "uneven batches": ([4, 4, 1], None),
    "one at a time": ([1] * 9, None),
    "passes of few tokens": ([9], 25),
    "both": ([5, 4], 20),
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", CASES)
def test_parts_of_a_batch_change_the_weights_as_the_whole_does(name, split, folder):
    data, (sizes, tokens) = examples(name), SPLITS[split]
    whole, once = stepped(objective_of(ours(name, folder)), [data])
    edges = np.cumsum([0, *sizes])
    parts = [data[a:b] for a, b in pairwise(edges)]
    found, taken = stepped(objective_of(ours(name, folder)), parts, tokens)
    assert taken.tokens == once.tokens
    assert taken.loss == pytest.approx(once.loss, rel=1e-6)
    assert taken.grad_norm == pytest.approx(once.grad_norm, rel=1e-9)
    for path in whole:
        torch.testing.assert_close(found[path], whole[path], rtol=1e-10, atol=1e-12, msg=path)


def test_parts_of_preferences_add_up_too(folder):
    draw = np.random.default_rng(1)

    def example():
        prompt = draw.integers(6, 60, 4)
        sides = {}
        for side in ("chosen", "rejected"):
            ids = np.append(prompt, draw.integers(6, 60, draw.integers(1, 9)))
            labels = ids.copy()
            labels[:4] = IGNORED
            sides |= {f"{side}_input_ids": ids, f"{side}_labels": labels}
        return sides

    data = [example() for _ in range(7)]
    reference = ours("gpt2", folder)
    whole, once = stepped(PreferenceObjective(ours("gpt2", folder), reference=reference), [data])
    found, taken = stepped(PreferenceObjective(ours("gpt2", folder), reference=reference), [data[:5], data[5:]], 40)
    assert taken.loss == pytest.approx(once.loss, rel=1e-6)
    for path in whole:
        torch.testing.assert_close(found[path], whole[path], rtol=1e-10, atol=1e-12, msg=path)


RECOMPUTED = ["bert masked", "llama", "gpt2", "t5", "bart", "deberta tokens", "xlnet label", "modernbert masked"]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", RECOMPUTED)
def test_recomputed_layers_give_the_same_gradients(name, dropout, folder):
    data, found = examples(name, 5), []
    for recompute in (False, True):
        model = ours(name, folder).train()
        for part in model.modules():
            if isinstance(getattr(part, "p", None), float):
                part.p = dropout
            if isinstance(getattr(part, "dropout", None), float):
                part.dropout = dropout
        if recompute:
            set_gradient_checkpointing(model)
        objective = objective_of(model)
        torch.manual_seed(5)
        loss = objective(data)[0]
        loss.backward()
        found.append({"loss": loss.detach(), **{n: p.grad for n, p in own_parameters(model)}})
    plain, again = found
    for path in plain:
        torch.testing.assert_close(again[path], plain[path], rtol=1e-10, atol=1e-12, msg=path)
    torch.manual_seed(6)
    other = objective_of(model)(data)[0]
    assert bool(torch.isclose(other, plain["loss"])) is (dropout == 0), "dropout took no part"


def choices(count=12):
    """Which of three continues like the first word?"""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(count):
        label = int(draw.integers(3))
        sides = [[7 if n == label else 9, *draw.integers(10, 60, draw.integers(2, 6)).tolist()] for n in range(3)]
        found.append({"input_ids": sides, "labels": label})
    return found


def following(count=24):
    draw = np.random.default_rng(0)
    return [{"input_ids": [7 + n % 2, *draw.integers(10, 60, 5).tolist()], "labels": n % 2} for n in range(count)]


def pretraining(count=24):
    found = []
    for n, example in enumerate(following(count)):
        ids = example["input_ids"]
        labels = [-100, ids[1], *[-100] * (len(ids) - 2)]
        found.append({"input_ids": ids, "labels": labels, "next_sentence_label": n % 2})
    return found


def replaced(count=24):
    draw = np.random.default_rng(0)
    found = []
    for _ in range(count):
        ids = draw.integers(6, 60, draw.integers(3, 9))
        found.append({"input_ids": ids.tolist(), "labels": (ids % 2).tolist()})
    return found


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("BertForMultipleChoice", choices),
        ("BertForNextSentencePrediction", following),
        ("BertForPreTraining", pretraining),
        ("ElectraForPreTraining", replaced),
    ],
)
def test_kinds_without_an_objective_of_their_own_learn_through_their_forward(kind, data, tmp_path):
    torch.manual_seed(0)
    made = getattr(multihead, kind)
    model = made(made.architecture.config(**CASES["bert masked"][1]))
    arguments = TrainingArguments(
        tmp_path, **{**SETTINGS, "num_train_epochs": 15, "learning_rate": 1e-2, "save_strategy": "no"}
    )
    run = Trainer(model, arguments, train_dataset=data(), eval_dataset=data())
    assert type(run.objective) is PaddedObjective
    run.train()
    found = losses(run)
    assert np.mean(found[-6:]) < 0.5 * np.mean(found[:6])
    assert run.evaluate()["eval_loss"] < 0.5 * found[0]
    predicted = run.predict(data())
    assert len(predicted.predictions if kind != "BertForPreTraining" else predicted.predictions[0]) == len(data())


@pytest.mark.parametrize("name", ["bert label", "bert tokens", "bert masked", "gpt2", "t5"])
def test_labels_are_smoothed_in_padded_batches_too(name, folder):
    model, data = ours(name, folder).eval(), examples(name)
    padded = PaddedObjective(model, lambda rows: tensors(rows, model.config.pad_token_id or 0), smoothing=0.1)
    batch = padded.collate(data)
    ragged = objective_of(model, 0.1)
    assert padded.count(batch) == ragged.count(data)
    torch.testing.assert_close(padded(batch)[0], ragged(data)[0], rtol=1e-8, atol=1e-8)


def test_a_loss_of_ones_own_may_take_the_labels_out_of_its_inputs(folder):
    def loss(model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        scores = model(**inputs).logits
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten())

    data = examples("bert tokens")
    whole, once = stepped(objective_of(ours("bert tokens", folder)), [data])
    objective = PaddedObjective(ours("bert tokens", folder), tensors, loss)
    found, taken = stepped(objective, [data[:2], data[2:]])
    batch = objective.collate(data)
    objective(batch)
    assert objective.count(batch) == objective_of(objective.model).count(data), "an evaluation counts afterwards"
    assert taken.loss == pytest.approx(once.loss, rel=1e-6)
    for path in whole:
        torch.testing.assert_close(found[path], whole[path], rtol=1e-9, atol=1e-11, msg=path)


def test_each_word_that_may_be_replaced_counts_once():
    def objective():
        torch.manual_seed(0)
        model = multihead.ElectraForPreTraining(multihead.ElectraConfig(**CASES["electra masked"][1]))
        return PaddedObjective(
            model, lambda rows: tensors([{k: np.asarray(v) for k, v in row.items()} for row in rows])
        )

    data = replaced(9)
    whole, once = stepped(objective(), [data])
    found, taken = stepped(objective(), [data[:2], data[2:]])
    assert taken.loss == pytest.approx(once.loss, rel=1e-5)
    for path in whole:
        torch.testing.assert_close(found[path], whole[path], rtol=1e-5, atol=1e-6, msg=path)
