"""Adapters compute, learn and are stored as the peft library's are."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from safetensors.torch import load_file

import multihead
from multihead import LoraConfig
from multihead.adapters import files
from multihead.nn.weights import Dropout
from tests.adapters import tiny

KINDS = list(tiny.CLASSES)
VARIANTS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "ranks": {"rank_pattern": {"q": 2, "query": 2, ".*proj": 4, "c_attn": 5}, "alpha_pattern": {"query": 3, "c_fc": 7}},
}


def close(one, other, bound=1e-6):
    """Within a bound of the largest magnitude; the reference turns and sums in float32 here and there."""
    assert one.shape == other.shape
    assert (one - other).abs().max() <= bound * other.abs().max()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_peft_gives_its_scores_and_gradients(kind, variant, tmp_path):
    theirs = tiny.peft_model(kind, **VARIANTS[variant])
    theirs.save_pretrained(tmp_path / "adapter")
    ours = tiny.load(kind, tiny.base(kind, tmp_path))
    ours.load_adapter(tmp_path / "adapter", is_trainable=True)
    expected, found = theirs(**tiny.inputs(kind)), ours(**tiny.inputs(kind))
    close(found.logits, expected.logits)
    expected.loss.backward()
    found.loss.backward()
    gradients = {}
    for parameter, how, names in files.stored_parameters(ours, "default", ours.keys.prefix):
        gradients[names[0]] = how.write(parameter.grad, gradients.get(names[0])).clone()
    wanted = {stored(name): p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        close(gradient, wanted[name], 1e-5)


def stored(name):
    return name.replace(".default", "").replace(".modules_to_save", "").replace("vector.weight", "vector")


@pytest.mark.parametrize("variant", ["lora", "dora", "ranks"])
@pytest.mark.parametrize("kind", KINDS)
def test_peft_reads_what_is_written_here(kind, variant, tmp_path):
    ours = tiny.load(kind, tiny.base(kind, tmp_path))
    config = LoraConfig(r=3, target_modules=tiny.TARGETS[kind], **VARIANTS[variant])
    ours.add_adapter(config)
    tiny.randomized(ours).save_adapter(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(tiny.reference(kind), tmp_path / "adapter").eval()
    close(tiny.scores(theirs, kind), tiny.scores(ours, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_comes_back_as_it_was_written(kind, tmp_path):
    theirs = tiny.peft_model(kind)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = tiny.load(kind, tiny.base(kind, tmp_path))
    ours.load_adapter(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    before, after = (load_file(tmp_path / who / "adapter_model.safetensors") for who in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    configs = [json.loads((tmp_path / who / "adapter_config.json").read_text()) for who in ("theirs", "ours")]
    for name in ("r", "lora_alpha", "peft_type", "fan_in_fan_out", "inference_mode", "task_type"):
        assert configs[0][name] == configs[1][name], name
    assert set(configs[0]["target_modules"]) == set(configs[1]["target_modules"])


def test_our_own_names_are_written_as_the_references(tmp_path):
    ours = tiny.load("GPT2", tiny.base("GPT2", tmp_path))
    config = LoraConfig(target_modules=["attention.step.q", "up"], exclude_modules=["layers.0.ffn.step.up"])
    ours.add_adapter(config)
    tiny.randomized(ours).save_adapter(tmp_path / "adapter")
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert told["target_modules"] == [
        "transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn", "transformer.h.1.mlp.c_fc"
    ]  # fmt: skip
    assert told["fan_in_fan_out"] is True
    theirs = peft.PeftModel.from_pretrained(tiny.reference("GPT2"), tmp_path / "adapter").eval()
    close(tiny.scores(theirs, "GPT2"), tiny.scores(ours, "GPT2"))


def test_all_linear_layers_of_the_backbone_are_read_by_peft(tmp_path):
    ours = tiny.load("Llama", tiny.base("Llama", tmp_path))
    ours.add_adapter(LoraConfig(target_modules="all-linear"))
    assert "lm_head" not in "".join(ours.adapters.configs["default"].target_modules)
    tiny.randomized(ours).save_adapter(tmp_path / "adapter")
    assert len(load_file(tmp_path / "adapter" / "adapter_model.safetensors")) == 2 * 2 * 7
    theirs = peft.PeftModel.from_pretrained(tiny.reference("Llama"), tmp_path / "adapter").eval()
    close(tiny.scores(theirs, "Llama"), tiny.scores(ours, "Llama"))


def test_a_pickled_adapter_is_read(tmp_path):
    theirs = tiny.peft_model("Llama")
    theirs.save_pretrained(tmp_path / "adapter", safe_serialization=False)
    assert (tmp_path / "adapter" / "adapter_model.bin").is_file()
    ours = tiny.load("Llama", tiny.base("Llama", tmp_path))
    ours.load_adapter(tmp_path / "adapter")
    close(tiny.scores(ours, "Llama"), tiny.scores(theirs, "Llama"))


def test_a_regular_expression_means_the_same_layers(tmp_path):
    options = {"target_modules": r".*layers\.1\..*(q|up)_proj"}
    theirs = tiny.peft_model("Llama", **options)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = tiny.load("Llama", tiny.base("Llama", tmp_path))
    ours.load_adapter(tmp_path / "adapter")
    close(tiny.scores(ours, "Llama"), tiny.scores(theirs, "Llama"))


def test_layers_to_transform_means_the_same_layers(tmp_path):
    theirs = tiny.peft_model("T5", layers_to_transform=[1])
    theirs.save_pretrained(tmp_path / "adapter")
    ours = tiny.load("T5", tiny.base("T5", tmp_path))
    ours.load_adapter(tmp_path / "adapter")
    close(tiny.scores(ours, "T5"), tiny.scores(theirs, "T5"))


def test_an_adapter_of_a_headed_model_fits_its_backbone(tmp_path):
    theirs = tiny.peft_model("Llama")
    theirs.save_pretrained(tmp_path / "adapter")
    ours = multihead.AutoModel.from_pretrained(tiny.base("Llama", tmp_path), ignore="lm_head")
    ours.load_adapter(tmp_path / "adapter")
    ids = tiny.inputs("Llama")["input_ids"]
    with torch.no_grad():
        close(ours(ids).last_hidden_state, theirs.base_model.model.model(ids).last_hidden_state)


def test_dora_with_dropout_computes_as_peft_does(tmp_path):
    theirs = tiny.peft_model("Llama", use_dora=True, lora_dropout=0.5, target_modules=["o_proj"])
    theirs.save_pretrained(tmp_path / "adapter")
    ours = tiny.load("Llama", tiny.base("Llama", tmp_path))
    ours.load_adapter(tmp_path / "adapter")
    for module in theirs.modules():
        if isinstance(module, torch.nn.ModuleDict) and "default" in module and hasattr(module["default"], "p"):
            module["default"] = Dropout(module["default"].p)  # draws as ours does
    found = []
    for model in (theirs, ours):
        found.append(tiny.scores(model.train(), "Llama"))  # seeds the generator
    close(found[0], found[1])
    assert not torch.equal(found[0], tiny.scores(theirs.eval(), "Llama"))


def test_a_scoring_matrix_can_be_a_target(tmp_path):
    theirs = tiny.peft_model("Llama", target_modules=["lm_head"])
    theirs.save_pretrained(tmp_path / "adapter")
    ours = tiny.load("Llama", tiny.base("Llama", tmp_path))
    ours.load_adapter(tmp_path / "adapter")
    close(tiny.scores(ours, "Llama"), tiny.scores(theirs, "Llama"))
