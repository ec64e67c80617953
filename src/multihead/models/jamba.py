"""Jamba (Lieber et al., 2024, arXiv:2403.19887): layers of Mamba, a few of which are attention instead, and experts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.experts import ExpertList, RoutedExperts, softmax_top_k
from ..nn.layer import Layer, MixerLayer, Residual
from ..nn.norms import RMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.state_space import Mamba
from . import llama, mamba


@dataclass(kw_only=True)
class JambaConfig(llama.LlamaConfig):
    model_type = "jamba"
    inert: ClassVar[tuple[str, ...]] = tuple(
        (
            "calc_logits_for_entire_prompt num_logits_to_keep rope_interleaved sliding_window use_associative_scan "
            "use_mamba_kernels use_mambapy"
        ).split()
    )
    aliases: ClassVar[dict[str, str]] = {"num_local_experts": "num_experts"}

    vocab_size: Size = 65536
    intermediate_size: Size = 14336
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Size = 262144
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    num_experts: Size = 16
    num_experts_per_tok: Size = 2
    expert_layer_period: Size = 2
    expert_layer_offset: Count = 1
    attn_layer_period: Size = 8
    attn_layer_offset: Count = 4
    mamba_d_state: Size = 16
    mamba_d_conv: Size = 4
    mamba_expand: Size = 2
    mamba_dt_rank: Size | None = None
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    pad_token_id: int | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Replace `auto` by the value that follows from the width."""
        entries = {**entries, "mamba_dt_rank": None} if entries.get("mamba_dt_rank") == "auto" else entries
        return super().normalized(entries)

    def check(self) -> None:
        super().check()
        for kind in ("attn", "expert"):
            offset, period = getattr(self, f"{kind}_layer_offset"), getattr(self, f"{kind}_layer_period")
            if offset >= period:
                raise UnsupportedConfig(f"{kind}_layer_offset = {offset} is not below {kind}_layer_period = {period}.")

    @property
    def inner(self) -> int:
        """Channels of a state-space layer."""
        return self.mamba_expand * self.hidden_size

    @property
    def rank(self) -> int:
        return self.mamba_dt_rank or math.ceil(self.hidden_size / 16)


def mixer(config: JambaConfig) -> Mamba:
    step, write, read = (
        RMSNorm(width, config.rms_norm_eps) for width in (config.rank, config.mamba_d_state, config.mamba_d_state)
    )
    return Mamba(
        config.hidden_size,
        config.inner,
        config.mamba_d_state,
        config.rank,
        kernel=config.mamba_d_conv,
        act=config.hidden_act,
        bias=config.mamba_proj_bias,
        conv_bias=config.mamba_conv_bias,
        norms=(step, write, read),
    )


def experts(config: JambaConfig) -> RoutedExperts:
    each = ExpertList([llama.feed_forward(config) for _ in range(config.num_experts)])
    rule = softmax_top_k(config.num_experts_per_tok, normalized=False)
    return RoutedExperts(config.hidden_size, each, config.num_experts, rule)


def build(config: JambaConfig) -> Stack:
    def residual(step: nn.Module) -> Residual:
        return Residual(step, before=llama.norm(config))

    def layer(i: int) -> nn.Module:
        routed = config.num_experts > 1 and i % config.expert_layer_period == config.expert_layer_offset
        ffn = residual(experts(config) if routed else llama.feed_forward(config))
        if i % config.attn_layer_period == config.attn_layer_offset:
            return Layer(residual(llama.attention(config, Positions())), ffn)
        return MixerLayer(residual(mixer(config)), ffn)

    return llama.decoder(config, layer)


def keys(config: JambaConfig) -> KeyMap:
    ours, theirs, ffn = "layers.*.mixer.step", "layers.*.mamba", "layers.*.feed_forward"
    own = {
        **mamba.rows(config.inner, config.mamba_d_conv, ours, theirs),
        f"{ours}.select": f"{theirs}.x_proj",
        f"{ours}.step": f"{theirs}.dt_proj",
        f"{ours}.step_norm": f"{theirs}.dt_layernorm",
        f"{ours}.write_norm": f"{theirs}.b_layernorm",
        f"{ours}.read_norm": f"{theirs}.c_layernorm",
        "layers.*.mixer.before": "layers.*.input_layernorm",
        "layers.*.ffn.before": "layers.*.pre_ff_layernorm",
        **{f"layers.*.ffn.step.{n}": f"{ffn}.{n}_proj" for n in ("gate", "up", "down")},
        **{f"layers.*.ffn.step.experts.*.{n}": f"{ffn}.experts.*.{n}_proj" for n in ("gate", "up", "down")},
        "layers.*.ffn.step.router": f"{ffn}.router",
        "norm": "final_layernorm",
    }
    return llama.keys(config, own)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")}
ARCHITECTURE = llama.ARCHITECTURE.derive("Jamba", JambaConfig, build, keys=keys, heads=HEADS)
