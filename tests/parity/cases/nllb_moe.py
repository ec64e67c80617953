"""NLLB-MoE beside the reference with experts as the published checkpoint was trained.

The reference's own experts (5.23) read a mask of zeros and ones as their numbers, so that all but two are never used.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from transformers.models.nllb_moe import modeling_nllb_moe

from ..case import Case
from .seq2seq import bart


def two_experts(self: Any, states: torch.Tensor, padding_mask: Any = None) -> torch.Tensor:
    """Mix the two most likely experts of each token by their shares, and keep what token dropout leaves on average."""
    flat, router, experts = states.flatten(0, 1), self.router.classifier, self.experts
    bias = None if router.bias is None else router.bias.float()
    chances = torch.nn.functional.linear(flat.float(), router.weight.float(), bias).softmax(-1).to(flat.dtype)
    shares, numbers = chances.topk(2)
    shares = shares / shares.sum(-1, keepdim=True)
    every = torch.stack([experts[f"expert_{number}"](flat) for number in range(self.num_experts)], 1)
    mixed = (shares[..., None] * every[torch.arange(len(flat))[:, None], numbers]).sum(1)
    return (mixed * (1 - experts.moe_token_dropout)).view_as(states)


OWN_EXPERTS = modeling_nllb_moe.NllbMoeSparseMLP.forward
modeling_nllb_moe.NllbMoeSparseMLP.forward = two_experts
SPARSE = {"num_experts": 5, "encoder_sparse_step": 2, "decoder_sparse_step": 1, "num_beams": 1}

CASES = (
    Case("nllb-moe", partial(bart, "NllbMoe", **SPARSE), ("Model", "ForConditionalGeneration"), absolute=True),
    Case("nllb-moe-biased", partial(bart, "NllbMoe", **SPARSE, router_bias=True, moe_token_dropout=0.0,
                                    activation_function="gelu"), ("ForConditionalGeneration",), absolute=True),
)  # fmt: skip
