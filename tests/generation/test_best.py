"""Finding the highest of many scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.errors import InvalidInput
from multihead.generation.strategies import base as job
from multihead.generation.strategies.beam_search import top_indices

from .drawn import MODELS


@given(size=st.integers(1, 40_000), count=st.integers(1, 12), hidden=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_best_are_those_that_sorting_gives(size, count, hidden, seed):
    scores = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    if hidden:
        scores[: size - size // 50 - 1] = -torch.inf
    found = top_indices(scores, min(count, size))
    assert torch.equal(scores[found], scores.sort(descending=True).values[: len(found)])
    assert len(set(found.tolist())) == len(found)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3},
        {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.3},
        {"num_beams": 3, "early_stopping": True, "suppress_tokens": [5, 9]},
        {"min_new_tokens": 6, "begin_suppress_tokens": [3, 4], "bad_words_ids": [[7], [8]]},
        {"num_beams": 2, "min_new_tokens": 4, "forced_eos_token_id": 2, "bad_words_ids": [[7], [8, 9]]},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.0},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_texts_are_those_of_all_scores(models, name, options, monkeypatch):
    """With the kernels only the highest scores are looked at; without them every rule sees them all."""
    model = models[name]
    prompts = [[5, 6, 7, 8], [9, 10]]
    options = {"max_new_tokens": 10, "do_sample": False, **options}
    quick = model.generate(prompts, **options)
    monkeypatch.setattr(job.GenerationJob, "banned_tokens", lambda self, length: None)
    assert torch.equal(quick, model.generate(prompts, **options))


def test_all_tokens_banned_is_an_error_on_either_path(models, monkeypatch):
    model = models[next(iter(MODELS))]
    options = {"suppress_tokens": list(range(model.config.vocab_size)), "max_new_tokens": 2, "do_sample": False}
    for _ in range(2):
        with pytest.raises(InvalidInput, match="no token may come next"):
            model.generate([[5, 6, 7]], **options)
        monkeypatch.setattr(job.GenerationJob, "banned_tokens", lambda self, length: None)
