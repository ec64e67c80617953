"""Families that the reference runs only with code of the checkpoint: equal to a relative on converted weights.

Each file is written with the names and entries of the published checkpoints, and with the `auto_map` that names their
code. The entry is a name: nothing of it runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import multihead

Tensors = dict[str, Tensor]
SIZES = {
    "vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Relative:
    """A family, and the reference's model that gives its numbers.

    Args:
        entries: of the family's config.json. peer: the relative's config.
        stored: the relative's tensors -> the family's, by the published names.
        altered: changes the relative first.
    """

    name: str
    entries: dict[str, Any]
    peer: Callable[[], Any]
    stored: Callable[[Tensors], Tensors]
    altered: Callable[[Any], None] = lambda peer: None


def same(tensors: Tensors) -> Tensors:
    return tensors


def renamed(tensors: Tensors, names: dict[str, str], fused: dict[str, tuple[str, ...]], heads: int = 0) -> Tensors:
    """Rename parts of names, and join tensors: one below the other, or head by head of so many key heads."""
    left, out = dict(tensors), dict[str, Tensor]()
    for name in tensors:
        for joint, parts in fused.items():
            if f".{parts[0]}." in name:
                found = [left.pop(name.replace(parts[0], part)) for part in parts]
                if heads:
                    found = [x.unflatten(0, (heads, -1)) for x in found]
                whole = torch.cat(found, 1).flatten(0, 1) if heads else torch.cat(found)
                left[name.replace(parts[0], joint)] = whole
    for name, tensor in left.items():
        for old, new in names.items():
            name = name.replace(old, new)
        out[name] = tensor.contiguous()
    return out


QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
INTERNLM2 = {
    "embed_tokens": "tok_embeddings", "self_attn.o_proj": "attention.wo", "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2", "lm_head": "output",
}  # fmt: skip
CHATGLM = {
    "model.embed_tokens": "transformer.embedding.word_embeddings", "model.norm": "transformer.encoder.final_layernorm",
    "model.layers": "transformer.encoder.layers", "self_attn.o_proj": "self_attention.dense",
    "mlp.gate_up_proj": "mlp.dense_h_to_4h", "mlp.down_proj": "mlp.dense_4h_to_h",
    "lm_head": "transformer.output_layer",
}  # fmt: skip
QWEN = {
    "model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f", "model.layers": "transformer.h",
    "self_attn.o_proj": "attn.c_proj", "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2",
    "mlp.up_proj": "mlp.w1", "mlp.gate_proj": "mlp.w2", "mlp.down_proj": "mlp.c_proj",
}  # fmt: skip
CHATGLM_ENTRIES = {
    "model_type": "chatglm", "padded_vocab_size": 99, "hidden_size": 64, "num_layers": 3, "num_attention_heads": 4,
    "ffn_hidden_size": 80, "kv_channels": 16, "seq_length": 64, "multi_query_attention": True,
    "multi_query_group_num": 2, "add_qkv_bias": True, "rope_ratio": 5.0, "layernorm_epsilon": 1e-5, "rmsnorm": True,
    "post_layer_norm": True, "pad_token_id": 0, "eos_token_id": 2, "original_rope": True,
}  # fmt: skip
QWEN_ENTRIES = {
    "model_type": "qwen", "vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 160, "kv_channels": 16, "seq_length": 16, "max_position_embeddings": 64,
    "layer_norm_epsilon": 1e-6, "use_flash_attn": "auto", "bf16": False, "pad_token_id": 0, "eos_token_id": 2,
    "rotary_emb_base": 10000, "no_bias": True,
}  # fmt: skip


def unit_head(peer: Any) -> None:
    """Divide the rows of the relative's output table by their lengths."""
    peer.lm_head.weight.copy_(torch.nn.functional.normalize(peer.lm_head.weight))


def longer_rows(tensors: Tensors) -> Tensors:
    return {name: tensor * 3 if name == "lm_head.weight" else tensor for name, tensor in baichuan(tensors).items()}


