"""Ling 3.0's entries that the reference's layers do not have."""

from __future__ import annotations

from types import MethodType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import multihead
from multihead.errors import UnsupportedConfig

from .case import reference
from .cases.ling import CASES

CASE = CASES[0]
LIMITS = {"expert_swiglu_limit_list": [0, 0.25, 0], "share_expert_swiglu_limit_list": [0, 0.5, 0.125]}


def bounded(x, gate_up, down, bound):
    gate, up = F.linear(x, gate_up).chunk(2, -1)
    if bound:
        return F.linear(F.silu(gate).clamp(max=bound) * up.clamp(-bound, bound), down)
    return F.linear(F.silu(gate) * up, down)


def limit_layers(model: nn.Module) -> None:
    """Give layers of the reference the bounds of `LIMITS`."""

    def shared(self, x, bound):
        return bounded(x, torch.cat([self.gate_proj.weight, self.up_proj.weight]), self.down_proj.weight, bound)

    def experts(self, x, index, weights, bound):
        each = torch.stack([bounded(x, *pair, bound) for pair in zip(self.gate_up_proj, self.down_proj, strict=True)])
        chosen = each.transpose(0, 1).gather(1, index[..., None].expand(-1, -1, x.shape[-1]))
        return (chosen * weights[..., None]).sum(1)

    pairs = zip(*LIMITS.values(), strict=True)
    for layer, (routed, beside) in zip(model.model.layers, pairs, strict=True):
        if hasattr(layer.mlp, "experts"):
            one, other = layer.mlp.experts, layer.mlp.shared_experts
            one.forward = MethodType(lambda self, *given, bound=routed: experts(self, *given, bound), one)
            other.forward = MethodType(lambda self, x, bound=beside: shared(self, x, bound), other)


def test_states_inside_experts_are_bounded_as_the_lists_say(tmp_path):
    model, ids = reference(CASE, "ForCausalLM"), torch.randint(3, 32, (2, 9))
    model.save_pretrained(tmp_path)
    free = model(ids).logits
    limit_layers(model)
    expected = model(ids).logits
    assert (expected - free).abs().max() > 0.01  # the bounds are reached
    mine = multihead.AutoModelForCausalLM.from_pretrained(tmp_path, **LIMITS)
    for prepared in (False, True):
        found = (mine.prepare("float32") if prepared else mine)(ids).logits
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("change", [{"up_proj_norm": True}, {"architectures": ["BailingMoeV2_5ForCausalLM"]},
                                    {"num_key_value_heads": 2}, {"use_mla_nope": True}])  # fmt: skip
def test_other_layers_are_refused(change):
    with pytest.raises(UnsupportedConfig):
        multihead.BailingHybridConfig.read({**CASE.make().to_dict(), **change})
