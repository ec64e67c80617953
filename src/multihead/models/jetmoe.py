"""JetMoE (Shen et al., 2024, arXiv:2404.07413): experts in attention and feed-forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, Slice, SlicePart, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.expert_attention import ExpertAttention
from ..nn.experts import Biased, top_k_softmax
from ..nn.layer import Layer
from ..nn.norms import RMSNorm
from ..nn.stack import Stack
from . import llama
from .common.experts import DENSE, routed
from .common.patterns import rotary_of
from .common.rotary_config import RotaryConfig


@dataclass(kw_only=True)
class JetMoeConfig(RotaryConfig):
    model_type = "jetmoe"
    inert = ("num_attention_heads",)
    aliases: ClassVar[Mapping[str, str]] = {"head_dim": "kv_channels", "hidden_act": "activation_function"}

    vocab_size: Size = 32000
    hidden_size: Size = 2048
    num_hidden_layers: Count = 12
    num_key_value_heads: Size = 16
    kv_channels: Size = 128
    intermediate_size: Size = 5632
    max_position_embeddings: Size = 4096
    activation_function: str = "silu"
    num_local_experts: Copies = 8
    num_experts_per_tok: Size = 2
    output_router_logits: bool = False
    aux_loss_coef: float = 0.01
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.01
    attention_dropout: float = 0.0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def check(self) -> None:
        if self.num_experts_per_tok > self.num_local_experts:
            raise UnsupportedConfig(f"{self.num_experts_per_tok} of {self.num_local_experts} experts cannot be chosen.")

    @property
    def router_aux_loss_coef(self) -> float:
        return self.aux_loss_coef


def build(config: JetMoeConfig) -> Stack:
    positions, count, chosen = (
        rotary_of(config, config.kv_channels),
        config.num_local_experts,
        config.num_experts_per_tok,
    )

    def layer(i: int) -> Layer:
        attention = ExpertAttention(
            config.hidden_size,
            key_heads=config.num_key_value_heads,
            head_width=config.kv_channels,
            experts=count,
            chosen=chosen,
            positions=positions,
            causal=True,
            dropout=config.attention_dropout,
        )
        experts = routed(config, count, top_k_softmax(chosen), config.intermediate_size)
        # Only the last norm reads the config's epsilon.
        return llama.layer(
            config, attention, Biased(experts, config.hidden_size), lambda c: RMSNorm(c.hidden_size, 1e-6)
        )

    return llama.decoder(config, layer)


def keys(config: JetMoeConfig) -> KeyMap:
    attention, moe, ours = "layers.*.self_attention", "layers.*.mlp", "layers.*.ffn.step"
    count, inner = config.num_local_experts, config.num_key_value_heads * config.kv_channels
    halves = (config.intermediate_size,) * 2
    rows: dict[str, str | Source] = {
        "layers.*.attention.step.k": Part(f"{attention}.kv_proj", (inner, inner), 0),
        "layers.*.attention.step.v": Part(f"{attention}.kv_proj", (inner, inner), 1),
        "layers.*.attention.step.router": f"{attention}.experts.router.layer",
        "layers.*.attention.step.into": f"{attention}.experts.input_linear.weight",
        "layers.*.attention.step.back": f"{attention}.experts.output_linear.weight",
        "layers.*.attention.step.bias": f"{attention}.experts.bias",
        f"{ours}.bias": f"{moe}.bias",
        f"{ours}.step.router": f"{moe}.router.layer",
        f"{ours}.step.experts.*.gate.weight": SlicePart(f"{moe}.input_linear.weight", count, 0, halves, 0),
        f"{ours}.step.experts.*.up.weight": SlicePart(f"{moe}.input_linear.weight", count, 0, halves, 1),
        f"{ours}.step.experts.*.down.weight": Slice(f"{moe}.output_linear.weight", count),
    }
    return llama.keys(config, rows, (*DENSE, "layers.*.attention.step.q", "layers.*.attention.step.out"))


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")}
ARCHITECTURE = llama.ARCHITECTURE.derive("JetMoe", JetMoeConfig, build, keys=keys, heads=HEADS)
