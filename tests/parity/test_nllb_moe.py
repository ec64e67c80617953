"""Why NLLB-MoE is not compared with the reference's own experts."""

from __future__ import annotations

from .case import batch, reference
from .cases.nllb_moe import CASES, OWN_EXPERTS, modeling_nllb_moe


def test_the_references_own_experts_leave_all_but_two_unused(monkeypatch):
    """Once this fails, the reference is mended, and its own experts can be compared."""
    monkeypatch.setattr(modeling_nllb_moe.NllbMoeSparseMLP, "forward", OWN_EXPERTS)
    model = reference(CASES[0], "ForConditionalGeneration")
    model(**batch(CASES[0], "ForConditionalGeneration")).logits.sum().backward()
    experts = model.model.decoder.layers[0].ffn.experts
    used = [experts[f"expert_{number}"].fc1.weight.grad is not None for number in range(5)]
    assert used == [True, True, False, False, False]
