"""What the reference keeps in float32 inside a model of half precision stays in it here too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import multihead
from multihead.nn.own_names import own_parameters

from .case import batch, reference
from .cases import CASES

ROWS = {case.name: case for case in CASES}
HALVES = [torch.bfloat16, torch.float16]


def error(got: Any, expected: torch.Tensor) -> float:
    return float((got.logits.float() - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor], torch.Tensor]:
    """A DeepSeek-V3 whose corrections lie near 8, as trained ones do, and alone choose the experts."""
    model = reference(ROWS["deepseek-v3"], "ForCausalLM")
    with torch.no_grad():
        for name, x in (*model.named_buffers(), *own_parameters(model)):
            if "e_score_correction_bias" in name:
                x.copy_(8 + torch.linspace(0, 0.02, x.numel())[torch.randperm(x.numel())])
            if name.endswith("gate.weight"):
                x.mul_(0.02)
    folder = tmp_path_factory.mktemp("deepseek")
    model.save_pretrained(folder)
    inputs = batch(ROWS["deepseek-v3"], "ForCausalLM", lengths=(11, 11, 11))
    with torch.no_grad():
        return folder, inputs, model(**inputs).logits


@pytest.mark.parametrize("dtype", HALVES)
def test_corrections_that_choose_experts_are_not_rounded(balanced, dtype, tmp_path):
    folder, inputs, expected = balanced
    kind = multihead.DeepseekV3ForCausalLM
    theirs = transformers.DeepseekV3ForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    loaded, moved = kind.from_pretrained(folder, dtype=dtype), kind.from_pretrained(folder).to(dtype)
    loaded.save_pretrained(tmp_path)
    stored = [x.dtype for name, x in load_file(tmp_path / "model.safetensors").items() if "correction" in name]
    assert stored == [torch.float32] * 2
    with torch.no_grad():
        limit = 1.5 * error(theirs(**inputs), expected)
        for model in (loaded, moved, kind.from_pretrained(tmp_path)):
            assert (model.dtype, error(model(**inputs), expected) < limit) == (dtype, True)


def test_a_prepared_model_chooses_the_same_experts(balanced, tmp_path):
    folder, inputs, expected = balanced
    model = multihead.AutoModelForCausalLM.from_pretrained(folder, precision="bf16")
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for each in (model, multihead.AutoModelForCausalLM.from_pretrained(tmp_path)):
            wrong = each(**inputs).logits.float() - expected  # one near choice may turn by what else is rounded
            assert wrong.abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize("name", ["t5", "t5-1.1-gated-unscaled", "mt5", "umt5", "longt5", "switch"])
def test_large_states_of_a_t5_stay_finite_in_float16(name, tmp_path):
    case = ROWS[name] if name in ROWS else next(c for c in CASES if c.name.startswith(name))
    model = reference(case, "ForConditionalGeneration")
    with torch.no_grad():
        for path, x in own_parameters(model):
            if path.endswith("wo.weight"):
                x.mul_(3000)
            elif ".wi" in path:
                x.mul_(30)
    model.save_pretrained(tmp_path)
    kind = getattr(multihead, case.family + "ForConditionalGeneration")
    inputs = batch(case, "ForConditionalGeneration")
    with torch.no_grad():
        exact, theirs = (
            model(**inputs).logits,
            type(model).from_pretrained(tmp_path, dtype=torch.float16).eval()(**inputs),
        )
        models = (kind.from_pretrained(tmp_path, dtype="fp16"), kind.from_pretrained(tmp_path).half())
        for got in (each(**inputs) for each in models):
            assert got.logits.isfinite().all()
            if case.made.model_type in ("t5", "mt5", "umt5"):
                assert error(got, exact) < max(3 * error(theirs, exact), 0.02)


def test_an_adapter_reads_a_layer_that_stays_wide(tmp_path):
    model = multihead.T5ForConditionalGeneration(multihead.T5Config.read(ROWS["t5"].make().to_dict())).half()
    model.add_adapter(multihead.LoraConfig(r=2, target_modules=["wo", "q"]))
    assert model(**batch(ROWS["t5"], "ForConditionalGeneration")).logits.isfinite().all()


@pytest.mark.parametrize(("name", "kept"), [
    ("bailing-hybrid", ("A_log", "dt_bias")), ("glm5-next", ("A_log", "dt_bias")), ("beam", ("mlp.gate.weight",)),
])  # fmt: skip
@pytest.mark.parametrize("dtype", HALVES)
def test_rates_and_routers_that_the_reference_does_not_round_stay_float32(name, kept, dtype, tmp_path):
    case = ROWS[name]
    end = case.ends[0]
    reference(case, end).save_pretrained(tmp_path / "whole")
    case.peer(end).from_pretrained(tmp_path / "whole", dtype=dtype).save_pretrained(tmp_path / "theirs")
    kind = getattr(multihead, case.family + end)
    loaded, moved = kind.from_pretrained(tmp_path / "whole", dtype=dtype), kind.from_pretrained(tmp_path / "whole")
    stored = load_file(tmp_path / "theirs" / "model.safetensors")
    expected = {name: x for name, x in stored.items() if name.endswith(kept)}
    assert expected
    assert {x.dtype for x in expected.values()} == {torch.float32}
    for model in (loaded, moved.to(dtype)):
        found = model.stored_tensors()
        for path, x in expected.items():
            torch.testing.assert_close(found[path], x, rtol=0, atol=0)
        assert sum(x.dtype == dtype for x in found.values()) > len(found) / 2
