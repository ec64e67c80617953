"""BitNet's rounded linear layers: as the reference computes them, from plain and from packed weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.bitnet import pack_weights, replace_with_bitnet_linear
from transformers.utils.quantization_config import BitNetQuantConfig

import multihead
from multihead.errors import UnsupportedConfig
from multihead.nn.own_names import own_parameters

SIZES = {
    "vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 80, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def entries(mode: str) -> dict[str, Any]:
    return {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": mode}


@pytest.fixture(params=["online", "offline"])
def pair(request: Any, tmp_path: Path) -> Any:
    """The reference's model with rounded layers, and a folder with its weights."""
    torch.manual_seed(0)
    mode = request.param
    peer = transformers.BitNetForCausalLM._from_config(
        transformers.BitNetConfig(**SIZES), attn_implementation="eager"
    ).eval()
    settings = BitNetQuantConfig(linear_class="autobitlinear", quantization_mode=mode)
    replace_with_bitnet_linear(peer, ["lm_head"], quantization_config=settings)
    peer.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            parameter.normal_(0.5 if parameter.ndim == 1 else 0.0, 0.25)
            if mode == "offline" and name.split(".")[-2] in LINEARS:
                parameter.copy_((parameter * 4).round().clamp(-1, 1))
        for name, buffer in peer.named_buffers():
            if name.endswith("weight_scale"):
                buffer.uniform_(0.1, 0.4)
        for rotary in (part for part in peer.modules() if hasattr(part, "inv_freq")):
            rotary.inv_freq.copy_(1.0 / 500000.0 ** (torch.arange(0, 16, 2).float() / 16))
    tensors = {name: x.clone() for name, x in peer.state_dict().items()}
    if mode == "offline":
        for name in tensors:
            if name.endswith("_proj.weight"):
                tensors[name] = pack_weights(tensors[name])
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    config = {"model_type": "bitnet", **SIZES, "tie_word_embeddings": False, "quantization_config": entries(mode)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return peer, tmp_path, mode


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return model(ids).logits


def near(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Nearly all numbers are equal; an input that lies between two codes may take the other one."""
    worst = (got - expected).abs() / expected.abs().max()
    assert worst.median() <= 1e-5
    assert worst.max() <= 0.02


def test_scores_equal_the_reference(pair):
    peer, folder, _ = pair
    ids = torch.randint(3, 98, (1, 9))
    near(logits(multihead.AutoModelForCausalLM.from_pretrained(folder), ids), logits(peer, ids))


def test_a_saved_model_gives_the_same_scores(pair, tmp_path):
    _, folder, _ = pair
    ids, model = torch.randint(3, 98, (1, 9)), multihead.AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    again = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(logits(again, ids), logits(model, ids))
    kept = load_file(tmp_path / "again" / "model.safetensors")
    assert kept.keys() == load_file(folder / "model.safetensors").keys()


def test_rounded_weights_learn_as_the_reference_has_it(pair):
    peer, folder, mode = pair
    model, ids = multihead.AutoModelForCausalLM.from_pretrained(folder), torch.randint(3, 98, (1, 9))
    learned = {name for name, parameter in own_parameters(model) if parameter.requires_grad}
    assert any(name.endswith("attention.step.q.weight") for name in learned) == (mode == "online")
    with torch.compiler.set_stance("force_eager"):
        model(ids, labels=ids).loss.backward()
        peer(ids, labels=ids).loss.backward()
    near(model.backbone.embed.token.weight.grad, peer.model.embed_tokens.weight.grad)
    if mode == "online":
        got = model.backbone.layers[0].attention.step.q.weight.grad
        near(got, peer.model.layers[0].self_attn.q_proj.weight.grad)


def test_other_kinds_of_rounded_layers_are_refused():
    for changed in ({"linear_class": "bitlinear"}, {"use_rms_norm": True}, {"quantization_mode": "later"}):
        with pytest.raises(UnsupportedConfig, match=next(iter(changed))):
            multihead.BitNetConfig(**SIZES, quantization_config={**entries("online"), **changed})
