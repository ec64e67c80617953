"""Steps that the kernels make without Python between give what the same steps give layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

import multihead
from multihead.errors import InvalidInput, TextTooLong
from multihead.kernels.cpu import native

pytestmark = [
    pytest.mark.skipif(native.library() is None, reason=f"no C++ kernels: {native.why_not()}"),
    pytest.mark.usefixtures("at_every_level"),
]
SIZES = {"vocab_size": 90, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
ROTARY = {**SIZES, "num_key_value_heads": 2, "head_dim": 16, "eos_token_id": None, "pad_token_id": 0}
PAIR = {
    "vocab_size": 90, "d_model": 64, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 80, "pad_token_id": 0, "eos_token_id": 89,
    "bos_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": None, "max_position_embeddings": 120,
}  # fmt: skip
FIVE = {
    "vocab_size": 90, "d_model": 64, "d_kv": 16, "d_ff": 80, "num_layers": 2, "num_heads": 4, "eos_token_id": 89,
    "pad_token_id": 0, "decoder_start_token_id": 1, "relative_attention_max_distance": 16,
    "relative_attention_num_buckets": 8,
}  # fmt: skip
MODELS: dict[str, Any] = {
    "llama": transformers.LlamaConfig(**ROTARY),
    "llama with biases": transformers.LlamaConfig(**ROTARY, attention_bias=True, mlp_bias=True),
    "qwen2": transformers.Qwen2Config(**ROTARY, tie_word_embeddings=True),
    "qwen3": transformers.Qwen3Config(**ROTARY),
    "mistral": transformers.MistralConfig(**ROTARY, sliding_window=6),
    "gemma": transformers.GemmaConfig(**ROTARY),
    "gpt2": transformers.GPT2Config(vocab_size=90, n_embd=64, n_layer=2, n_head=4, eos_token_id=None, n_positions=120),
    "opt": transformers.OPTConfig(
        vocab_size=90, hidden_size=64, ffn_dim=80, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=64,
        max_position_embeddings=120, eos_token_id=None, bos_token_id=None,
    ),
    "marian": transformers.MarianConfig(**PAIR),
    "bart": transformers.BartConfig(**PAIR, scale_embedding=True),
    "t5": transformers.T5Config(**FIVE, feed_forward_proj="relu"),
    "t5 gated": transformers.T5Config(**FIVE, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "umt5": transformers.UMT5Config(**FIVE),
    "bloom": transformers.BloomConfig(vocab_size=90, hidden_size=64, n_layer=2, n_head=4, eos_token_id=None),
    "m2m100": transformers.M2M100Config(**PAIR),
    "phi3": transformers.Phi3Config(**ROTARY),
    "cohere": transformers.CohereConfig(**ROTARY, use_qk_norm=True, logit_scale=0.5),
    "olmo2": transformers.Olmo2Config(**ROTARY),
    "granite": transformers.GraniteConfig(**ROTARY, residual_multiplier=0.4, attention_multiplier=0.3),
    "hunyuan": transformers.HunYuanDenseV1Config(**ROTARY),
    "pegasus": transformers.PegasusConfig(**PAIR),
}  # fmt: skip
AS_STORED = ("cohere", "granite")  # parallel layers and scaled residuals are not packed as a whole
BIASED = ("t5", "t5 gated", "umt5", "bloom")
TEXTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33, 34, 35, 36]]
OPTIONS: dict[str, Any] = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0, "min_new_tokens": 20}


@pytest.fixture(scope="module", params=MODELS)
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    config = MODELS[request.param]
    kind = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    made = getattr(transformers, kind).from_config(config)
    sines = {id(p) for part in made.modules() if "Sinusoidal" in type(part).__name__ for p in part.parameters()}
    for parameter in made.parameters():
        if id(parameter) not in sines:  # a family computes these
            torch.nn.init.normal_(parameter, std=0.3)
    place = tmp_path_factory.mktemp("walked")
    made.save_pretrained(place)
    return kind, place, request.param


@pytest.fixture(params=["as stored", "packed"])
def model(request: Any, folder: Any) -> Any:
    kind, place, family = folder
    if request.param == "packed" and family in BIASED:
        pytest.skip("layer by layer its attention is torch's, so what is packed reads other roundings")
    if request.param == "packed" and family in AS_STORED:
        pytest.skip("packed, it runs layer by layer")
    options = {} if request.param == "as stored" else {"precision": "bf16", "dtype": torch.float32}
    return getattr(multihead, kind).from_pretrained(place, **options)


def layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIHEAD_RUNNER", "eager")


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]], ids=["several", "one"])
def test_texts_and_scores_are_the_same(model, steps, monkeypatch, texts):
    options = {**OPTIONS, "output_scores": True, "return_dict_in_generate": True}
    one, found = model.generate(texts, **options), model.generate(texts, **OPTIONS)
    assert len(steps) >= 2 * 19
    layer_by_layer(monkeypatch)
    other = model.generate(texts, **options)
    assert torch.equal(one.sequences, other.sequences)
    assert torch.equal(found, other.sequences)
    for a, b in zip(one.scores, other.scores, strict=True):
        shown = b.isfinite()
        assert torch.equal(shown, a.isfinite())
        apart = (a[shown] - b[shown]).abs().max()
        assert apart <= 2e-3 * b[shown].abs().max()  # states near a tie are rounded to either side


def test_beams_are_the_same(model, steps, monkeypatch):
    options = {**OPTIONS, "num_beams": 3, "output_scores": True, "return_dict_in_generate": True}
    one = model.generate(TEXTS[:2], **options)
    assert len(steps) >= 19
    layer_by_layer(monkeypatch)
    other = model.generate(TEXTS[:2], **options)
    assert torch.equal(one.sequences, other.sequences)
    assert torch.allclose(one.sequences_scores, other.sequences_scores, rtol=0, atol=5e-3)


def test_a_prompt_that_is_continued_several_times_is_read_once(model, steps, monkeypatch):
    options = {**OPTIONS, "do_sample": True, "num_return_sequences": 2, "top_k": 5, "seed": 1}
    prompts = [text * 5 for text in TEXTS]  # longer than a block
    one = model.generate(prompts, **{**options, "max_new_tokens": 40})
    assert len(steps) >= 39
    layer_by_layer(monkeypatch)
    assert torch.equal(one, model.generate(prompts, **{**options, "max_new_tokens": 40}))


def test_draws_are_the_same(model, steps, monkeypatch):
    options = {**OPTIONS, "do_sample": True, "top_k": 20, "seed": 3}
    one = model.generate(TEXTS, **options)
    assert len(steps) >= 19
    layer_by_layer(monkeypatch)
    assert torch.equal(one, model.generate(TEXTS, **options))


@pytest.mark.parametrize("precision", [None, "bf16", "int8"])
def test_in_bfloat16_scores_are_near(folder, steps, monkeypatch, precision):
    if precision and folder[2] in AS_STORED:
        pytest.skip("packed, it runs layer by layer")
    model = getattr(multihead, folder[0]).from_pretrained(folder[1], dtype=torch.bfloat16, precision=precision)
    options = {**OPTIONS, "max_new_tokens": 2, "output_scores": True, "return_dict_in_generate": True}
    one = model.generate(TEXTS[:1], **options)
    assert len(steps) == 1
    layer_by_layer(monkeypatch)
    other = model.generate(TEXTS[:1], **options)
    a, b = one.scores[-1], other.scores[-1]
    shown = b.isfinite()
    assert (a[shown] - b[shown]).abs().max() <= 0.05 * b[shown].abs().max()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(1)
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**ROTARY))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.save_pretrained(place := tmp_path_factory.mktemp("llama"))
    return place


@pytest.fixture
def small(llama: Any) -> Any:
    return multihead.AutoModelForCausalLM.from_pretrained(llama)


def test_nothing_is_read_after_an_end(small, steps):
    whole = small.generate(TEXTS[:1], **OPTIONS)[0, len(TEXTS[0]) :].tolist()
    end = next(token for place, token in enumerate(whole) if place > 4 and token not in whole[:place])
    del steps[:]
    ended = small.generate(TEXTS[:1], **{**OPTIONS, "min_new_tokens": 0, "eos_token_id": end})[
        0, len(TEXTS[0]) :
    ].tolist()
    assert ended == whole[: whole.index(end) + 1]
    assert len(steps) == len(ended) - 1  # the first token follows from the prompt's pass


def test_weights_that_change_are_seen(small):
    before = small.generate(TEXTS, **OPTIONS)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(-0.7)
        small.backbone.norm.weight.data.add_(0.4)
    fresh = small.generate(TEXTS, **OPTIONS)
    assert not torch.equal(before, fresh)
    with pytest.MonkeyPatch.context() as patch:
        layer_by_layer(patch)
        assert torch.equal(fresh, small.generate(TEXTS, **OPTIONS))


@pytest.mark.parametrize("why", ["hooks", "autocast", "adapters", "another forward", "double"])
def test_what_the_kernels_do_not_compute_runs_layer_by_layer(small, steps, why, monkeypatch):
    seen = []
    if why == "hooks":
        small.backbone.layers[1].register_forward_hook(lambda *args: seen.append(1))
    elif why == "adapters":
        small.add_adapter(multihead.LoraConfig(r=2, target_modules=["q_proj"]))
        small.eval()
    elif why == "another forward":
        own = small.backbone.layers[0].forward
        monkeypatch.setattr(small.backbone.layers[0], "forward", lambda *args: seen.append(1) or own(*args))
    elif why == "double":
        small.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=why == "autocast"):
        small.generate(TEXTS, **OPTIONS)
    assert not steps
    assert why not in ("hooks", "another forward") or len(seen) == 20


def test_many_texts_at_once_are_torchs_or_the_kernels(small, steps, monkeypatch):
    texts = [[3 + i % 80, 4 + i % 70] for i in range(70)]
    many = small.generate(texts, **OPTIONS)
    assert not steps  # more than are quicker as they lie
    small.prepare("bf16", dtype=torch.float32)
    small.generate(texts, **OPTIONS)
    assert len(steps) >= 19
    assert many.shape[0] == 70


def test_positions_end_where_they_are_learned(tmp_path, steps):
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=90, n_embd=64, n_layer=1, n_head=4, n_positions=16, eos_token_id=None)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    model = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    text = [[5, 6, 7]]
    assert model.generate(text, max_new_tokens=13, do_sample=False, pad_token_id=0).shape[1] == 16
    assert steps
    with pytest.raises(TextTooLong):
        model.generate(text, max_new_tokens=15, do_sample=False, pad_token_id=0)


def test_a_token_that_has_no_vector_is_an_error(small):
    """As where a processor chooses one past the table's end."""
    one = torch.full((90,), -torch.inf)

    def beyond(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.cat([one.expand(len(scores), -1), torch.zeros(len(scores), 5)], 1)

    with pytest.raises(InvalidInput, match="outside the model's vocabulary"):
        small.generate(TEXTS[:1], max_new_tokens=4, do_sample=False, pad_token_id=0, logits_processor=[beyond])


def test_the_number_of_threads_changes_nothing(small):
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(small.generate(TEXTS, **OPTIONS))
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_prompts_that_are_read_between_steps_disturb_nothing(small, steps, monkeypatch):
    from multihead.generation.engine.scheduler import Engine

    texts = [[5 + i, 6, 7 + i] + [9] * (11 * i) for i in range(6)]
    together = small.generate(texts, **OPTIONS)
    made = Engine.__init__
    monkeypatch.setattr(Engine, "__init__", lambda self, model, **k: made(self, model, **{**k, "max_tokens": 16}))
    apart = small.generate(texts, **OPTIONS)
    assert steps
    assert torch.equal(together, apart)
