"""Language models of multimodal families that are families of their own."""

from __future__ import annotations

from ..case import Case
from .experts import of

CASES = (
    Case("aria", of("AriaText", moe_num_experts=5, moe_topk=2, moe_num_shared_experts=2, hidden_act="gelu",
         attention_bias=True, mlp_bias=True), ("Model", "ForCausalLM")),
)  # fmt: skip
