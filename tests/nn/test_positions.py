"""Rotary positions: every scaling equals the reference's, and a text's numbers follow from its own length alone."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead
from multihead.errors import UnsupportedConfig
from multihead.nn.positions import rotary

SIZES = {
    "vocab_size": 50,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "max_position_embeddings": 12,
    "pad_token_id": 0,
}
LONG = {"short_factor": [1.0, 1.2, 1.5, 2.0, 2.5, 3.0], "long_factor": [1.5, 2.0, 4.0, 8.0, 9.0, 12.0]}
ROPES = {
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "longrope": {"rope_type": "longrope", "original_max_position_embeddings": 6, **LONG},
    "longrope-factors": {
        "rope_type": "longrope", "original_max_position_embeddings": 6, "factor": 5.0, "attention_factor": 1.3, **LONG,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 6},
    "yarn-numbers": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 6, "beta_fast": 10.0, "beta_slow": 2.0,
        "mscale": 0.7, "mscale_all_dim": 0.9,
    },
    "yarn-attention": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 6, "attention_factor": 0.8,
    },
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 6,
    },
}  # fmt: skip


@pytest.fixture
def pair(request, tmp_path):
    torch.manual_seed(0)
    rope = {"rope_theta": 100.0, **ROPES[request.param]}
    theirs = transformers.LlamaModel(transformers.LlamaConfig(**SIZES, rope_parameters=rope)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path)
    return multihead.LlamaModel.from_pretrained(tmp_path), theirs


@pytest.mark.parametrize("pair", ROPES, indirect=True)
@pytest.mark.parametrize("length", [5, 6, 7, 12, 13, 30])
def test_texts_of_any_length_equal_the_reference(pair, length):
    ours, theirs = pair
    ids = torch.randint(1, 50, (2, length))
    with torch.no_grad():
        got, expected = ours(ids)[0], theirs(ids)[0]
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("pair", ["dynamic", "longrope"], indirect=True)
def test_a_text_is_read_alike_alone_and_beside_a_longer_one(pair):
    ours, _ = pair
    ids, mask = torch.randint(1, 50, (2, 30)), torch.ones(2, 30)
    mask[1, 5:] = 0
    with torch.no_grad():
        both, alone = ours(ids, mask)[0], ours(ids[1:, :5])[0]
    torch.testing.assert_close(both[1:, :5], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pair", ["dynamic", "longrope"], indirect=True)
def test_what_is_cached_is_turned_anew_where_a_text_outgrows_it(pair):
    ours, theirs = pair
    ids = torch.randint(1, 50, (1, 15))
    with torch.no_grad():
        first = ours(ids[:, :6], use_cache=True)
        got = ours(ids[:, 6:], past_key_values=first.past_key_values)[0]
        expected = theirs(ids)[0][:, 6:]
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("rope", "said"),
    [
        ({"rope_type": "spiral"}, "spiral"),
        ({"rope_type": ["yarn"]}, "yarn"),
        ({"rope_type": "yarn", "factor": "4"}, "factor"),
        ({"rope_type": "longrope"}, "short_factor"),
        ({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0, 2.0]}, "short_factor"),
        ({"rope_type": "linear", "factor": 0}, "factor"),
        ({"rope_type": "linear"}, "factor"),
        ({"rope_theta": "big"}, "big"),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_computed_with_are_named(rope, said):
    with pytest.raises(UnsupportedConfig, match=said):
        rotary(12, {"rope_theta": 10000.0, **rope}, 64)
