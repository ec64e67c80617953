"""Muse Spark (Meta, 2026, model card of Muse-Spark-Open): Muse Glimmer with gated residuals and narrower experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Slice, SlicePart, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.output_gate import NormedGateAttention
from ..nn.experts import ExpertList, GroupedTopK
from ..nn.feedforward import GatedFeedForward
from ..nn.gated_residual import GatedResidual, ScaledInputRMSNorm
from ..nn.layer import Layer
from ..nn.norms import PlainRMSNorm, WideRMSNorm
from ..nn.pooled_experts import NormedExperts, PooledExperts
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import NormedEmbedding
from . import llama, muse_glimmer
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_of

DENSE, SPARSE = "dense", "sparse"


@dataclass(kw_only=True)
class MuseSparkTextConfig(muse_glimmer.MuseGlimmerTextConfig):
    model_type = "muse_spark_text"
    aliases = {"num_experts": "num_local_experts"}
    theta = 500000.0

    hidden_size: Size = 8192
    intermediate_size: Size = 16384
    num_hidden_layers: Count = 62
    num_attention_heads: Size = 128
    num_key_value_heads: Size | None = 16
    head_dim: Size | None = 64
    max_position_embeddings: Size = 1048576
    qk_scale_factor: float = 5.4730064863875
    output_multiplier: float = 0.1767766952966369
    moe_intermediate_size: Size = 4096
    num_local_experts: Copies = 256
    num_experts_per_tok: Size = 8
    routed_scaling_factor: float = 1.0
    moe_hidden_size: Size = 4096
    mlp_layer_types: list[str] | None = None
    residual_gate_temperature: float = 0.3
    output_router_logits: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the entries, with the activation under its usual name."""
        return llama.LlamaConfig.to_dict(self)

    def check(self) -> None:
        super().check()
        if len(self.mixtures) != self.num_hidden_layers or set(self.mixtures) - {DENSE, SPARSE}:
            raise UnsupportedConfig(f"mlp_layer_types must hold dense or sparse for each layer, not {self.mixtures}.")
        if self.hidden_size % self.num_attention_heads:
            raise UnsupportedConfig(
                f"hidden_size = {self.hidden_size} is no multiple of num_attention_heads = {self.num_attention_heads}."
            )

    @property
    def mixtures(self) -> list[str]:
        """Whether each layer has experts."""
        return [SPARSE] * self.num_hidden_layers if self.mlp_layer_types is None else self.mlp_layer_types


def experts(config: MuseSparkTextConfig) -> PooledExperts:
    wide, count = config.moe_hidden_size, config.num_local_experts
    each = [GatedFeedForward(wide, config.moe_intermediate_size, config.hidden_act) for _ in range(count)]
    return PooledExperts(
        config.hidden_size,
        wide,
        NormedExperts(ExpertList(each), ScaledInputRMSNorm(wide, config.post_norm_eps)),
        GroupedTopK(count, config.num_experts_per_tok, scale=config.routed_scaling_factor, floor=1e-15),
        before=WideRMSNorm(wide, config.rms_norm_eps, centre=1.0),
        sharpness=config.output_multiplier,
        exact=True,
    )


def attention(config: MuseSparkTextConfig, positions: Positions, window: int | None) -> NormedGateAttention:
    head = config.head_width
    q_norm, k_norm, norm = (PlainRMSNorm(head, config.rms_norm_eps) for _ in range(3))
    return NormedGateAttention(
        config.hidden_size,
        config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_width=head,
        bias=config.attention_bias,
        positions=positions,
        causal=True,
        window=window,
        scale=config.qk_scale_factor * head**-0.5,
        q_norm=q_norm,
        k_norm=k_norm,
        norm=norm,
        dropout=config.attention_dropout,
    )


def build(config: MuseSparkTextConfig) -> Stack:
    positions, width, none = rotary_of(config, config.head_width), config.hidden_size, Positions()
    kinds = layer_kinds(config, [FULL if wide else SLIDING for wide in config.wide])

    def residual(step: nn.Module, out: nn.Module) -> GatedResidual:
        before = WideRMSNorm(width, config.rms_norm_eps, centre=1.0)
        return GatedResidual(step, width, temperature=config.residual_gate_temperature, before=before, out=out)

    def layer(i: int) -> Layer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        mixer = attention(config, positions if config.bases[i] else none, window)
        ffn = experts(config) if config.mixtures[i] == SPARSE else llama.feed_forward(config)
        return Layer(
            residual(mixer, PlainRMSNorm(width, config.post_norm_eps)),
            residual(ffn, ScaledInputRMSNorm(width, config.post_norm_eps)),
        )

    words = NormedEmbedding(config.vocab_size, width, PlainRMSNorm(width, config.rms_norm_eps))
    return llama.decoder(config, layer, lambda _: WideRMSNorm(width, config.rms_norm_eps), words)


def keys(config: MuseSparkTextConfig) -> KeyMap:
    ours, theirs = "layers.*.ffn.step", "layers.*.mlp"
    count, inner = config.num_local_experts, config.moe_intermediate_size
    rows: dict[str, str | Source] = {
        f"{ours}.experts.each.*.{part}.weight": SlicePart(
            f"{theirs}.experts.gate_up_proj", count, sizes=(inner, inner), index=index
        )
        for index, part in enumerate(("gate", "up"))
    }
    rows |= {
        f"{ours}.experts.each.*.down.weight": Slice(f"{theirs}.experts.down_proj", count),
        f"{ours}.experts.norm": f"{theirs}.experts.post_expert_norm",
        f"{ours}.before": f"{theirs}.pre_expert_norm",
        f"{ours}.narrow": f"{theirs}.pre_expert_proj",
        f"{ours}.widen": f"{theirs}.post_expert_proj",
        f"{ours}.router": f"{theirs}.gate",
        f"{ours}.rule.correction": f"{theirs}.gate.e_score_correction_bias",
        "layers.*.attention.gate": "layers.*.post_attention_residual_gate.gate",
        "layers.*.ffn.gate": "layers.*.post_feedforward_residual_gate.gate",
        "layers.*.attention.step.gate": "layers.*.self_attn.gate_proj",
        "layers.*.ffn.before": "layers.*.pre_feedforward_layernorm",
        "layers.*.ffn.out": "layers.*.post_feedforward_layernorm",
    }
    table = llama.keys(config, rows)
    return replace(table, prefixes=(*table.prefixes, "model.language_model.", "language_model."))


ARCHITECTURE = muse_glimmer.ARCHITECTURE.derive("MuseSparkText", MuseSparkTextConfig, build, keys=keys)
