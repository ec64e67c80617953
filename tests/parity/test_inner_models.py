"""Language models that the reference has inside a whole alone (Step 3.7, Muse Glimmer), compared there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import multihead

from .multimodal import Whole, difference

KINDS = ["full_attention", "sliding_attention", "full_attention"]
STEP = {
    "num_sliding_attention_heads": 6, "layer_types": KINDS, "sliding_window": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16, "share_expert_dim": 20, "moe_router_scaling_factor": 1.5,
    "mlp_layer_types": ["dense", "sparse", "sparse"], "swiglu_limits": [0, 0.4, 0],
    "swiglu_limits_shared": [0.3, 0, 0.5], "query_pre_attn_scalar": 6,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    },
}  # fmt: skip
MUSE = {
    "layer_types": KINDS, "sliding_window": 4, "layer_rope_theta": [500.0, 500.0, 0], "attention_bias": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "qk_scale_factor": 2.5,
    "output_multiplier": 0.4, "final_logit_softcapping": 3.0, "post_norm_eps": 0.01,
}  # fmt: skip
SPARK = {
    **MUSE, "mlp_layer_types": ["sparse", "dense", "sparse"], "moe_intermediate_size": 24, "num_local_experts": 4,
    "num_experts_per_tok": 2, "moe_hidden_size": 16, "routed_scaling_factor": 1.5, "residual_gate_temperature": 0.5,
}  # fmt: skip
EARS = {
    "layer_types": ["full_attention"],
    "out_hidden_size": 32,
    "patch_sizes": [4],
    "hidden_sizes": [16],
    "depths": [1],
}
TOLERANCE = 2e-5  # of the largest magnitude, as in the parity rows
WHOLES = {
    "step3p7": Whole("step3p7", text=STEP),
    "muse_glimmer": Whole("muse_glimmer", text=MUSE, vision={"layer_types": ["full_attention"]}),
    "muse_spark": Whole("muse_spark", text=SPARK, vision=EARS),
}


@pytest.fixture(scope="module", params=WHOLES)
def whole(request):
    model = WHOLES[request.param].model()
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.normal_(0.0, 0.3)
    return model


@pytest.fixture(scope="module")
def ids():
    return torch.randint(1, 98, (2, 9), generator=torch.Generator().manual_seed(0))


def half(folder: Any) -> Any:
    return multihead.AutoModelForCausalLM.from_pretrained(folder)


@torch.no_grad()
def test_the_text_half_equals_the_whole_model_on_text(whole, ids, tmp_path):
    """With the names that the reference saves, with those of its modules, and as we save it."""
    expected = whole(input_ids=ids).logits
    whole.save_pretrained(tmp_path)
    model = half(tmp_path)
    assert difference(model(input_ids=ids).logits, expected) < TOLERANCE
    model.save_pretrained(tmp_path / "text")
    own = {
        n.replace("language_model.", "")
        for n in load_file(tmp_path / "model.safetensors")
        if not re.match(r"(model\.)?(vi|audio)", n)
    }
    assert set(load_file(tmp_path / "text" / "model.safetensors")) == own
    assert difference(half(tmp_path / "text")(input_ids=ids).logits, expected) < TOLERANCE
    modules = {name: x.clone().contiguous() for name, x in whole.state_dict().items()}
    save_file(modules, tmp_path / "model.safetensors")
    assert difference(half(tmp_path)(input_ids=ids).logits, expected) < TOLERANCE


@torch.no_grad()
def test_pieces_and_texts_equal_the_whole_models(whole, ids, tmp_path):
    whole.save_pretrained(tmp_path)
    model, memory, parts = half(tmp_path), None, []
    for piece in ids.split([4, 1, 4], 1):
        out = model(input_ids=piece, past_key_values=memory, use_cache=True)
        memory = out.past_key_values
        parts.append(out.logits)
    assert difference(torch.cat(parts, 1), whole(input_ids=ids).logits) < TOLERANCE
    options = {"max_new_tokens": 8, "do_sample": False}
    expected = whole.generate(input_ids=ids, attention_mask=torch.ones_like(ids), eos_token_id=[], **options)
    assert model.generate(input_ids=ids, eos_token_id=None, **options).tolist() == expected.tolist()


def test_the_authors_entries_are_read():
    """Lists of Step that count the layers for later words, and a rotary base for each layer."""
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


def test_another_rotary_base_of_a_layer_is_refused():
    with pytest.raises(multihead.errors.UnsupportedConfig, match="layer_rope_theta"):
        multihead.AutoConfig.for_model("muse_glimmer_text", num_hidden_layers=2, layer_rope_theta=[0, 77.0])
