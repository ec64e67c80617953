"""Passes without a token: no logits, and a cache as it was."""

from __future__ import annotations

import pytest
import torch

import multihead
from multihead.models.common.registry import parse_config

from .cases import CASES

ROWS = {case.name: case for case in CASES}


@pytest.mark.parametrize(
    "name", ["mamba", "mamba2", "qwen3.5", "kimi-linear", "lfm2", "recurrent-gemma", "zaya", "jetmoe", "inkling",
             "qwen4-exp"],
)  # fmt: skip
def test_a_pass_without_tokens_has_no_logits_and_leaves_the_cache_as_it_was(name):
    case = ROWS[name]
    config = parse_config(case.made.to_dict())
    model = getattr(multihead, f"{case.family}ForCausalLM")(config).eval()
    ids = torch.randint(5, 90, (1, 4))
    with torch.no_grad():
        none = model(ids[:, :0], use_cache=True)
        assert none.logits.shape == (1, 0, config.vocab_size)
        first = model(ids[:, :2], past_key_values=none.past_key_values, use_cache=True)
        again = model(ids[:, :0], past_key_values=first.past_key_values, use_cache=True)
        last = model(ids[:, 2:], past_key_values=again.past_key_values, use_cache=True)
        torch.testing.assert_close(torch.cat([first.logits, last.logits], 1), model(ids).logits, rtol=1e-4, atol=1e-4)
