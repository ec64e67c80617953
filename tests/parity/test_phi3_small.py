"""Phi-3-small beside a plain computation of its published form: its code is no part of the reference."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from multihead import AutoModelForCausalLM

ENTRIES = {
    "model_type": "phi3small", "architectures": ["Phi3SmallForCausalLM"], "vocab_size": 99, "hidden_size": 32,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "ff_intermediate_size": 24,
    "gegelu_limit": 0.8, "blocksparse_block_size": 4, "blocksparse_num_local_blocks": 2, "blocksparse_vert_stride": 3,
    "dense_attention_every_n_layers": 2, "max_position_embeddings": 64, "rope_embedding_base": 100.0,
    "rope_position_scale": 1.5, "mup_width_multiplier": 8.0, "mup_embedding_multiplier": 10.0,
    "mup_attn_multiplier": 2.0, "mup_use_scaling": True, "dummy_token_indices": [7, 98], "attention_bias": False,
    "blocksparse_homo_head_pattern": False, "blocksparse_triton_kernel_block_size": 4, "reorder_weights": True,
    "bos_token_id": 1, "eos_token_id": 2,
    "auto_map": {"AutoModelForCausalLM": "modeling_phi3_small.Phi3SmallForCausalLM"},
}  # fmt: skip


def tensors():
    torch.manual_seed(0)
    shapes = {
        "model.embed_tokens.weight": (99, 32),
        "model.final_layernorm.weight": (32,),
        "model.final_layernorm.bias": (32,),
    }
    for i in range(3):
        for name, size in (("self_attn.query_key_value", (64, 32)), ("self_attn.dense", (32, 32)),
                           ("mlp.up_proj", (48, 32)), ("mlp.down_proj", (32, 24)),
                           ("input_layernorm", (32,)), ("post_attention_layernorm", (32,))):  # fmt: skip
            shapes[f"model.layers.{i}.{name}.weight"], shapes[f"model.layers.{i}.{name}.bias"] = size, size[:1]
    return {name: torch.randn(shape) * 0.25 + 0.5 * (len(shape) == 1) for name, shape in shapes.items()}


def turned(x, places):
    """Rotary positions of (tokens, heads, 8)."""
    angles = places[:, None] / 1.5 * 100.0 ** -(torch.arange(4) / 4)
    cos, sin = (f(angles).repeat(1, 2)[:, None] for f in (torch.cos, torch.sin))
    return x * cos + torch.cat([-x[..., 4:], x[..., :4]], -1) * sin


def visible(count, layer, step):
    """(heads, queries, keys): the last two blocks, and each third one before, shifted by the head."""
    out = torch.zeros(4, count, count, dtype=torch.bool)
    for head in range(4):
        for query in range(count):
            for key in range(query + 1):
                near, strided = query // 4 - key // 4 < 2, (key // 4 + head * step + 1) % 3 == 0
                out[head, query, key] = (layer + 1) % 2 == 0 or near or strided
    return out


def expected(w, ids, step=1):
    x, count = w["model.embed_tokens.weight"][ids] * 10.0, len(ids)
    norm = lambda x, name: torch.layer_norm(x, (32,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)  # noqa: E731
    dense = lambda x, name: x @ w[f"{name}.weight"].T + w[f"{name}.bias"]  # noqa: E731
    for i in range(3):
        stem = f"model.layers.{i}"
        both = dense(norm(x, f"{stem}.input_layernorm"), f"{stem}.self_attn.query_key_value").view(count, 2, 4, 8)
        q, k, v = both[:, :, :2].reshape(count, 4, 8), both[:, :, 2], both[:, :, 3]
        q, k = turned(q, torch.arange(count)), turned(k, torch.arange(count)).repeat_interleave(2, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * 2.0 / 8
        scores = scores.masked_fill(~visible(count, i, step), -torch.inf).softmax(-1)
        mixed = torch.einsum("hqk,khd->qhd", scores, v.repeat_interleave(2, 1)).flatten(1)
        x = x + dense(mixed, f"{stem}.self_attn.dense")
        up = dense(norm(x, f"{stem}.post_attention_layernorm"), f"{stem}.mlp.up_proj")
        gate, linear = up[:, ::2].clamp(max=0.8), up[:, 1::2].clamp(-0.8, 0.8)
        x = x + dense(gate * torch.sigmoid(1.702 * gate) * (linear + 1), f"{stem}.mlp.down_proj")
    logits = norm(x, "model.final_layernorm") @ w["model.embed_tokens.weight"].T / 8.0
    return logits.index_fill(-1, torch.tensor([7, 98]), torch.finfo(torch.float32).min)


@pytest.fixture(params=[False, True], ids=["by-head", "alike"])
def written(request, tmp_path):
    weights = tensors()
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**ENTRIES, "blocksparse_homo_head_pattern": request.param}))
    return tmp_path, weights, 0 if request.param else 1


def test_logits_texts_and_files_are_those_of_the_published_form(written, tmp_path):
    folder, weights, step = written
    model, ids = AutoModelForCausalLM.from_pretrained(folder), torch.randint(8, 98, (30,))
    got = model(torch.stack([ids, ids.flip(0)])).logits.detach()
    for row, text in zip(got, (ids, ids.flip(0)), strict=True):
        torch.testing.assert_close(row, expected(weights, text, step), atol=2e-5, rtol=2e-5)
    text = ids[:20].tolist()
    for _ in range(16):
        text.append(int(expected(weights, torch.tensor(text), step)[-1].argmax()))
    drawn = model.generate([text[:20]], max_new_tokens=16, eos_token_id=None, pad_token_id=0)
    assert drawn[0].tolist() == text
    assert model.config.unknown == ()
    model.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
