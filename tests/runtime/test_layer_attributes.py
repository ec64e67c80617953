"""Each attribute of a layer that a fast path accepts is named in the description; another makes paths decline."""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from typing import Any

import pytest
import torch
from torch import nn

import multihead
from multihead.heads.heads import LanguageModel
from multihead.kernels.cpu import native
from multihead.nn.attention.alibi import Alibi
from multihead.nn.attention.attention import Attention, CrossAttention
from multihead.nn.attention.query_scale import PositionScale
from multihead.nn.embeddings import Embeddings
from multihead.nn.feedforward import FeedForward, GatedFeedForward
from multihead.nn.layer import Residual
from multihead.nn.norms import RMSNorm, WideRMSNorm
from multihead.nn.positions import Positions, Rotary
from multihead.nn.stack import Stack
from multihead.nn.weights import Embedding, LayerNorm, ScaledEmbedding
from multihead.runtime.cpu_decode import CpuDecodeStep
from multihead.runtime.cpu_stack import NativeStack
from multihead.runtime.fuse import GPU, fuse
from multihead.runtime.layer_spec import CLASSES

PLAIN = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
ONE_KEY_HEAD = {**PLAIN, "num_key_value_heads": 1, "head_dim": 16}
SIDES = {
    "vocab_size": 60, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "eos_token_id": None,
    "forced_eos_token_id": None, "decoder_start_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": PLAIN,
    "GemmaForCausalLM": {**ONE_KEY_HEAD, "tie_word_embeddings": True},
    "Qwen3ForCausalLM": ONE_KEY_HEAD,
    "OPTForCausalLM": {
        "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    },
    "GPTNeoXForCausalLM": PLAIN,
    "OlmoForCausalLM": PLAIN,
    "Olmo2ForCausalLM": PLAIN,
    "NemotronForCausalLM": PLAIN,
    "NanoChatForCausalLM": PLAIN,
    "BitNetForCausalLM": {**PLAIN, "num_key_value_heads": 1},
    "StableLmForCausalLM": {**PLAIN, "num_key_value_heads": 1, "qk_layernorm": True},
    "Phi3ForCausalLM": {
        **PLAIN, "max_position_embeddings": 64, "original_max_position_embeddings": 32, "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0, "short_factor": [1.0] * 8,
            "long_factor": [2.0] * 8, "original_max_position_embeddings": 32,
        },
    },
    "Ministral3ForCausalLM": {
        **ONE_KEY_HEAD, "head_dim": 16, "sliding_window": None, "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e4, "original_max_position_embeddings": 32,
            "llama_4_scaling_beta": 0.1,
        },
    },
    "Qwen3_5ForCausalLM": {
        **ONE_KEY_HEAD, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 1,
        "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    },
    "GPT2LMHeadModel": {"vocab_size": 60, "n_embd": 32, "n_head": 2, "n_layer": 2},
    "BloomForCausalLM": {"vocab_size": 60, "hidden_size": 32, "n_layer": 2, "n_head": 2},
    "T5ForConditionalGeneration": {
        "vocab_size": 60, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "BartForConditionalGeneration": SIDES,
    "Qwen2MoeForCausalLM": {
        **ONE_KEY_HEAD, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "num_experts": 4,
        "num_experts_per_tok": 2,
    },
    "Glm4MoeForCausalLM": {
        **ONE_KEY_HEAD, "moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "first_k_dense_replace": 0,
    },
    "GptOssForCausalLM": {**ONE_KEY_HEAD, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "SwitchTransformersForConditionalGeneration": {
        "vocab_size": 60, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "num_experts": 4,
        "decoder_start_token_id": 0, "num_decoder_layers": 2,
        "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
    },
    "MarianMTModel": {**SIDES, "pad_token_id": 0},
    "M2M100ForConditionalGeneration": SIDES,
}  # fmt: skip


def built(name: str) -> Any:
    """A model of a family, with weights large enough to show what a layer leaves out."""
    torch.manual_seed(0)
    kind = getattr(multihead, name)
    model = kind(kind.architecture.config(**{"eos_token_id": None, **FAMILIES[name]})).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def as_run(name: str, way: str) -> Any:
    """The model as loaded, in int8, or with the joined weights of a GPU."""
    model = built(name)
    if way == "int8":
        return model.prepare("int8", dtype=torch.float32)
    if way == "joined":
        model.backbone = fuse(model.backbone, GPU)
    return model


def parts(model: Any) -> list[nn.Module]:
    """The layers that a fast path reads: the decoder's and the head's."""
    decoder = getattr(model.backbone, "decoder", model.backbone)
    return [model.backbone, *decoder.modules(), *model.head.modules()]


@pytest.fixture(scope="module")
def holders() -> dict[type[nn.Module], tuple[str, str]]:
    """A family, and how it runs, for each class that fast paths know."""
    found: dict[type[nn.Module], tuple[str, str]] = {}
    for way in ("loaded", "int8", "joined"):
        for name in FAMILIES:
            for part in parts(as_run(name, way)):
                found.setdefault(type(part), (name, way))
    return found


@pytest.fixture
def steps(monkeypatch):
    """Calls of the two fast paths of a CPU."""
    taken: list[str] = []
    for kind in (CpuDecodeStep, NativeStack):
        run = kind.run
        monkeypatch.setattr(kind, "run", lambda *args, run=run, kind=kind: taken.append(kind.__name__) or run(*args))
    return taken


def written(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of five generated tokens, and those of one pass over the same tokens."""
    options = {"output_logits": True, "return_dict_in_generate": True, "do_sample": False}
    result = model.generate([[5, 6, 7]], max_new_tokens=5, min_new_tokens=5, **options)
    ids, source = result.sequences, torch.tensor([[5, 6, 7]])
    given = {"input_ids": source, "decoder_input_ids": ids} if model.config.is_encoder_decoder else {"input_ids": ids}
    with torch.no_grad():
        full = model(**given, use_cache=False).logits[0, -6:-1].float()
    return torch.stack([scores[0] for scores in result.logits]).float(), full


def near(one: torch.Tensor, other: torch.Tensor, way: str) -> bool:
    return bool((one - other).abs().max() <= (2e-2 if way == "int8" else 1e-4) * other.abs().max())


REGISTERS = ("register_buffer", "register_parameter", "register_module", "add_module")


def constructed(kind: type) -> set[str]:
    """Names that the constructors of a class and of its bases in this package give their objects."""
    names = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("multihead.") or "__init__" not in vars(base):
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base.__init__)))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names |= {node.attr} if getattr(node.value, "id", "") == "self" else set()
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in REGISTERS:
                names |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return names


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_description_names_each_attribute_that_a_constructor_sets(kind):
    """An option that a layer's constructor learns makes this fail until the description names it."""
    unnamed = constructed(kind) - CLASSES[kind].names
    assert not unnamed, (
        f"{kind.__name__} sets {sorted(unnamed)}, of which the fast paths know nothing. Name each in the description "
        "of layers, as one that every fast path honours, as one that makes them decline, or as one without effect."
    )


def test_the_guard_sees_a_new_option():
    class Louder(Attention):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.loudness = 2.0

    Louder.__module__ = "multihead.nn.attention.attention"
    assert constructed(Louder) - CLASSES[Attention].names == {"loudness"}


@pytest.mark.skipif(native.library() is None, reason="no C++ kernels")
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "T5ForConditionalGeneration", "BartForConditionalGeneration"])
def test_an_unchanged_model_takes_the_fast_path(name, steps):
    for way in ("loaded", "int8"):
        del steps[:]
        got, full = written(as_run(name, way))
        assert "CpuDecodeStep" in steps
        assert near(got, full, way)


def scaled(own):
    """A function that gives one and a half times as much."""

    def forward(*args, **options):
        y = own(*args, **options)
        return y * 1.5 if isinstance(y, torch.Tensor) else y

    return forward


def attribute(part, monkeypatch):
    part.loudness = 3.0


def hook(part, monkeypatch):
    def change(module, args, out):  # a choice of experts gives a pair
        return (out[0] * 1.5, *out[1:]) if isinstance(out, tuple) else out * 1.5

    part.register_forward_hook(change)


def pre_hook(part, monkeypatch):
    def change(module, args):
        first = args[0] * 1.5 if args[0].is_floating_point() else args[0] // 2
        return (first, *args[1:])

    part.register_forward_pre_hook(change)


def own_method(part, monkeypatch):
    part.forward = scaled(part.forward)


def subclass(part, monkeypatch):
    kind = type(part)
    part.__class__ = type(kind.__name__, (kind,), {"forward": scaled(kind.forward)})


def patched_class(part, monkeypatch):
    monkeypatch.setattr(type(part), "forward", scaled(type(part).forward))


CHANGES = [attribute, hook, pre_hook, own_method, subclass, patched_class]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_changed_layer_runs_by_its_own_forward(kind, change, holders, steps, monkeypatch):
    name, way = holders[kind]
    model = as_run(name, way)
    part = next(part for part in parts(model) if type(part) is kind)
    change(part, monkeypatch)
    got, full = written(model)
    assert "CpuDecodeStep" not in steps
    assert near(got, full, way)


def filled(value: Any) -> Any:
    """A layer with numbers in its weights."""
    for parameter in value.parameters() if isinstance(value, nn.Module) else ():
        nn.init.normal_(parameter, mean=0.5, std=0.3)
    return value


OPTIONS: dict[type[nn.Module], dict[str, Any]] = {
    Attention: {
        "clip": 0.2, "softcap": 0.3, "scale": 0.9, "window": 2, "sinks": nn.Parameter(torch.ones(2)),
        "q_norm": RMSNorm(16, 1e-5), "k_norm": RMSNorm(16, 1e-5), "positions": Positions(), "dropout": 0.5,
        "out": nn.Linear(32, 32), "query_scale": PositionScale(2.0, 1),
    },
    PositionScale: {"length": 1},
    CrossAttention: {"clip": 0.2, "softcap": 0.3, "scale": 0.9, "sinks": nn.Parameter(torch.ones(2))},
    Residual: {"scale": 0.5, "out": RMSNorm(32, 1e-5), "before": nn.LayerNorm(32), "after": WideRMSNorm(32, 1e-5)},
    GatedFeedForward: {"scales": (2.0, 0.5), "act": torch.tanh, "up": nn.Linear(32, 48)},
    FeedForward: {"act": torch.sin},
    Embeddings: {"scale": 3.0, "norm": nn.LayerNorm(32), "project": nn.Linear(32, 32), "widen": nn.Linear(32, 32)},
    Stack: {"norm": nn.Identity(), "out": nn.Linear(32, 32), "adjust": lambda context: context},
    LanguageModel: {"scale": 2.0, "softcap": 0.5, "transform": nn.Linear(32, 32)},
    RMSNorm: {"eps": 3.0},
    LayerNorm: {"eps": 3.0},
    WideRMSNorm: {"eps": 3.0, "centre": 0.3},
    Rotary: {"scale": 0.7, "frequencies": torch.ones(8)},
    Alibi: {"scale": 3.0},
    ScaledEmbedding: {"scale": 3.0},
    Embedding: {"max_norm": 0.5},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind, options in OPTIONS.items() for option in options],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)  # fmt: skip
def test_an_option_is_honoured_or_makes_the_fast_path_decline(kind, option, holders):
    model = as_run(*holders[kind])
    for part in parts(model):
        if type(part) is kind:
            setattr(part, option, filled(copy.deepcopy(OPTIONS[kind][option])))
    got, full = written(model)
    assert near(got, full, "loaded")
