"""Windows of any width: what is written equals the forward pass over the text so far."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead
from multihead.errors import UnsupportedConfig

SIZES = {
    "vocab_size": 63, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 16, "intermediate_size": 32, "max_position_embeddings": 2048, "bos_token_id": 0, "eos_token_id": None,
    "pad_token_id": 2, "initializer_range": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    known = {}

    def make(window):
        if window not in known:
            torch.manual_seed(0)
            known[window] = tmp_path_factory.mktemp("windows")
            config = transformers.MistralConfig(**SIZES, sliding_window=window)
            transformers.MistralForCausalLM(config).save_pretrained(known[window])
        return known[window]

    return make


def prompt(length):
    return torch.randint(3, 63, (1, length), generator=torch.Generator().manual_seed(length))


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 2, 31, 32, 33, 64, 500])
@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_a_window_of_any_width_sees_what_it_sees_in_one_pass(folder, window, precision):
    model = multihead.AutoModelForCausalLM.from_pretrained(folder(window), precision=precision)
    tolerance = {"float32": 1e-4, "bf16": 0.03, "int8": 0.1}[precision]
    for length in (1, 32, 33, 65, 130):
        result = model.generate(prompt(length), max_new_tokens=5, output_logits=True, return_dict_in_generate=True)
        expected = model(result.sequences, use_cache=False).logits[0, length - 1 : -1]
        got = torch.stack(result.logits)[:, 0]
        assert (got - expected).abs().max() <= tolerance * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 3, 33])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_beams_see_the_window_alone(folder, window, precision):
    model = multihead.AutoModelForCausalLM.from_pretrained(folder(window), precision=precision)
    shown = {"output_scores": True, "return_dict_in_generate": True}
    for length in (2, 33, 100):
        result = model.generate(prompt(length), max_new_tokens=6, num_beams=3, num_return_sequences=2, **shown)
        for text, score in zip(result.sequences, result.sequences_scores, strict=True):
            said = model(text[None], use_cache=False).logits[0, length - 1 : -1].float().log_softmax(-1)
            mean = said.gather(1, text[length:, None]).mean()
            torch.testing.assert_close(score, mean, rtol=1e-3, atol=1e-3 if precision == "float32" else 0.1)


def test_a_window_of_nothing_is_refused(tmp_path):
    for window in (0, -1):
        with pytest.raises(UnsupportedConfig, match="sliding_window"):
            multihead.MistralConfig(**{**SIZES, "sliding_window": window})
