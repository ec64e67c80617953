"""Decoders whose layers run as one call write what the same decoders write layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

import multihead
from multihead.kernels import native
from multihead.nn.steps import PreparedStack, Steps

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no C++ kernels: {native.why_not()}")
SIZES = {"vocab_size": 90, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
ROTARY = {**SIZES, "num_key_value_heads": 2, "head_dim": 16, "eos_token_id": None, "pad_token_id": 0}
MARIAN = {
    "vocab_size": 90, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 80, "pad_token_id": 0, "eos_token_id": 89,
    "decoder_start_token_id": 0, "forced_eos_token_id": None,
}  # fmt: skip
MODELS: dict[str, Any] = {
    "llama": transformers.LlamaConfig(**ROTARY),
    "qwen3": transformers.Qwen3Config(**ROTARY),
    "mistral": transformers.MistralConfig(**ROTARY, sliding_window=6),
    "gpt2": transformers.GPT2Config(vocab_size=90, n_embd=64, n_layer=2, n_head=4, eos_token_id=None),
    "marian": transformers.MarianConfig(**MARIAN),
}
TEXTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33, 34, 35, 36]]


@pytest.fixture(scope="module", params=MODELS)
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = MODELS[request.param]
    kind = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    made = getattr(transformers, kind).from_config(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made.save_pretrained(folder)
    return getattr(multihead, kind).from_pretrained(folder, precision="bf16", dtype=torch.float32)


def decoder(model: Any) -> PreparedStack:
    return getattr(model.backbone, "decoder", model.backbone)


def both(model: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, Any, int]:
    """What is written with steps and without, and how many passes took them."""
    counted = []
    run = Steps.run
    monkeypatch.setattr(Steps, "run", lambda self, x, call: counted.append(len(x)) or run(self, x, call))
    stack = decoder(model)
    one = model.generate(TEXTS, max_new_tokens=12, min_new_tokens=12, **options)
    monkeypatch.setattr(stack, "steps", None)
    return one, model.generate(TEXTS, max_new_tokens=12, min_new_tokens=12, **options), len(counted)


def test_a_decoder_takes_steps(model):
    assert type(decoder(model)) is PreparedStack


def test_greedy_texts_are_the_same(model, monkeypatch):
    one, other, passes = both(model, monkeypatch, do_sample=False)
    assert passes >= 10, "the layers did not run as one call"
    assert torch.equal(one, other)


def test_beams_are_the_same(model, monkeypatch):
    one, other, passes = both(model, monkeypatch, num_beams=3, do_sample=False)
    assert passes >= 10
    assert torch.equal(one, other)


def test_scores_are_the_same(model, monkeypatch):
    options = {"do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    one, other, _ = both(model, monkeypatch, **options)
    for a, b in zip(one.scores, other.scores, strict=True):
        finite = b.isfinite()
        assert torch.allclose(a[finite], b[finite], rtol=0, atol=1e-3 * float(b[finite].abs().max()))


def test_what_is_shown_of_a_pass_is_shown(model):
    out = model.generate(
        TEXTS[:1], max_new_tokens=3, do_sample=False, output_hidden_states=True, return_dict_in_generate=True
    )
    shown = out.decoder_hidden_states if model.config.is_encoder_decoder else out.hidden_states
    assert len(shown[-1]) == len(decoder(model).layers) + 1


def test_a_copy_takes_its_own_steps(model, monkeypatch):
    import copy

    twin = copy.deepcopy(model)
    assert torch.equal(
        twin.generate(TEXTS, max_new_tokens=6, do_sample=False),
        model.generate(TEXTS, max_new_tokens=6, do_sample=False),
    )
