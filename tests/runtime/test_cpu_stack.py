"""Stacks whose layers run as one call give what the same stacks give layer by layer."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import transformers

import multihead
from multihead.kernels.cpu import native
from multihead.runtime.cpu_decode import CpuDecodeStep
from multihead.runtime.cpu_stack import FusedStack, NativeStack

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


def decoder(model: Any) -> FusedStack:
    return getattr(model.backbone, "decoder", model.backbone)


def both(model: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, Any, int]:
    """What is written with steps and without, and how many passes took them."""
    counted = []
    run = NativeStack.run
    monkeypatch.setattr(NativeStack, "run", lambda self, x, *args: counted.append(len(x)) or run(self, x, *args))
    walk = CpuDecodeStep.run

    def walked(self: CpuDecodeStep, *args: Any) -> Any:
        made = walk(self, *args)
        counted.extend(made[2].tolist())
        return made

    monkeypatch.setattr(CpuDecodeStep, "run", walked)
    stack = decoder(model)
    one = model.generate(TEXTS, max_new_tokens=12, min_new_tokens=12, **options)
    monkeypatch.setattr(stack, "native", None)
    return one, model.generate(TEXTS, max_new_tokens=12, min_new_tokens=12, **options), len(counted)


def test_a_decoder_takes_steps(model):
    assert type(decoder(model)) is FusedStack


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
    twin = copy.deepcopy(model)
    assert torch.equal(
        twin.generate(TEXTS, max_new_tokens=6, do_sample=False),
        model.generate(TEXTS, max_new_tokens=6, do_sample=False),
    )


ENCODER = {**SIZES, "max_position_embeddings": 64, "pad_token_id": 0}
ENCODERS: dict[str, Any] = {
    "bert": transformers.BertConfig(**ENCODER),
    "electra": transformers.ElectraConfig(**ENCODER, embedding_size=32),
    "modernbert": transformers.ModernBertConfig(
        **{**ENCODER, "num_hidden_layers": 4}, local_attention=8, global_attn_every_n_layers=3, cls_token_id=1,
        sep_token_id=2, eos_token_id=None, bos_token_id=None,
    ),
    "distilbert": transformers.DistilBertConfig(vocab_size=90, dim=64, hidden_dim=80, n_layers=2, n_heads=4),
}  # fmt: skip
LENGTHS = {"alike": (16,) * 3, "ragged": (1, 30, 7, 12), "single": (1, 1), "alone": (5,)}


def prepared(config: Any, folder: Any, kind: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    made = getattr(transformers, kind).from_config(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made.save_pretrained(folder)
    return getattr(multihead, kind).from_pretrained(folder, precision="bf16", dtype=dtype)


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), rtol=0, atol=0.03 * float(other.abs().max()))


def padded(texts: list[list[int]], name: str = "") -> dict[str, torch.Tensor]:
    longest = max(map(len, texts))
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    return {f"{name}input_ids": ids, f"{name}attention_mask": mask}


def layer_by_layer(model: Any) -> None:
    for part in model.modules():
        if type(part) is FusedStack:
            part.native = None


@pytest.fixture
def counted(monkeypatch):
    """Tokens of each pass that ran as one call."""
    found = []
    run = NativeStack.run
    monkeypatch.setattr(NativeStack, "run", lambda self, x, *args: found.append(len(x)) or run(self, x, *args))
    return found


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_runs_as_one_call(name, lengths, tmp_path, counted):
    judge = prepared(ENCODERS[name], tmp_path, "AutoModelForSequenceClassification", torch.bfloat16)
    plain = multihead.AutoModel.from_pretrained(tmp_path, precision="bf16", dtype=torch.bfloat16)
    texts = padded([torch.randint(3, 90, (length,)).tolist() for length in lengths])
    seen = texts["attention_mask"].bool()
    with torch.inference_mode():
        logits, states = judge(**texts).logits, plain(**texts).last_hidden_state
        assert counted == [sum(lengths)] * 2
        layer_by_layer(judge)
        layer_by_layer(plain)
        assert near(logits, judge(**texts).logits)
        assert near(states[seen], plain(**texts).last_hidden_state[seen])
    assert len(counted) == 2


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_runs_as_one_call(name, cached, tmp_path, counted):
    config = MODELS[name]
    kind = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    model = prepared(config, tmp_path, kind, torch.bfloat16)
    given = {**padded(TEXTS), **(padded([[0, 7, 8], [0], [0, 9]], "decoder_") if config.is_encoder_decoder else {})}

    def passes() -> list[torch.Tensor]:
        found = model(**given, use_cache=cached)
        if not cached or config.is_encoder_decoder:
            return [found.logits]
        more = model(input_ids=torch.tensor([[3], [4], [5]]), past_key_values=found.past_key_values)
        return [found.logits, more.logits]

    with torch.inference_mode():
        once = passes()
        stacks = len([part for part in model.modules() if type(part) is FusedStack])
        assert len(counted) == stacks + len(once) - 1
        layer_by_layer(model)
        each = passes()
    assert len(counted) == stacks + len(once) - 1
    assert all(near(one, other) for one, other in zip(once, each, strict=True))


def test_threads_share_a_pass_and_passes_run_side_by_side(tmp_path):
    wide = {**ROTARY, "hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "num_key_value_heads": 2}
    model = prepared(transformers.LlamaConfig(**wide), tmp_path, "AutoModelForCausalLM", torch.bfloat16)
    before = torch.get_num_threads()

    def written() -> torch.Tensor:
        return model.generate(TEXTS[:1], max_new_tokens=12, min_new_tokens=12, do_sample=False)

    try:
        torch.set_num_threads(1)
        alone = written()
        torch.set_num_threads(3)  # more than some machines have cores
        assert torch.equal(written(), alone)
        with ThreadPoolExecutor(3) as pool:
            assert all(torch.equal(each.result(), alone) for each in [pool.submit(written) for _ in range(6)])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("change", [None, "before", "after"])
def test_a_copy_runs_as_one_call_while_its_layers_are_as_they_were_prepared(tmp_path, counted, change):
    model = prepared(MODELS["llama"], tmp_path, "AutoModelForCausalLM", torch.bfloat16)
    ids = torch.tensor([TEXTS[0]])

    def louder(one: Any) -> Any:
        one.backbone.layers[1].attention.step.scale *= 2
        return one

    twin = copy.deepcopy(louder(model) if change == "before" else model)
    twin = pickle.loads(pickle.dumps(louder(twin) if change == "after" else twin))
    with torch.inference_mode():
        got = twin(ids).logits
        assert len(counted) == (0 if change else 1)
        layer_by_layer(twin)
        assert near(got, twin(ids).logits)
