"""Draws from the likeliest tokens alone have the chances that all rules give."""

from __future__ import annotations

import random

import pytest
import torch

from multihead.generation.config import GenerationConfig
from multihead.generation.logits.processors import logits_processors, sampling_processors
from multihead.generation.logits.top_candidates import Candidates, sample_candidates
from multihead.kernels.cpu import native

pytestmark = pytest.mark.skipif(native.library() is None, reason="without the kernels all scores are looked at")


def definition(config, history, scores):
    for rule in [*logits_processors(config, 1, 50), *sampling_processors(config)]:
        scores = rule(history, scores)
    return scores.softmax(-1)


def found(config, scores, banned=()):
    source = Candidates.of(config)
    values, tokens = source.find(scores, banned)
    chances = source.probabilities(values, scores.shape[1])
    return None if chances is None else torch.zeros_like(scores).scatter_add(1, tokens, chances)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "settings",
    [{}, {"top_k": 7, "temperature": 0.5}, {"top_k": 0, "top_p": 0.7}, {"top_k": 0, "top_p": 0.9, "temperature": 0.6},
     {"top_k": 30, "top_p": 0.8, "min_p": 0.02}, {"top_k": 20, "typical_p": 0.7}, {"top_k": 0, "top_p": 0.6,
     "epsilon_cutoff": 0.02}, {"top_k": 9, "eta_cutoff": 0.02}, {"top_k": 5000}, {"top_k": 1},
     {"top_k": 0, "top_p": 0.0}, {"top_k": 7, "top_p": 0.0}, {"top_k": 7, "temperature": 1e-45}],
)  # fmt: skip
def test_chances_are_those_of_all_rules(settings, seed):
    draw = random.Random(seed)
    scores = draw.choice([1.0, 4.0]) * torch.randn(3, draw.choice([5, 60, 2000]), generator=torch.manual_seed(seed))
    config = GenerationConfig(do_sample=True, suppress_tokens=[1, 3], **settings)
    chances = found(config, scores, [1, 3])
    wanted = definition(config, [[2]] * 3, scores)
    if chances is None:  # flat scores, whose mass is not among the likeliest
        assert settings.get("top_k") == 0
        assert scores.shape[1] == 2000
        return
    torch.testing.assert_close(chances, wanted, rtol=1e-4, atol=1e-6)


def test_scores_equal_to_the_last_one_may_come_too():
    config = GenerationConfig(do_sample=True, top_k=3)
    few, many = torch.zeros(1, 100), torch.zeros(1, 100)
    few[0, :6], many[0, :40] = 2.0, 2.0
    few[0, 6:] = -torch.arange(94.0)
    torch.testing.assert_close(found(config, few), definition(config, [[2]], few))
    assert found(config, many) is None  # too many of them are equal
    only = torch.full((2, 100), -torch.inf)
    only[:, [4, 70]] = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(found(config, only), definition(config, [[2]] * 2, only))


def test_where_all_may_come_all_are_looked_at():
    for settings in ({"top_k": 0}, {"top_h": 0.5}, {"renormalize_logits": True}, {"num_beams": 2}):
        assert Candidates.of(GenerationConfig(do_sample=True, **settings)) is None
    assert Candidates.of(GenerationConfig()) is None


def test_draws_are_those_of_all_of_the_vocabulary():
    """In torch's own state, the token that `multinomial` gives of all chances; with a generator, one by the chances."""
    config = GenerationConfig(do_sample=True, top_k=20)
    source = Candidates.of(config)
    for seed in range(50):
        scores = torch.randn(4, 3000, generator=torch.manual_seed(seed))
        values, tokens = source.find(scores, ())
        torch.manual_seed(seed)
        wanted = torch.multinomial(definition(config, [[2]] * 4, scores), 1).flatten().tolist()
        after = torch.rand(1)
        torch.manual_seed(seed)
        assert sample_candidates(source.probabilities(values, 3000), tokens, 3000, None) == wanted
        assert torch.equal(torch.rand(1), after)
    chances, tokens = torch.tensor([[0.7, 0.2, 0.1]]).expand(20_000, -1), torch.tensor([[5, 9, 2]]).expand(20_000, -1)
    found = sample_candidates(chances, tokens, 10, torch.Generator().manual_seed(0))
    assert [round(found.count(token) / 20_000, 2) for token in (5, 9, 2)] == [0.7, 0.2, 0.1]
