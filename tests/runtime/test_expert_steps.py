"""Decode steps with routed experts in one native call give what the layers give one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import multihead
from multihead.kernels.cpu import native
from multihead.nn.experts import GroupedTopK, RoutedExperts, SparseMixer, TopK

pytestmark = [
    pytest.mark.skipif(native.library() is None, reason=f"no C++ kernels: {native.why_not()}"),
    pytest.mark.usefixtures("at_every_level"),
]
SIZES = {
    "vocab_size": 90, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
INNER = {"moe_intermediate_size": 40}  # which is no whole number of vectors
FAMILIES: dict[str, dict[str, Any]] = {
    "Glm4Moe": {
        **SIZES, **INNER, "n_routed_experts": 8, "num_experts_per_tok": 3, "first_k_dense_replace": 1, "n_group": 4,
        "topk_group": 2, "use_qk_norm": True,
    },
    "Qwen3Moe": {**SIZES, **INNER, "num_experts": 8, "num_experts_per_tok": 3, "mlp_only_layers": [1]},
    "Qwen2Moe": {
        **SIZES, **INNER, "head_dim": None, "num_experts": 8, "num_experts_per_tok": 3,
        "shared_expert_intermediate_size": 48,
    },
    "GptOss": {**SIZES, "num_local_experts": 6, "num_experts_per_tok": 3, "sliding_window": 4},
    "GraniteMoe": {
        **SIZES, "head_dim": None, "num_local_experts": 4, "num_experts_per_tok": 2, "residual_multiplier": 0.5,
    },
    "Cohere2Moe": {**SIZES, "num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1},
}  # fmt: skip
UNFUSED = ("GraniteMoe", "Cohere2Moe")  # their layers run one by one once they are packed
TEXTS = [[5, 6, 7, 8, 9], [20, 21], [30, 31, 32, 33], [40, 41, 42]]
OPTIONS: dict[str, Any] = {
    "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "output_scores": True,
    "return_dict_in_generate": True,
}  # fmt: skip
CORRECTED = torch.linspace(-0.4, 0.6, 8)


def corrected(**options: Any) -> GroupedTopK:
    rule = GroupedTopK(8, 3, **options)
    if rule.correction is not None:
        rule.correction.data.copy_(CORRECTED[torch.randperm(8, generator=torch.Generator().manual_seed(3))])
    return rule


RULES: dict[str, Any] = {
    "softmax": TopK(3),
    "normalized": TopK(3, normalized=True, scale=2.5),
    "normalized by squares": TopK(3, normalized=True, power=2.0),
    "softmax of the chosen": TopK(3, late=True),
    "best groups": TopK(3, groups=4, kept=2, scale=1.5),
    "best pairs": TopK(3, groups=4, kept=2, best=2, normalized=True, added=1e-20),
    "all experts": TopK(8, normalized=True),
    "sigmoid": corrected(),
    "sigmoid without correction": corrected(corrected=False, normalized=False, scale=0.5),
    "sigmoid in groups": corrected(groups=4, kept=2),
    "ranks of scores": corrected(raw=True),
    "corrected softmax": corrected(shared=True, floor=0.7),
}


def built(family: str) -> Any:
    torch.manual_seed(0)
    kind = getattr(multihead, f"{family}ForCausalLM")
    model = kind(kind.architecture.config(**FAMILIES[family])).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def routed(model: Any) -> list[Any]:
    return [part for part in model.modules() if isinstance(part, RoutedExperts)]


def apart(model: Any, texts: list[list[int]], steps: list[int], tokens: int = 6) -> float:
    """The largest difference of a score between the native steps and the layers, relative to the largest score."""
    options = {**OPTIONS, "max_new_tokens": tokens, "min_new_tokens": tokens}
    del steps[:]
    fast = model.generate(texts, **options)
    assert steps == [len(texts)] * (tokens - 1)
    model.decode_runner = "eager"
    slow = model.generate(texts, **options)
    model.decode_runner = "auto"
    pairs = [(a[b.isfinite()], b[b.isfinite()]) for a, b in zip(fast.scores, slow.scores, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_families_as_loaded(family, count, steps):
    assert apart(built(family), TEXTS[:count], steps) <= 2e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_families_in_bfloat16(family, steps):
    # one step, since a rounding may choose another expert
    assert apart(built(family).bfloat16(), TEXTS[:1], steps, tokens=2) <= 0.03


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in UNFUSED])
def test_families_that_are_packed(family, precision, steps):
    model = built(family).prepare(precision, dtype=torch.float32 if precision == "int8" else torch.bfloat16)
    # a sum in another order may round a state of int8 to the next code
    assert max(apart(model, TEXTS[:count], steps) for count in (1, 3)) <= (0.02 if precision == "int8" else 1e-6)


@pytest.mark.parametrize("name", RULES)
def test_choices(name, steps):
    model = built("Qwen3Moe")
    for step in routed(model):
        step.rule = RULES[name]
    assert apart(model, TEXTS, steps) <= 2e-6


@pytest.mark.parametrize("name", ["softmax", "best groups", "sigmoid in groups", "ranks of scores"])
def test_among_equal_scores_the_same_experts_are_chosen(name, steps):
    model = built("Qwen3Moe")
    for step in routed(model):
        step.rule = RULES[name]
        step.router.weight.data[2:6] = step.router.weight.data[2]
    assert apart(model, TEXTS, steps) <= 2e-6


@pytest.mark.parametrize("option", ["softcap", "wide", "exact", "bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_routers(option, dtype, steps):
    model = built("Qwen3Moe")
    for step in routed(model):
        if option == "softcap":
            step.softcap = 0.7
        elif option == "wide":
            step.wide = True
        elif option == "exact":
            step.router.widened = (torch.bfloat16,)
        else:
            step.router.bias = nn.Parameter(torch.linspace(-1, 1, 8))
    half = dtype is torch.bfloat16
    assert apart(model.to(dtype), TEXTS[:1], steps, tokens=2 if half else 6) <= (0.03 if half else 2e-6)


@pytest.mark.parametrize("why", ["rule", "option", "hook on an expert", "an expert of another class"])
def test_other_experts_run_layer_by_layer(why, steps):
    model, seen = built("Qwen3Moe"), []
    step = routed(model)[0]
    if why == "rule":
        step.rule = SparseMixer(0.1)
    elif why == "option":
        step.temperature = 2.0
    elif why == "hook on an expert":
        for expert in step.experts:
            expert.register_forward_hook(lambda *_: seen.append(1))
    else:
        step.experts[3] = nn.Sequential(step.experts[3])
    model.generate(TEXTS, **OPTIONS)
    assert not steps
    assert bool(seen) == (why == "hook on an expert")
