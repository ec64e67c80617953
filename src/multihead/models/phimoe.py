"""Phi-3.5-MoE (arXiv:2404.14219): Mixtral with layer norms and sparse-mixer routing (arXiv:2409.12136)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.experts import SparseMixer
from ..nn.layer import Layer
from ..nn.positions import Rotary, rotary
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import gptj, llama, mixtral
from .common.experts import routed


@dataclass(kw_only=True)
class PhimoeConfig(llama.LlamaConfig):
    model_type = "phimoe"
    theta: ClassVar[float] = 1000000.0

    vocab_size: Size = 32064
    intermediate_size: Size = 6400
    num_hidden_layers: Count = 32
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Size = 131072
    original_max_position_embeddings: Size | None = None
    rms_norm_eps: float = 1e-5
    sliding_window: Size | None = None
    num_experts_per_tok: Literal[2] = 2
    num_local_experts: Copies = 16
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    router_jitter_noise: float = 0.01
    input_jitter_noise: float = 0.0
    lm_head_bias: bool = False
    hidden_dropout: Literal[0.0, 0] = 0.0  # type: ignore[valid-type]

    def check(self) -> None:
        super().check()
        rope = self.rope_parameters
        if rope.get("rope_type", "default") == "default":
            return
        short, long = rope.get("short_mscale"), rope.get("long_mscale")
        if not isinstance(short, (int, float)) or short != long:
            raise UnsupportedConfig(
                f"rope_parameters: short_mscale and long_mscale must be one number here, not {short!r} and {long!r}."
            )


def norm(config: Any) -> nn.Module:
    return LayerNorm(config.hidden_size, config.rms_norm_eps)


def positions_of(config: PhimoeConfig) -> Rotary:
    """Return rotary positions; where they are scaled, `short_mscale` multiplies what is turned."""
    rope = config.rope_parameters
    scaled = {} if rope.get("rope_type", "default") == "default" else {"attention_factor": rope["short_mscale"]}
    return rotary(config.head_width, {**rope, **scaled}, config.max_position_embeddings)


def build(config: PhimoeConfig) -> Stack:
    positions, noise = positions_of(config), (config.input_jitter_noise,) * 2

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, window=config.sliding_window)
        rule = SparseMixer(config.router_jitter_noise)
        experts = routed(config, config.num_local_experts, rule, config.intermediate_size, jitter=noise)
        return llama.layer(config, attention, experts, norm)

    return llama.decoder(config, layer, norm)


def keys(config: PhimoeConfig) -> KeyMap:
    table = mixtral.keys(config)
    router = (r"\.mlp\.router\.", ".block_sparse_moe.gate.")  # the reference's own name
    return replace(table, renamed=(router, *table.renamed))


def generate(config: PhimoeConfig, backbone: Stack) -> Head:
    return gptj.generate(config, backbone) if config.lm_head_bias else llama.generate(config, backbone)


HEADS = {"Model": None, "ForCausalLM": generate, "ForSequenceClassification": llama.classify_text}
ARCHITECTURE = llama.ARCHITECTURE.derive("Phimoe", PhimoeConfig, build, keys=keys, heads=HEADS)
