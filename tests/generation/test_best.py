"""Finding the highest of many scores."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.generation.beams import best


@given(size=st.integers(1, 40_000), count=st.integers(1, 12), hidden=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_best_are_those_that_sorting_gives(size, count, hidden, seed):
    scores = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    if hidden:
        scores[: size - size // 50 - 1] = -torch.inf
    found = best(scores, min(count, size))
    assert torch.equal(scores[found], scores.sort(descending=True).values[: len(found)])
    assert len(set(found.tolist())) == len(found)
