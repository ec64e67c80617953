"""Strategies that the reference had before its version 5: what its last versions gave, token for token.

`retired_strategies.json` holds what version 4.49 continued prompts with.
"""

from __future__ import annotations

import pytest
import torch

from .drawn import MODELS

SEARCHED = ("forced", "either")  # a search of its own, compared in test_constraints
WAYS = [(name, way) for name, model in MODELS.items() for way in model["ways"] if way not in SEARCHED]


@pytest.mark.parametrize(("name", "way"), WAYS, ids=[f"{name}-{way}" for name, way in WAYS])
def test_tokens_equal_those_of_its_last_versions(models, name, way):
    model, case = models[name], MODELS[name]["ways"][way]
    new = 12 if case["options"].get("num_beams") else 16
    for prompt, expected in zip(MODELS[name]["prompts"], case["tokens"], strict=True):
        texts = expected if isinstance(expected[0], list) else [expected]
        out = model.generate(torch.tensor([prompt]), max_new_tokens=new, do_sample=False, **case["options"])
        assert [cut(text) for text in out.tolist()] == [cut(text) for text in texts]


def cut(text: list[int]) -> list[int]:
    """Without padding."""
    return text[: max(i for i, token in enumerate(text) if token != 2) + 1]
