"""Summaries of windows of tokens are cached: pieces, cuts and forks give what one pass gives."""

from __future__ import annotations

import pytest
import torch

import multihead

SPARSE, HEAVY = "compressed_sparse_attention", "heavily_compressed_attention"
SIZES = {
    "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "moe_intermediate_size": 8,
    "head_dim": 8, "partial_rotary_factor": 0.5, "q_lora_rank": 8, "o_groups": 2, "o_lora_rank": 4, "index_n_heads": 20,
    "index_head_dim": 8, "index_topk": 5, "n_routed_experts": 3, "num_experts_per_tok": 2, "sliding_window": 12,
    "layer_types": [SPARSE, HEAVY], "mlp_layer_types": ["hash_moe", "moe"], "hc_mult": 2, "initializer_range": 0.4,
}  # fmt: skip


@pytest.fixture(scope="module", params=[(4, 128), (3, 5)], ids=str)
def model(request):
    torch.manual_seed(0)
    sparse, heavy = request.param
    config = multihead.AutoConfig.for_model("deepseek_v4", compress_rates={SPARSE: sparse, HEAVY: heavy}, **SIZES)
    return multihead.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def ids():
    return torch.randint(60, (1, 200), generator=torch.Generator().manual_seed(0))


def read(model, memory, *pieces):
    """Logits of pieces that are read one after another, and the cache."""
    logits = []
    for piece in pieces:
        out = model(input_ids=piece, past_key_values=memory, use_cache=True)
        memory = out.past_key_values
        logits.append(out.logits)
    return torch.cat(logits, 1), memory


@torch.no_grad()
def test_pieces_give_what_one_pass_gives(model, ids):
    whole = model(input_ids=ids).logits
    got, _ = read(model, None, *ids.split([33, 1, 1, 97, 1, 67], 1))
    torch.testing.assert_close(got, whole, rtol=0, atol=1e-4)


@torch.no_grad()
def test_what_is_cut_back_is_forgotten(model, ids):
    whole = model(input_ids=ids).logits
    _, memory = read(model, None, ids[:, :140], ids[:, :15], ids[:, 3:4])
    memory.crop(140)
    got, _ = read(model, memory, ids[:, 140:])
    torch.testing.assert_close(got, whole[:, 140:], rtol=0, atol=1e-4)


@torch.no_grad()
def test_forks_grow_apart(model, ids):
    _, memory = read(model, None, ids[:, :140])
    memory.select(torch.tensor([0, 0]))
    ends = torch.cat([ids[:, 140:160], ids[:, :20]])
    got, _ = read(model, memory, *ends.split([7, 1, 12], 1))
    both = torch.cat([ids[:, :140].expand(2, -1), ends], 1)
    torch.testing.assert_close(got, model(input_ids=both).logits[:, 140:], rtol=0, atol=1e-4)


def test_vectors_without_ids_are_refused(model):
    with pytest.raises(multihead.errors.InvalidInput, match="chosen by token ids"):
        model(inputs_embeds=torch.zeros(1, 3, 24))


@torch.no_grad()
def test_positions_that_windows_are_not_counted_by_are_refused(model, ids):
    both = torch.cat([torch.arange(30), torch.arange(20)])[None]
    got = model(input_ids=ids[:, :50], position_ids=both, use_cache=False).logits  # two texts in a row
    torch.testing.assert_close(got[:, 30:], model(input_ids=ids[:, 30:50]).logits, rtol=0, atol=1e-4)
    with pytest.raises(multihead.errors.InvalidInput, match="count its tokens from 0"):
        model(input_ids=ids[:, :9], position_ids=torch.arange(4, 13)[None])