def baichuan(tensors: Tensors) -> Tensors:
    return renamed(tensors, {}, {"self_attn.W_pack": QKV})


def qwen(tensors: Tensors) -> Tensors:
    return renamed(tensors, QWEN, {"attn.c_attn": QKV})


CASES = (
    Relative(
        "minicpm",
        {**SIZES, "model_type": "minicpm", "num_key_value_heads": 2, "scale_emb": 3, "scale_depth": 1.4,
         "dim_model_base": 16, "tie_word_embeddings": True},
        lambda: transformers.GraniteConfig(
            **SIZES, num_key_value_heads=2, embedding_multiplier=3.0, residual_multiplier=1.4 / 3**0.5,
            attention_multiplier=0.25, logits_scaling=4.0, tie_word_embeddings=True,
        ),
        same,
    ),
    Relative(
        "internlm2",
        {**SIZES, "model_type": "internlm2", "num_key_value_heads": 2, "bias": False, "rope_theta": 50.0,
         "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        lambda: transformers.LlamaConfig(
            **SIZES, num_key_value_heads=2,
            rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 50.0},
        ),
        lambda tensors: renamed(tensors, INTERNLM2, {"attention.wqkv": QKV}, heads=2),
    ),
    Relative(
        "internlm2-biased",
        {**SIZES, "model_type": "internlm2", "num_key_value_heads": 2, "bias": True, "rms_norm_eps": 1e-6},
        lambda: transformers.LlamaConfig(**SIZES, num_key_value_heads=2, attention_bias=True),
        lambda tensors: renamed(tensors, INTERNLM2, {"attention.wqkv": QKV}, heads=2),
    ),
    Relative(
        "baichuan-1-7b",
        {**SIZES, "model_type": "baichuan", "position_embedding": "ROPE", "normalized_head": False},
        lambda: transformers.LlamaConfig(**SIZES),
        baichuan,
    ),
    Relative(
        "baichuan-2-7b",
        {**SIZES, "model_type": "baichuan", "position_embedding": "ROPE", "z_loss_weight": 0},
        lambda: transformers.LlamaConfig(**SIZES),
        longer_rows,
        unit_head,
    ),
    Relative(
        "chatglm",
        CHATGLM_ENTRIES,
        lambda: transformers.GlmConfig(
            **SIZES, num_key_value_heads=2, head_dim=16, attention_bias=True, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 50000.0, "partial_rotary_factor": 0.5},
        ),
        lambda tensors: renamed(tensors, CHATGLM, {"self_attention.query_key_value": QKV}),
    ),
    Relative(
        "qwen",
        {**QWEN_ENTRIES, "seq_length": 64},
        lambda: transformers.Qwen2Config(**SIZES, num_key_value_heads=4),
        qwen,
    ),
)  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    case: Relative = request.param
    peer = made(case.peer())
    with torch.no_grad():
        case.altered(peer)
    return peer, written(case, peer, tmp_path_factory.mktemp(case.name))


def written(case: Relative, peer: Any, folder: Path) -> Path:
    """Write a family's checkpoint with its relative's numbers."""
    tensors = {name: tensor.contiguous().clone() for name, tensor in peer.state_dict().items()}
    if peer.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(case.stored(tensors), folder / "model.safetensors", {"format": "pt"})
    code = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}
    (folder / "config.json").write_text(json.dumps({**case.entries, "auto_map": code}))
    return folder


