"""Prepared models of every family with routed experts: whoever is chosen is the same, and gives what packing leaves."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from multihead.kernels.cpu import native
from multihead.nn.experts import RoutedExperts, SharedExpert
from multihead.nn.own_names import own_modules, own_parameters
from multihead.nn.switch import SwitchFeedForward
from multihead.runtime.fused_experts import ExpertLinears, PackedExperts
from multihead.runtime.fused_linear_cpu import FusedLinear

from .case import Case, batch, ours, writes
from .cases import CASES
from .test_families import close

SPARSE = (
    "mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "gpt_oss", "switch_transformers", "cohere2_moe",
    "ernie4_5_moe", "jetmoe", "kolibri1", "phimoe",
)  # fmt: skip
CHOSEN = [
    (case, next(end for end in case.ends if writes(case, end))) for case in CASES if case.made.model_type in SPARSE
]
EVERY = pytest.mark.parametrize(("case", "end"), CHOSEN, ids=[case.name for case, _ in CHOSEN])
FIRST = [next(pair for pair in CHOSEN if pair[0].made.model_type == kind) for kind in SPARSE]
ONE = pytest.mark.parametrize(("case", "end"), FIRST, ids=SPARSE)
BOUNDS = {"bf16": 0.05, "int8": 0.2, "int4": 0.9}
if native.library() is None:
    del BOUNDS["bf16"]  # is torch's own then
PRECISIONS = pytest.mark.parametrize(("precision", "bound"), BOUNDS.items())
PACKED = pytest.mark.parametrize("precision", BOUNDS)
CODES = 0.02  # of the largest score: a code of what is multiplied may round the other way
STEPS = RoutedExperts, SharedExpert, SwitchFeedForward


def prepared(case: Case, end: str, path: Any, precision: str) -> Any:
    return ours(case, end, path).prepare(precision, dtype=torch.float32)


def logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def seen(model: Any, inputs: dict[str, Any]) -> dict[str, tuple[tuple[Any, ...], torch.Tensor]]:
    """What each step with experts read and gave in a pass, by its path."""
    found: dict[str, tuple[tuple[Any, ...], torch.Tensor]] = {}

    def watch(path: str, module: nn.Module) -> Any:
        def note(module: nn.Module, args: tuple[Any, ...], given: torch.Tensor) -> None:
            found[path] = args, given

        return module.register_forward_hook(note)

    hooks = [watch(path, module) for path, module in own_modules(model) if isinstance(module, STEPS)]
    logits(model, inputs)
    for hook in hooks:
        hook.remove()
    return found


def once(kept: dict[str, Any], work: Any, *args: Any) -> Any:
    """What `work` gave when it was first asked."""
    if not kept:
        kept["given"] = work(*args)
    return kept["given"]


@EVERY
@PRECISIONS
def test_experts_give_what_they_gave(folders, case, end, precision, bound):
    model = ours(case, end, folders(case, end)[1])
    known = seen(model, batch(case, end))
    assert known
    model.prepare(precision, dtype=torch.float32)
    for path, (args, given) in known.items():
        step = model.get_submodule(path)
        held = [type(part) for part in step.modules() if isinstance(part, (FusedLinear, nn.Linear))]
        assert held.count(ExpertLinears) == 2
        with torch.no_grad():
            assert close(step(*args), given, path, bound) > 0
    assert not [name for name, _ in own_parameters(model) if ".experts." in name]


@EVERY
def test_routers_are_left_as_they_were(folders, case, end):
    model = ours(case, end, folders(case, end)[1])
    routers = {name: x.clone() for name, x in own_parameters(model) if name.endswith("router.weight")}
    model.prepare("int4", dtype=torch.float32)
    assert routers
    assert all(torch.equal(dict(own_parameters(model))[name], x) for name, x in routers.items())


@ONE
@PRECISIONS
def test_scores_stay_near_the_models_where_the_same_experts_are_chosen(folders, case, end, precision, bound):
    model, inputs = ours(case, end, folders(case, end)[1]), batch(case, end)
    for router in [part for part in model.modules() if hasattr(part, "route")]:
        router.route = partial(once, {}, router.route)  # tiny random models choose others after any rounding
    expected = logits(model, inputs)
    got = logits(model.prepare(precision, dtype=torch.float32), inputs)
    if "decoder_input_ids" not in inputs:
        got, expected = (x[inputs["attention_mask"].bool()] for x in (got, expected))
    assert close(got, expected, "logits", bound) > 0


@ONE
@PACKED
def test_a_text_among_others_scores_what_it_scores_alone(folders, case, end, precision):
    model, inputs = prepared(case, end, folders(case, end)[1], precision), batch(case, end)
    together = logits(model, inputs)
    target = "decoder_input_ids" in inputs
    for row, length in enumerate(case.lengths):
        ends = {name: None if "decoder" in name else length for name in inputs}
        alone = logits(model, {name: x[row : row + 1, : ends[name]] for name, x in inputs.items()})
        close(
            together[row : row + 1, : None if target else length], alone, "logits", 0.02
        )  # a code of inputs may round the other way


@ONE
@PACKED
def test_without_kernels_torch_computes_the_same(folders, case, end, precision, monkeypatch):
    model = ours(case, end, folders(case, end)[1])
    known = seen(model, batch(case, end))
    model.prepare(precision, dtype=torch.float32)
    for path, (args, _) in known.items():
        step = model.get_submodule(path)
        with torch.no_grad():
            expected = step(*args)
            with monkeypatch.context() as patch:
                patch.setattr(native, "library", lambda: None)
                close(step(*args), expected, path, CODES)


@ONE
@PACKED
def test_saved_experts_are_mapped_and_write_the_same(folders, case, end, precision, tmp_path):
    made = ours(case, end, folders(case, end)[1], precision=precision)
    made.save_pretrained(tmp_path)
    again = ours(case, end, tmp_path)
    held = {name: x for name, x in again.named_buffers() if ".experts." in name}
    assert held
    assert all(torch.equal(x, dict(made.named_buffers())[name]) for name, x in held.items())
    assert again.num_parameters() == made.num_parameters()
    texts = [[5, 6, 7, 8], [9, 4]]
    first, second = (m.generate(texts, max_new_tokens=5, do_sample=False) for m in (made, again))
    assert torch.equal(first, second)


def test_many_tokens_and_experts_that_nobody_chooses(folders, monkeypatch):
    case, end = FIRST[0]
    model = prepared(case, end, folders(case, end)[1], "int8")
    experts = next(part for part in model.modules() if isinstance(part, PackedExperts))
    x = torch.randn(9, experts.into.shape[1])
    weights, chosen, add = torch.rand(9, 2), torch.tensor([[1, 3]] * 9), torch.randn(9, experts.output.outputs)
    with torch.no_grad():
        expected = experts(x, weights, chosen, add)
        for row in range(9):
            one = [t[row : row + 1] for t in (x, weights, chosen, add)]
            close(experts(*one), expected[row : row + 1], "a token", 1e-5)
        monkeypatch.setattr("multihead.runtime.fused_experts.TOKENS", 4)
        close(experts(x, weights, chosen, add), expected, "in pieces", 1e-5)
        assert experts(x[:0], weights[:0], chosen[:0], None).shape == (0, experts.output.outputs)
        monkeypatch.setattr(native, "library", lambda: None)
        assert experts(x[:0], weights[:0], chosen[:0], None).shape == (0, experts.output.outputs)
