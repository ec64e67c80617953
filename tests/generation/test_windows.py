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


@pytest.fixture(scope="module")
def chunked(tmp_path_factory):
    """Makes Llama 4 with chunks of some size, and with scales of queries that grow from the first tokens on."""

    def make(chunk):
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("chunks")
        experts = {"num_local_experts": 2, "moe_layers": [0], "intermediate_size_mlp": 32}
        config = transformers.Llama4TextConfig(
            **SIZES, **experts, attention_chunk_size=chunk, no_rope_layers=[1, 0], floor_scale=7, attn_scale=0.4
        )
        transformers.Llama4ForCausalLM(config).save_pretrained(path)
        return path

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


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 5, 32, 33, 64])
def test_a_chunk_of_any_size_sees_what_it_sees_in_one_pass(chunked, chunk):
    """Texts that pass the ends of chunks and of cache blocks, of several lengths in a batch, and beams."""
    path = chunked(chunk)
    model = multihead.AutoModelForCausalLM.from_pretrained(path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    lengths = (1, 31, 62, 65, 130)
    rows = [torch.cat([torch.full((130 - length,), 2), prompt(length)[0]]) for length in lengths]  # padded at the left
    mask = torch.stack([torch.arange(130) >= 130 - length for length in lengths]).long()
    texts = model.generate(torch.stack(rows), attention_mask=mask, max_new_tokens=6)[:, 130:]
    for length, text in zip(lengths, texts, strict=True):
        shown = {"output_logits": True, "return_dict_in_generate": True}
        result = model.generate(prompt(length), max_new_tokens=6, **shown)
        assert text.tolist() == result.sequences[0, length:].tolist()
        expected = theirs(result.sequences).logits[0, length - 1 : -1]
        got = torch.stack(result.logits)[:, 0]
        assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()
        result = model.generate(prompt(length), max_new_tokens=6, num_beams=3, output_scores=True, **shown)
        said = theirs(result.sequences).logits[0, length - 1 : -1].log_softmax(-1)
        mean = said.gather(1, result.sequences[0, length:, None]).mean()
        torch.testing.assert_close(result.sequences_scores[0], mean, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(50,), (3, 47), (31, 1, 1, 17), (40, 10)])
def test_chunks_do_not_depend_on_how_a_prompt_is_cut(chunked, pieces):
    model = multihead.AutoModelForCausalLM.from_pretrained(chunked(20))
    ids, cache, parts = prompt(50), None, []
    for part in ids.split(pieces, 1):
        out = model(part, past_key_values=cache, use_cache=True)
        cache, parts = out.past_key_values, [*parts, out.logits]
    whole = model(ids, use_cache=False, output_attentions=True)
    torch.testing.assert_close(torch.cat(parts, 1), whole.logits, rtol=1e-4, atol=1e-4)
    places = torch.arange(50)
    apart = places[:, None] // 20 != places // 20
    assert not whole.attentions[0][..., apart].any()
    assert whole.attentions[1][..., apart & (places[:, None] > places)].all()


def test_a_window_of_nothing_is_refused(tmp_path):
    for window in (0, -1):
        with pytest.raises(UnsupportedConfig, match="sliding_window"):
            multihead.MistralConfig(**{**SIZES, "sliding_window": window})