def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    ids, mask = torch.randint(3, 98, (3, 11)), torch.ones(3, 11, dtype=torch.long)
    mask[1, 7:] = mask[2, 4:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def test_logits_equal_the_relatives(pair):
    peer, folder = pair
    inputs = batch()
    with torch.no_grad():
        got, expected = multihead.AutoModelForCausalLM.from_pretrained(folder)(**inputs).logits, peer(**inputs).logits
    real = inputs["attention_mask"].bool()
    assert (got - expected)[real].abs().max() <= 2e-5 * expected[real].abs().max()


def test_texts_equal_the_relatives(pair):
    peer, folder = pair
    ids, options = batch()["input_ids"][:1], {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    got = multihead.AutoModelForCausalLM.from_pretrained(folder).generate(ids, **options)
    expected = peer.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert got.tolist() == expected.tolist()


def test_a_saved_model_has_the_published_names_and_numbers(pair, tmp_path):
    _, folder = pair
    multihead.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    one, other = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_entry_is_known(pair):
    assert multihead.AutoConfig.from_pretrained(pair[1]).unknown == ()


def made(config: Any) -> Any:
    torch.manual_seed(0)
    peer = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.25)
    return peer


def test_baichuans_13b_has_linear_biases_for_positions(tmp_path):
    peer, heads, count = made(transformers.LlamaConfig(**SIZES)), 4, 11
    entries = {**SIZES, "model_type": "baichuan", "normalized_head": False}  # no width of a 7B model
    written(Relative("baichuan", entries, lambda: None, baichuan), peer, tmp_path)
    peer.model.rotary_emb.forward = lambda x, position_ids: (torch.ones(1, count, 16), torch.zeros(1, count, 16))
    slopes = torch.tensor([2.0 ** (-8 * (n + 1) / heads) for n in range(heads)])
    places = torch.arange(count)
    bias = slopes[:, None, None] * places  # (heads, 1, keys)
    mask = (bias + torch.full((count, count), -1e9).triu(1))[None]  # (1, heads, queries, keys)
    ids = batch()["input_ids"][:1]
    with torch.no_grad():
        got, expected = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, peer(ids, mask).logits
    assert (got - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_qwens_long_texts_have_a_larger_base_and_scaled_queries(tmp_path):
    """A text of 40 tokens after training on 16: the base grows by 2 ** ceil(log2(40 / 16) + 1) - 1 = 7."""
    peer, count, trained = made(transformers.Qwen2Config(**SIZES, num_key_value_heads=4)), 40, 16
    written(Relative("qwen", QWEN_ENTRIES, lambda: None, qwen), peer, tmp_path)
    base = 10000.0 * 7 ** (16 / 14)
    peer.model.rotary_emb.inv_freq = 1.0 / base ** (torch.arange(0, 16, 2).float() / 16)
    places = torch.arange(1, count + 1).float()
    factors = (places.log() / torch.tensor(float(trained)).log()).clamp(min=1.0)  # (tokens,)
    for layer in peer.model.layers:
        layer.self_attn.q_proj.register_forward_hook(lambda module, given, out: out * factors[:, None])
    ids = torch.randint(3, 98, (1, count))
    with torch.no_grad():
        got, expected = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, peer(ids).logits
    assert (got - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_a_normalized_head_learns_and_is_packed(tmp_path):
    """Gradients go through the division, and a packed head has rows of length 1."""
    peer = made(transformers.LlamaConfig(**SIZES))
    with torch.no_grad():
        unit_head(peer)
    entries = {**SIZES, "model_type": "baichuan", "position_embedding": "ROPE"}
    written(Relative("baichuan", entries, lambda: None, longer_rows), peer, tmp_path)
    ids = batch()["input_ids"][:1]
    model = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    model(ids, labels=ids).loss.backward()
    weight = model.head.table.weight
    assert (weight.grad * weight).sum(-1).abs().max() < 1e-5  # a longer row changes no score
    with torch.no_grad():
        expected = model(ids).logits
        packed = multihead.AutoModelForCausalLM.from_pretrained(tmp_path, precision="bf16", dtype=torch.float32)
        assert (packed(ids).logits - expected).abs().max() <= 0.03 * expected.abs().max()
        weight.mul_(2)
        assert (model(ids).logits - expected).abs().max() <= 1e-5 * expected.abs().max()
        weight[5] = -weight[5]
        assert torch.allclose(model(ids).logits[..., 5], -expected[..., 5], atol=1e-5)


PUBLISHED = {  # entries of published files -> the number of parameters that their model cards give
    "internlm2-7b": (
        7_737_708_544,
        {"model_type": "internlm2", "attn_implementation": "eager", "bias": False, "bos_token_id": 1,
         "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
         "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
         "num_hidden_layers": 32, "num_key_value_heads": 8, "pad_token_id": 2, "rms_norm_eps": 1e-05,
         "rope_scaling": {"factor": 2.0, "type": "dynamic"}, "rope_theta": 1000000, "tie_word_embeddings": False,
         "use_cache": True, "vocab_size": 92544, "pretraining_tp": 1},
    ),
    "baichuan2-7b": (
        7_505_973_248,
        {"model_type": "baichuan", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
         "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 4096,
         "model_max_length": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "pad_token_id": 0,
         "rms_norm_eps": 1e-06, "_from_model_config": True, "tie_word_embeddings": False, "use_cache": True,
         "vocab_size": 125696},
    ),
    "baichuan2-13b": (
        13_896_668_160,
        {"model_type": "baichuan", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 5120,
         "initializer_range": 0.02, "intermediate_size": 13696, "model_max_length": 4096, "num_attention_heads": 40,
         "num_hidden_layers": 40, "pad_token_id": 0, "rms_norm_eps": 1e-06, "tie_word_embeddings": False,
         "use_cache": True, "vocab_size": 125696},
    ),
    "chatglm3-6b": (
        6_243_584_000,
        {"model_type": "chatglm", "add_bias_linear": False, "add_qkv_bias": True,
         "apply_query_key_layer_scaling": True, "apply_residual_connection_post_layernorm": False,
         "attention_dropout": 0.0, "attention_softmax_in_fp32": True, "bias_dropout_fusion": True,
         "ffn_hidden_size": 13696, "fp32_residual_connection": False, "hidden_dropout": 0.0, "hidden_size": 4096,
         "kv_channels": 128, "layernorm_epsilon": 1e-05, "multi_query_attention": True, "multi_query_group_num": 2,
         "num_attention_heads": 32, "num_layers": 28, "original_rope": True, "padded_vocab_size": 65024,
         "post_layer_norm": True, "rmsnorm": True, "seq_length": 8192, "use_cache": True, "tie_word_embeddings": False,
         "eos_token_id": 2, "pad_token_id": 0},
    ),
    "qwen-7b": (
        7_721_324_544,
        {"model_type": "qwen", "attn_dropout_prob": 0.0, "bf16": False, "emb_dropout_prob": 0.0, "fp16": False,
         "fp32": False, "hidden_size": 4096, "intermediate_size": 22016, "initializer_range": 0.02,
         "kv_channels": 128, "layer_norm_epsilon": 1e-06, "max_position_embeddings": 32768, "no_bias": True,
         "num_attention_heads": 32, "num_hidden_layers": 32, "onnx_safe": None, "rotary_emb_base": 10000,
         "rotary_pct": 1.0, "scale_attn_weights": True, "seq_length": 8192, "tie_word_embeddings": False,
         "tokenizer_class": "QWenTokenizer", "use_cache": True, "use_cache_quantization": False,
         "use_cache_kernel": False, "softmax_in_fp32": False, "use_dynamic_ntk": True, "use_flash_attn": "auto",
         "use_logn_attn": True, "vocab_size": 151936},
    ),
    "minicpm-2b": (
        2_724_880_896,
        {"model_type": "minicpm", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 2304,
         "initializer_range": 0.1, "intermediate_size": 5760, "max_position_embeddings": 4096,
         "num_attention_heads": 36, "num_hidden_layers": 40, "num_key_value_heads": 36, "rms_norm_eps": 1e-05,
         "rope_scaling": None, "use_cache": True, "vocab_size": 122753, "scale_emb": 12, "dim_model_base": 256,
         "scale_depth": 1.4},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_all_known_and_makes_a_model_of_the_published_size(name, tmp_path):
    count, entries = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(entries))
    config = multihead.AutoConfig.from_pretrained(tmp_path)
    assert config.unknown == ()
    with torch.device("meta"):
        model = multihead.AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == count
