"""Scores of routers in outputs, and the load-balancing loss: in `forward` and in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import multihead
from multihead.nn.own_names import own_parameters
from multihead.training.objectives.token import objective_of

from .case import Case, batch, labels, reference
from .cases import CASES


def routed() -> list[Case]:
    """Return the first case of each family whose outputs show what routers score."""
    first: dict[str, Case] = {}
    for case in CASES:
        if "ForCausalLM" in case.ends and hasattr(case.made, "output_router_logits") and case.family != "Doge":
            first.setdefault(case.made.model_type, case)
    return list(first.values())


def pair(case: Case, folder: Any, end: str = "ForCausalLM") -> tuple[Any, Any]:
    model = reference(case, end)
    model.save_pretrained(folder)
    return model, getattr(multihead, case.family + end).from_pretrained(folder)


@pytest.mark.parametrize("case", routed(), ids=lambda case: case.name)
def test_router_logits_and_the_loss_that_balances_them_equal_the_reference(case, tmp_path):
    theirs, ours = pair(case, tmp_path)
    inputs = batch(case, "ForCausalLM")
    given = {**inputs, **labels(case, "ForCausalLM", inputs["attention_mask"])}
    expected, got = (model(**given, output_router_logits=True) for model in (theirs, ours))
    real = inputs["attention_mask"].flatten().bool()
    assert len(got.router_logits) == len(expected.router_logits) > 0
    for one, other in zip(got.router_logits, expected.router_logits, strict=True):
        torch.testing.assert_close(one[real], other[real], rtol=1e-4, atol=1e-4)
        assert not one[~real].any()
    assert ("aux_loss" in got) == (expected.get("aux_loss") is not None)
    torch.testing.assert_close(got.loss, expected.loss, rtol=1e-5, atol=1e-5)
    if "aux_loss" in got:
        torch.testing.assert_close(got.aux_loss, expected.aux_loss, rtol=1e-5, atol=1e-5)
        assert ours(**given, output_router_logits=False).loss != got.loss
    assert "router_logits" not in ours(**inputs)


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_gradients_of_the_balanced_loss_equal_the_reference(name, tmp_path):
    case = next(case for case in CASES if case.name == name)
    theirs, _ = pair(case, tmp_path)
    theirs.router_aux_loss_coef = 5.0  # as much as the other part
    ours = multihead.AutoModelForCausalLM.from_pretrained(tmp_path, router_aux_loss_coef=5.0)
    inputs = batch(case, "ForCausalLM")
    given = {**inputs, **labels(case, "ForCausalLM", inputs["attention_mask"]), "output_router_logits": True}
    for model in (theirs, ours):
        model(**given).loss.backward()
    expected = [p.grad for n, p in own_parameters(theirs) if n.endswith(("gate.weight", "router.weight"))]
    got = [p.grad for n, p in own_parameters(ours) if n.endswith("router.weight")]
    assert len(got) == len(expected) == 3
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_bare_model_shows_router_logits(tmp_path):
    case = next(case for case in CASES if case.name == "mixtral")
    theirs, ours = pair(case, tmp_path, "Model")
    inputs = batch(case, "Model")
    expected, got = (model(**inputs, output_router_logits=True).router_logits for model in (theirs, ours))
    real = inputs["attention_mask"].flatten().bool()
    assert all(torch.allclose(a[real], b[real], atol=1e-5) for a, b in zip(got, expected, strict=True))


def test_training_balances_experts_over_a_batch(tmp_path):
    case = next(case for case in CASES if case.name == "qwen3-moe")
    _, ours = pair(case, tmp_path)
    ours.config.output_router_logits = True
    texts = [[5, 6, 7, 8, 9], [11, 12, 13]]
    ids = torch.tensor([texts[0], [*texts[1], 0, 0]])
    mask = torch.tensor([[1] * 5, [1] * 3 + [0] * 2])
    expected = ours(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
    objective: Any = objective_of(ours)
    examples = [{"input_ids": text} for text in texts]
    total, _ = objective(examples)
    assert not objective.splittable
    torch.testing.assert_close(total / objective.count(examples), expected)
    ours.config.output_router_logits = False
    assert objective.splittable
    assert objective(examples)[0] < total


def test_a_family_without_experts_shows_no_router_logits():
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ours = multihead.LlamaForCausalLM(multihead.LlamaConfig(**sizes, intermediate_size=40)).eval()
    ours.config.output_router_logits = True
    assert "router_logits" not in ours(torch.tensor([[5, 6]]))
    with pytest.raises(TypeError, match="output_router_logits"):
        ours(torch.tensor([[5, 6]]), output_router_logits=True)
