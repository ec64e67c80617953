"""Prepared models whose tensors or head norms change after a pass: the next passes read the new values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import multihead
from multihead.kernels.cpu import native

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no C++ kernels: {native.why_not()}")
SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 48, "head_dim": 16, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
PROMPTS = [[5, 6, 7, 8, 9, 11, 3, 4], [12, 13]]
RUNNERS = pytest.mark.parametrize("runner", ["eager", "cpu"])


def prepared(precision: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = multihead.Qwen3ForCausalLM(multihead.Qwen3Config(**SIZES)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.prepare(precision, dtype=dtype)


def logits(model: Any, runner: str) -> Tensor:
    model.decode_runner = runner
    options = {"output_logits": True, "return_dict_in_generate": True, "do_sample": False, "max_new_tokens": 4}
    return torch.stack(model.generate(PROMPTS, **options).logits).float()


def halve_in_place(norm: Any) -> None:
    norm.weight.data.mul_(0.2)


def replace_weight(norm: Any) -> None:
    norm.weight = nn.Parameter(norm.weight.data * 0.2, requires_grad=False)


def replace_data(norm: Any) -> None:
    norm.weight.data = norm.weight.data * 0.2


def set_eps(norm: Any) -> None:
    norm.eps = 3.0


@RUNNERS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", [halve_in_place, replace_weight, replace_data, set_eps])
def test_a_changed_head_norm_is_computed(change: Callable[[Any], None], dtype: torch.dtype, runner: str) -> None:
    model, other = prepared("int8", dtype), prepared("int8", dtype)
    before = logits(model, "eager")  # with which the stack has stored the addresses of its weights
    for one in (model, other):
        change(one.backbone.layers[0].attention.step.k_norm)
    runner = "auto" if change is set_eps else runner  # the kernels compute norms of one eps in a layer
    got, expected = logits(model, runner), logits(other, runner)  # the other makes its first pass here
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert (got - before).abs().max() > 0.05 * before.abs().max()


def test_a_key_norm_of_another_eps_is_not_computed_with_that_of_queries() -> None:
    model = prepared("bf16")
    step = model.backbone.layers[0].attention.step
    logits(model, "eager")
    step.k_norm.eps = 3.0
    got = logits(model, "auto")
    model.set_attention("eager")  # by definition, layer by layer
    torch.testing.assert_close(got, logits(model, "eager"), atol=2e-2, rtol=2e-2)


@RUNNERS
@pytest.mark.parametrize("name", ["codes", "scales"])
def test_a_packed_tensor_that_is_set_is_read(name: str, runner: str) -> None:
    model, other = prepared("int8"), prepared("int8")
    logits(model, "eager")
    for one in (model, other):
        product = one.backbone.layers[1].ffn.step.output
        setattr(product, name, getattr(product, name) // 2 if name == "codes" else getattr(product, name) * 0.5)
    torch.testing.assert_close(logits(model, runner), logits(other, runner), atol=1e-4, rtol=1e-4)


@RUNNERS
def test_a_cast_that_changes_nothing_leaves_no_stale_addresses(runner: str) -> None:
    """The cast drops the products' structures, and a pass by layers builds them anew elsewhere."""
    model = prepared("int8")
    before = logits(model, "eager")
    model.float()
    with torch.no_grad():
        model(torch.tensor(PROMPTS[:1]), output_hidden_states=True)
    others = [copy.copy(bytearray(200)) for _ in range(2000)]  # takes the memory that the structures had
    torch.testing.assert_close(logits(model, runner), before, atol=1e-4, rtol=1e-4)
    del others
