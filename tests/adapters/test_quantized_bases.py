"""Adapters over a quantized base (QLoRA), and models that are quantized while they are loaded."""

from __future__ import annotations

import copy

import pytest
import torch

import multihead
from multihead import LoraConfig
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.kernels.quantization.registry import TRAINING
from multihead.nn.own_names import own_modules, own_parameters
from multihead.nn.quantized_linear import QuantizedLinear, dequantize_model, quantize
from tests.adapters import tiny

OPTIONS = {name: {option: True} for option, name in TRAINING.items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {kind: tiny.base(kind, root) for kind in ("Llama", "GPT2", "T5")}


def released(model):
    """The same numbers in full precision."""
    other = copy.deepcopy(model)
    dequantize_model(other)
    return other


@pytest.mark.parametrize("kind", ["Llama", "GPT2", "T5"])
@pytest.mark.parametrize("bits", OPTIONS)
def test_a_model_is_quantized_while_it_is_loaded(kind, bits, folders):
    plain = tiny.load(kind, folders[kind])
    cls = getattr(multihead, tiny.CLASSES[kind])
    model = cls.from_pretrained(folders[kind], **OPTIONS[bits])
    coded = [path for path, m in own_modules(model) if isinstance(m, QuantizedLinear)]
    assert len(coded) == {"Llama": 14, "GPT2": 12, "T5": 32}[kind]
    assert not any(path.startswith("head.") or ".embed." in path for path in coded)
    quantize(plain, bits)
    assert torch.equal(tiny.scores(model, kind), tiny.scores(plain, kind))
    torch.testing.assert_close(tiny.scores(model, kind), tiny.scores(released(model), kind))


@pytest.mark.parametrize("bits", OPTIONS)
@pytest.mark.parametrize("dora", [False, True])
def test_gradients_are_those_over_the_decoded_weights(bits, dora, folders):
    model = tiny.load("Llama", folders["Llama"]).float()
    quantize(model, bits)
    full = released(model)
    for one in (model, full):
        torch.manual_seed(0)
        one.add_adapter(LoraConfig(target_modules="all-linear", use_dora=dora))
        tiny.randomized(one)
        one(**tiny.inputs("Llama")).loss.backward()
    learned = {name: p.grad for name, p in own_parameters(full) if p.requires_grad}
    assert learned
    for name, parameter in own_parameters(model):
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, learned.pop(name), rtol=1e-6, atol=1e-6)
    assert not learned


@pytest.mark.parametrize("bits", OPTIONS)
def test_merging_needs_leave_to_grow(bits, folders, tmp_path):
    model = tiny.load("Llama", folders["Llama"]).float()
    quantize(model, bits)
    model.add_adapter(LoraConfig(target_modules=["q_proj"]))
    before = tiny.scores(tiny.randomized(model), "Llama")
    with pytest.raises(UnsupportedOption, match="dequantize=True"):
        model.merge_adapters()
    model.merge_adapters(dequantize=True)
    torch.testing.assert_close(tiny.scores(model, "Llama"), before, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(m, QuantizedLinear) for m in model.modules())
    model.save_pretrained(tmp_path)


def test_the_adapter_of_a_quantized_model_is_saved_and_loaded_over_one(folders, tmp_path):
    model = multihead.LlamaForCausalLM.from_pretrained(folders["Llama"], load_in_4bit=True)
    model.add_adapter(LoraConfig())
    tiny.randomized(model).save_pretrained(tmp_path)
    back = multihead.AutoModelForCausalLM.from_pretrained(tmp_path, load_in_4bit=True)
    assert torch.equal(tiny.scores(back, "Llama"), tiny.scores(model, "Llama"))


def test_codes_and_scales_keep_their_types(folders):
    model = multihead.LlamaForCausalLM.from_pretrained(folders["Llama"], load_in_8bit=True).to(torch.bfloat16)
    layer = model.backbone.layers[0].ffn.step.down
    assert (layer.codes.dtype, layer.scales.dtype, layer.weight.dtype) == (torch.int8, torch.float32, torch.bfloat16)
    assert tiny.scores(model, "Llama").dtype == torch.bfloat16


def test_what_is_quantized_is_not_written(folders, tmp_path):
    model = multihead.LlamaForCausalLM.from_pretrained(folders["Llama"], load_in_8bit=True)
    with pytest.raises(UnsupportedOption, match="quantized model is not written"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_both_widths_at_once_are_refused(folders):
    with pytest.raises(UnsupportedOption, match="exclude each other"):
        multihead.LlamaForCausalLM.from_pretrained(folders["Llama"], load_in_8bit=True, load_in_4bit=True)


def test_adapters_come_after_quantizing(folders):
    model = tiny.load("Llama", folders["Llama"])
    model.add_adapter(LoraConfig())
    with pytest.raises(InvalidInput, match="quantize the model first"):
        quantize(model, "int8")


def test_quantized_models_write_text(folders):
    model = multihead.LlamaForCausalLM.from_pretrained(folders["Llama"], load_in_4bit=True)
    assert model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False).shape[1] <= 5
