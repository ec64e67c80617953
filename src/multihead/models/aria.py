"""The language model of Aria (Li et al., 2024, arXiv:2410.05993): Llama with routed and shared experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import ColumnPart
from ..config import Copies, Size
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert, top_k_softmax
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common.experts import DENSE, PARTS, ROUTED, SHARED
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class AriaTextConfig(llama.LlamaConfig):
    model_type = "aria_text"
    inert: ClassVar[tuple[str, ...]] = (
        *llama.LlamaConfig.inert,
        *("pretraining_tp", "moe_z_loss_coeff", "moe_aux_loss_coeff"),
    )

    intermediate_size: Size = 4096
    moe_num_experts: Copies = 8
    moe_topk: Size = 2
    moe_num_shared_experts: Size = 2
    pad_token_id: int | None = 2


def experts(config: AriaTextConfig) -> SharedExpert:
    """Build the experts of a layer; the routed ones are gated by SiLU whatever `hidden_act` says."""
    width, inner, count = config.hidden_size, config.intermediate_size, config.moe_num_experts
    each = ExpertList([GatedFeedForward(width, inner, "silu") for _ in range(count)])
    shared = GatedFeedForward(width, inner * config.moe_num_shared_experts, config.hidden_act, bias=config.mlp_bias)
    return SharedExpert(RoutedExperts(width, each, count, top_k_softmax(config.moe_topk)), shared)


def build(config: AriaTextConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(_: int) -> Layer:
        return llama.layer(config, llama.attention(config, positions), experts(config))

    return llama.decoder(config, layer)


def keys(config: AriaTextConfig) -> KeyMap:
    """Return the key map; experts are stored in stacks, transposed, under two names."""
    theirs, count, inner = "layers.*.mlp", config.moe_num_experts, config.intermediate_size
    stacks = {
        part: ColumnPart(f"{theirs}.experts.gate_up_proj", count, sizes=(inner, inner), index=i)
        for i, part in enumerate(("gate", "up"))
    }
    own: Rows = {
        **{f"{ROUTED}.experts.*.{part}.weight": stack for part, stack in stacks.items()},
        f"{ROUTED}.experts.*.down.weight": ColumnPart(
            f"{theirs}.experts.down_proj", count, sizes=(config.hidden_size,)
        ),
        f"{ROUTED}.router": f"{theirs}.router",
        **{f"{SHARED}.{part}": f"{theirs}.shared_experts.{part}_proj" for part in PARTS},
    }
    first = ((r"\.experts\.fc1\.weight$", ".experts.gate_up_proj"), (r"\.experts\.fc2\.weight$", ".experts.down_proj"))
    return replace(llama.keys(config, own, without=DENSE), renamed=first)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "AriaText", AriaTextConfig, build, keys=keys, heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
)
