"""Objectives over pairs: preferences as their formula says, sentences as sentence-transformers learns them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers as reference
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer import losses as theirs
from sentence_transformers.sentence_transformer.modules import Pooling

import multihead
from multihead.errors import UnsupportedOption
from multihead.heads.losses import IGNORED
from multihead.nn.own_names import own_parameters
from multihead.training.objectives.preference import PreferenceObjective, SentenceObjective
from tests.training.models import ours

PROMPT = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def preferences(count=5, seed=1):
    draw, found = np.random.default_rng(seed), []
    for _ in range(count):
        prompt, example = draw.integers(6, 60, PROMPT), {}
        for side in ("chosen", "rejected"):
            ids = np.append(prompt, draw.integers(6, 60, draw.integers(1, 9)))
            labels = np.where(np.arange(len(ids)) < PROMPT, IGNORED, ids)
            example |= {f"{side}_input_ids": ids, f"{side}_labels": labels}
        found.append(example)
    return found


def log_probability(model: Any, ids: np.ndarray, *, mean: bool = False) -> torch.Tensor:
    """Of an answer given its prompt, written out."""
    given = torch.as_tensor(ids)
    logs = model(given[None]).logits[0].log_softmax(-1)
    found = [logs[place - 1, given[place]] for place in range(PROMPT, len(given))]
    return torch.stack(found).mean() if mean else torch.stack(found).sum()


def written(model, before, data, loss, beta, smoothing=0.0):
    total = torch.zeros((), dtype=torch.float64)
    for example in data:
        chosen, rejected = (example[f"{side}_input_ids"] for side in ("chosen", "rejected"))
        mean = loss == "ipo"
        gap: Any = log_probability(model, chosen, mean=mean) - log_probability(model, rejected, mean=mean)
        gap -= (log_probability(before, chosen, mean=mean) - log_probability(before, rejected, mean=mean)).detach()
        if loss == "sigmoid":
            total += -(1 - smoothing) * F.logsigmoid(beta * gap) - smoothing * F.logsigmoid(-beta * gap)
        else:
            total += F.relu(1 - beta * gap) if loss == "hinge" else (gap - 1 / (2 * beta)) ** 2
    return total


def moved(model):
    """A model that is no longer its reference."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in own_parameters(model) if p.grad is not None}


@pytest.mark.parametrize(("loss", "smoothing"), [("sigmoid", 0.0), ("sigmoid", 0.2), ("hinge", 0.0), ("ipo", 0.0)])
def test_preferences_follow_their_formula(loss, smoothing, folder):
    model, data = ours("gpt2", folder).eval(), preferences()
    before = copy.deepcopy(model)
    objective = PreferenceObjective(model, beta=0.3, kind=loss, smoothing=smoothing)
    moved(model)
    found = objective(data)[0]
    wanted = written(model, before, data, loss, 0.3, smoothing)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)
    one, other = gradients(model, found), gradients(model, wanted)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-7, atol=1e-9, msg=name)


def test_rewards_are_what_the_model_gained_over_its_reference(folder):
    model, data = ours("gpt2", folder).eval(), preferences(2)
    before = copy.deepcopy(model)
    objective = PreferenceObjective(model, beta=0.5)
    moved(model)
    rewards = objective(data, True)[1]
    with torch.no_grad():
        for example, pair in zip(data, rewards, strict=True):
            for side, value in zip(("chosen", "rejected"), pair, strict=True):
                ids = example[f"{side}_input_ids"]
                wanted = 0.5 * (log_probability(model, ids) - log_probability(before, ids))
                assert float(value) == pytest.approx(float(wanted), rel=1e-6)


