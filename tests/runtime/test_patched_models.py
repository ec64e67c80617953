"""Models whose parts somebody replaced, hooked or set: what is written equals the passes of the model as it is now."""

from __future__ import annotations

import copy
import types

import pytest
import torch
from torch import nn

import multihead
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.kernels.cpu import native
from multihead.nn.attention.attention import Attention
from multihead.nn.cache.layer_cache import KVLayerCache
from multihead.nn.layer import Layer, Residual
from multihead.runtime.layer_spec import Snapshot, attribute_names, describe

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 48, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
PROMPTS = [[5, 6, 7, 8, 9, 11], [12, 13]]
SHOWN = {"output_logits": True, "return_dict_in_generate": True, "do_sample": False, "max_new_tokens": 6}


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = multihead.LlamaForCausalLM(multihead.LlamaConfig(**SIZES)).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


class Zero(nn.Module):
    """An ablation, which knows nothing of caches."""

    def forward(self, x, *args):
        return torch.zeros_like(x)


class Wrapped(nn.Module):
    """A part around another one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, *args):
        y = self.inner(x, *args)
        return y.mul_(1.5) if y is not x else y * 1.5


class Mixes(nn.Module):
    """A part that looks at all tokens before, and says nothing of it."""

    def forward(self, x, call, *args):
        parts = x.split(list(call.runs.lengths))
        return torch.cat([part.cumsum(0) * 0.3 for part in parts])


def replace(path, make):
    def patch(model):
        owner, _, name = path.rpartition(".")
        parent = model.get_submodule(owner)
        setattr(parent, name, make(getattr(parent, name)))

    return patch


def hook(path, what, before=False):
    def patch(model):
        part = model.get_submodule(path)
        return (part.register_forward_pre_hook if before else part.register_forward_hook)(what)

    return patch


def override(path, method="forward", by=1.5):
    def patch(model):
        part = model.get_submodule(path)
        own = getattr(part, method)
        setattr(part, method, lambda *args: own(*args) * by)

    return patch


def changed(path, **values):
    def patch(model):
        part = model.get_submodule(path)
        for name, value in values.items():
            setattr(part, name, value)

    return patch


def louder(module, args, out):
    return out * 1.5


def louder_in_place(module, args, out):
    out.mul_(1.5)


def louder_before(module, args):
    return (args[0] * 1.5, *args[1:])


ONE = "backbone.layers.1"
PATCHES = {
    "step-replaced": replace(f"{ONE}.attention.step", lambda _: Zero()),
    "step-wrapped": replace(f"{ONE}.attention.step", Wrapped),
    "step-mixes": replace(f"{ONE}.attention.step", lambda _: Mixes()),
    "residual-replaced": replace(f"{ONE}.attention", lambda _: Zero()),
    "residual-wrapped": replace(f"{ONE}.attention", Wrapped),
    "ffn-replaced": replace(f"{ONE}.ffn.step", lambda _: Zero()),
    "ffn-wrapped": replace(f"{ONE}.ffn", Wrapped),
    "layer-replaced": replace(f"{ONE}", lambda _: Mixes()),
    "layer-wrapped": replace(f"{ONE}", Wrapped),
    "norm-wrapped": replace(f"{ONE}.ffn.before", Wrapped),
    "out-replaced": replace(f"{ONE}.ffn.out", lambda _: Zero()),
    "table-wrapped": replace("head.table", Wrapped),
    "layer-hooked": hook(ONE, louder),
    "layer-hooked-in-place": hook(ONE, louder_in_place),
    "layer-hooked-before": hook(ONE, louder_before, before=True),
    "residual-hooked": hook(f"{ONE}.ffn", louder),
    "residual-hooked-in-place": hook(f"{ONE}.attention", louder_in_place),
    "step-hooked": hook(f"{ONE}.attention.step", louder),
    "ffn-hooked": hook(f"{ONE}.ffn.step", louder_in_place),
    "norm-hooked": hook(f"{ONE}.ffn.before", louder),
    "last-norm-hooked": hook("backbone.norm", louder),
    "words-hooked": hook("backbone.embed.token", louder),
    "backbone-hooked": hook("backbone", louder),
    "head-hooked": hook("head", louder),
    "table-hooked": hook("head.table", louder),
    "layer-overridden": override(ONE),
    "step-overridden": override(f"{ONE}.attention.step"),
    "ffn-overridden": override(f"{ONE}.ffn"),
    "mixing-overridden": override(f"{ONE}.attention.step", "_mix"),
    "turning-overridden": override(f"{ONE}.attention.step.positions", "_turns", 1),
    "scale-set": changed(f"{ONE}.attention.step", scale=0.9),
    "residual-scale-set": changed(f"{ONE}.ffn", scale=0.5),
    "softcap-set": changed(f"{ONE}.attention.step", softcap=0.05),
}
JOINED = {"step-replaced", "step-wrapped", "step-mixes", "ffn-replaced", "norm-wrapped", "norm-hooked"}  # by `prepare`
NOTHING = {"turning-overridden", "softcap-set"}  # change little or nothing here
TABLES = {"table-wrapped", "table-hooked"}


@torch.no_grad()
def after(model, text):
    return model(torch.tensor([text]), use_cache=False).logits[0, -1].float()


def check(model, tolerance):
    result = model.generate(PROMPTS, **SHOWN)
    for row, prompt in enumerate(PROMPTS):
        text = [*prompt, *result.sequences[row, -6:].tolist()]
        for step, scores in enumerate(result.logits):
            expected = after(model, text[: len(prompt) + step])
            assert (scores[row] - expected).abs().max() <= tolerance * expected.abs().max(), (row, step)


@torch.no_grad()
def check_cache(model, tolerance):
    text = [*PROMPTS[0], 14, 15, 16]
    memory = None
    for begin, end in ((0, 4), (4, 5), (5, 9)):
        result = model(torch.tensor([text[begin:end]]), past_key_values=memory, use_cache=True)
        memory, expected = result.past_key_values, after(model, text[:end])
        assert (result.logits[0, -1].float() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", PATCHES)
def test_a_patched_model_writes_what_its_passes_say(model, name):
    plain = after(model, PROMPTS[0])
    PATCHES[name](model)
    assert name in NOTHING or (after(model, PROMPTS[0]) - plain).abs().max() > 0.05 * plain.abs().max()
    check(model, 1e-4)
    check_cache(model, 1e-4)


@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_prepared_model_that_is_patched_later_says_what_it_says_patched_or_refuses(model, name, precision):
    if precision == "int8" and name in TABLES:
        pytest.skip("a table in codes is read by its packed product")
    prepared = copy.deepcopy(model).prepare(precision, dtype=torch.float32)
    prepared(torch.tensor(PROMPTS[:1]))
    try:
        PATCHES[name](prepared)
        got = after(prepared, PROMPTS[0])
    except InvalidInput as error:
        assert name in JOINED
        assert "prepare" in str(error)  # noqa: PT017
        return
    PATCHES[name](model)
    expected = after(model, PROMPTS[0])
    tolerance = 0.08 if precision == "bf16" else 0.2
    if name not in {"norm-hooked", *TABLES}:
        assert (got - expected).abs().max() <= tolerance * expected.abs().max()
    check(prepared, 0.02)
    check_cache(prepared, 0.02)


@pytest.mark.parametrize(
    "name", ["layer-hooked", "step-hooked", "residual-scale-set", "layer-replaced", "step-overridden"]
)
def test_a_patch_before_preparing_stays(model, name):
    PATCHES[name](model)
    prepared = copy.deepcopy(model)
    if name == "step-overridden":
        PATCHES[name](prepared)
        PATCHES[name](model)
    prepared.prepare("bf16", dtype=torch.float32)
    expected = after(model, PROMPTS[0])
    assert (after(prepared, PROMPTS[0]) - expected).abs().max() <= 0.08 * expected.abs().max()
    check(prepared, 0.02)


def test_a_part_may_say_what_it_remembers_and_is_not_read_again_then(model):
    class Attends(Wrapped):
        def memory(self):
            return self.inner.memory()

    step = model.backbone.layers[1].attention
    step.step = Attends(step.step)
    assert all(isinstance(memory, KVLayerCache) for memory in model.memories())
    check(model, 1e-4)


@pytest.mark.skipif(native.library() is None, reason="no C++ kernels")
def test_an_option_that_is_not_known_goes_through_the_layers(model, monkeypatch):
    """A new option of attention, which nobody told the kernels of."""
    own = Attention._project

    def project(self, x):
        q, k, v = own(self, x)
        return q, k, v * getattr(self, "value_scale", 1.0)

    prepared = copy.deepcopy(model).prepare("bf16", dtype=torch.float32)
    plain, quick = after(model, PROMPTS[0]), after(prepared, PROMPTS[0])
    monkeypatch.setattr(Attention, "_project", project)
    for one in (model, prepared):
        for part in one.modules():
            if isinstance(part, Attention):
                part.value_scale = 3.0
    assert describe(model.backbone.layers[0].attention.step) is None
    check(model, 1e-4)
    assert (after(model, PROMPTS[0]) - plain).abs().max() > 0.05 * plain.abs().max()
    monkeypatch.undo()
    monkeypatch.setattr(type(prepared.backbone.layers[0].attention.step), "_mix", lambda *a: own_mix(*a) * 3.0)
    assert (after(prepared, PROMPTS[0]) - quick).abs().max() > 0.05 * quick.abs().max()


own_mix = Attention._mix


def test_a_class_that_is_patched_goes_through_its_layers(model, monkeypatch):
    plain = after(model, PROMPTS[0])
    own = Residual.forward
    monkeypatch.setattr(Residual, "forward", lambda self, x, *args: own(self, x, *args) * 1.2)
    assert (after(model, PROMPTS[0]) - plain).abs().max() > 0.05 * plain.abs().max()
    check(model, 1e-4)


def test_hooks_on_all_modules_are_called(model):
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        model.generate([[5, 6, 7]], max_new_tokens=4)
    finally:
        handle.remove()
    assert seen.count(Layer) == 3 * 4


@pytest.mark.parametrize("way", ["hook", "pre-hook", "instance", "class"])
def test_a_forward_that_generate_would_pass_by_is_refused(model, way):
    if way == "hook":
        model.register_forward_hook(lambda *_: None)
    elif way == "pre-hook":
        model.register_forward_pre_hook(lambda *_: None)
    elif way == "instance":
        model.forward = types.MethodType(lambda self, *args, **options: None, model)
    else:

        class Mine(multihead.LlamaForCausalLM):
            def forward(self, *args, **options):
                return super().forward(*args, **options)

        model = Mine(multihead.LlamaConfig(**SIZES)).eval()
    with pytest.raises(UnsupportedOption, match="forward is not called"):
        model.generate([[5, 6, 7]], max_new_tokens=2)


@torch.no_grad()
def test_hooks_on_the_last_layer_see_all_tokens_of_a_classifier():
    torch.manual_seed(0)
    config = multihead.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, num_labels=3
    )
    for precision in (None, "bf16", "int8"):
        model = multihead.BertForSequenceClassification(config).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        wanted = copy.deepcopy(model)
        if precision is not None:
            model.prepare(precision, dtype=torch.float32)
        for path in ("backbone.layers.1", "backbone.layers.1.attention", "backbone.layers.1.attention.step"):
            seen = []
            handles = [one.get_submodule(path).register_forward_hook(louder) for one in (model, wanted)]
            handles.append(
                model.get_submodule(path).register_forward_hook(lambda m, a, out, seen=seen: seen.append(out.shape))
            )
            got, expected = model(torch.tensor([[5, 6, 7]])).logits, wanted(torch.tensor([[5, 6, 7]])).logits
            for handle in handles:
                handle.remove()
            assert seen == [(3, 32)]
            assert (got - expected).abs().max() <= (1e-4 if precision is None else 0.15) * expected.abs().max()


def test_a_snapshot_of_parts_holds_until_somebody_sets_hooks_or_replaces_one(model):
    """What CUDA graphs ask before they are replayed for the next texts."""

    def taken():
        return Snapshot([part for part in model.modules() if part is not model], whole=True)

    first = taken()
    model.generate(PROMPTS, max_new_tokens=3)
    assert first.holds()
    layer = model.backbone.layers[1]
    for owner, name, value in (
        (layer.ffn.before, "eps", 0.1), (layer.attention.step, "scale", 2.0), (model.head, "softcap", 3.0),
        (layer.ffn, "step", Zero()), (layer, "own", 1),
    ):  # fmt: skip
        before = taken()
        setattr(owner, name, value)
        assert not before.holds(), name
    before = taken()
    handle = layer.register_forward_hook(louder)
    assert not before.holds()
    handle.remove()
    assert before.holds()


PLAIN = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SIDES = {
    "vocab_size": 60, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
FAMILIES = {
    "LlamaForCausalLM": PLAIN,
    "Gemma2ForCausalLM": {**PLAIN, "num_key_value_heads": 1, "head_dim": 16},
    "GemmaForCausalLM": {**PLAIN, "num_key_value_heads": 1, "head_dim": 16},
    "Qwen3ForCausalLM": {**PLAIN, "num_key_value_heads": 1, "head_dim": 16},
    "Olmo2ForCausalLM": PLAIN,
    "BertForMaskedLM": PLAIN,
    "GPT2LMHeadModel": {"vocab_size": 60, "n_embd": 32, "n_head": 2, "n_layer": 2},
    "BloomForCausalLM": {"vocab_size": 60, "hidden_size": 32, "n_layer": 2, "n_head": 2},
    "T5ForConditionalGeneration": {
        "vocab_size": 60, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "BartForConditionalGeneration": SIDES,
    "M2M100ForConditionalGeneration": SIDES,
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_the_ways_past_layers_name_all_that_these_layers_have(name):
    """Whoever gives a layer an option names it in `runtime.layer_spec`, once the ways past its forward honour it."""
    kind = getattr(multihead, name)
    model = kind(kind.architecture.config(**FAMILIES[name])).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    for part in [*model.backbone.modules(), *copy.deepcopy(model).prepare("int8").backbone.modules()]:
        assert describe(part) is not None, (type(part).__name__, attribute_names(part))
