"""Step 3.7 Flash: the reference has its language model inside the whole alone, so it is compared there."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

import multihead

from .multimodal import Whole, difference

KINDS = ["full_attention", "sliding_attention", "full_attention"]
TEXT = {
    "num_sliding_attention_heads": 6, "layer_types": KINDS, "sliding_window": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16, "share_expert_dim": 20, "moe_router_scaling_factor": 1.5,
    "mlp_layer_types": ["dense", "sparse", "sparse"], "swiglu_limits": [0, 0.4, 0],
    "swiglu_limits_shared": [0.3, 0, 0.5], "query_pre_attn_scalar": 6,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def whole():
    model = Whole("step3p7", text=TEXT).model()
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.normal_(0.0, 0.3)
    return model


@pytest.fixture(scope="module")
def ids():
    return torch.randint(1, 98, (2, 9), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_text_half_equals_the_whole_model_on_text(whole, ids, tmp_path):
    """With the authors' names, which the reference saves, with those of its modules, and as we save it."""
    expected = whole(input_ids=ids).logits
    whole.save_pretrained(tmp_path)
    stored = set(load_file(tmp_path / "model.safetensors"))
    half = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert difference(half(input_ids=ids).logits, expected) < 3e-6
    half.save_pretrained(tmp_path / "text")
    assert set(load_file(tmp_path / "text" / "model.safetensors")) == {n for n in stored if not n.startswith("vi")}
    again = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "text")
    assert difference(again(input_ids=ids).logits, expected) < 3e-6
    modules = {name: x.clone().contiguous() for name, x in whole.state_dict().items()}
    save_file(modules, tmp_path / "model.safetensors")
    own = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert difference(own(input_ids=ids).logits, expected) < 3e-6


@torch.no_grad()
def test_pieces_and_texts_equal_the_whole_models(whole, ids, tmp_path):
    whole.save_pretrained(tmp_path)
    half, memory, parts = multihead.AutoModelForCausalLM.from_pretrained(tmp_path), None, []
    for piece in ids.split([4, 1, 4], 1):
        out = half(input_ids=piece, past_key_values=memory, use_cache=True)
        memory = out.past_key_values
        parts.append(out.logits)
    assert difference(torch.cat(parts, 1), whole(input_ids=ids).logits) < 3e-6
    options = {"max_new_tokens": 8, "do_sample": False}
    expected = whole.generate(input_ids=ids, attention_mask=torch.ones_like(ids), eos_token_id=[], **options)
    assert half.generate(input_ids=ids, eos_token_id=None, **options).tolist() == expected.tolist()


def test_the_authors_entries_are_read():
    """Lists that count the layers for later words, and a rotary base for each layer."""
    given = {
        "num_hidden_layers": 2, "layer_types": [*KINDS[:2], "full_attention"], "num_nextn_predict_layers": 1,
        "rope_theta": [5e6, 1e4, 5e6], "partial_rotary_factors": [0.5, 1.0, 0.5], "moe_layers_enum": "1,2",
        "attention_other_setting": {"num_attention_heads": 96}, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }  # fmt: skip
    config = multihead.AutoConfig.for_model("step3p5", **given)
    assert config.rope_parameters == {
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e6, "partial_rotary_factor": 0.5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0},
    }
    assert config.mlp_layer_types == ["dense", "sparse"]
    assert [config.heads(i) for i in range(2)] == [64, 96]