def test_with_adapters_the_reference_is_the_model_without_them(folder):
    model, data = ours("gpt2", folder), preferences()
    before = copy.deepcopy(model).eval()
    model.add_adapter(multihead.LoraConfig(r=2, target_modules=["c_attn"]))
    model.double().train()
    objective = PreferenceObjective(model, beta=0.3)
    assert not objective._reference
    assert not any("reference" in name for name, _ in own_parameters(objective))
    moved(model)
    found = objective(data)[0]
    assert model.training
    wanted = written(model, before, data, "sigmoid", 0.3)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-8)
    one, other = gradients(model, found), gradients(model, wanted)
    assert one.keys() == other.keys()
    assert all("lora" in name for name in one)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-9, msg=name)


def test_the_reference_is_read_without_dropout_and_does_not_learn(folder):
    model = ours("gpt2", folder).train()
    objective = PreferenceObjective(model)
    objective.train()
    other = objective._reference[0]
    assert not other.training
    assert not any(p.requires_grad for p in other.parameters())
    assert {id(p) for p in objective.parameters()} == {id(p) for p in model.parameters()}


ANCHORS = ["The fox jumps.", "A dog", "doesn't mind at all", "Schöne Grüße"]
OTHERS = ["the quick brown fox", "the lazy dog", "the dog doesn't mind", "aus München"]
HARD = ["A dog", "over the fox", "lazy", "the fox"]
SCORES = [0.9, 0.1, 0.5, 0.5]


@pytest.fixture(scope="module")
def encoders(bert, tmp_path_factory):
    """One encoder, of the reference and ours."""
    place = tmp_path_factory.mktemp("encoder")
    transformer = reference.base.modules.Transformer(str(bert))
    reference.SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu").save(
        str(place), create_model_card=False
    )
    return reference.SentenceTransformer(str(place), device="cpu").eval(), multihead.SentenceEncoder.from_pretrained(
        place, dtype="float32"
    )


def rows(encoder, *sides, scores=None):
    names = ["input_ids", *(f"input_ids_{n}" for n in range(2, len(sides) + 1))]
    columns = [[np.array(encoder.tokenizer.encode(text)) for text in side] for side in sides]
    found = [dict(zip(names, example, strict=True)) for example in zip(*columns, strict=True)]
    for example, score in zip(found, scores or [], strict=False):
        example["labels"] = np.float32(score)
    return names, found


@pytest.mark.parametrize(
    ("loss", "made", "sides", "scores"),
    [
        ("contrastive", theirs.MultipleNegativesRankingLoss, (ANCHORS, OTHERS), None),
        ("contrastive", theirs.MultipleNegativesRankingLoss, (ANCHORS, OTHERS, HARD), None),
        ("cosent", theirs.CoSENTLoss, (ANCHORS, OTHERS), SCORES),
        ("cosine", theirs.CosineSimilarityLoss, (ANCHORS, OTHERS), SCORES),
    ],
)
def test_vectors_learn_as_with_sentence_transformers(loss, made, sides, scores, encoders):
    their, own = encoders
    own.eval()
    names, batch = rows(own, *sides, scores=scores)
    objective = SentenceObjective(own, names, loss)
    found = objective(batch)[0] / objective.count(batch)
    features = [their.preprocess(list(side)) for side in sides]
    wanted = made(their)(features, None if scores is None else torch.tensor(scores))
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    one = gradients(own, found)
    their.zero_grad()
    wanted.backward()
    word = next(p for n, p in their.named_parameters() if "word_embeddings" in n)
    ours_ = next(grad for n, grad in one.items() if "embed.token" in n)
    torch.testing.assert_close(ours_, word.grad, rtol=1e-3, atol=1e-5)


def test_an_unknown_loss_is_refused_by_name(folder, encoders):
    with pytest.raises(UnsupportedOption, match="'contrast' is none of contrastive, cosent, cosine"):
        SentenceObjective(encoders[1], ("input_ids",), "contrast")
    with pytest.raises(UnsupportedOption, match="'kto' is none of sigmoid, hinge, ipo"):
        PreferenceObjective(ours("gpt2", folder), kind="kto")
