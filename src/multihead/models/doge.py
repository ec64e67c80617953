"""Doge (SmallDoge, 2025, arXiv:2508.02124): dynamic mask attention, and residuals with learned scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.attention.dynamic_mask import DynamicMaskAttention
from ..nn.layer import Layer, ScaledResidual
from ..nn.norms import RMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class DogeConfig(llama.LlamaConfig):
    model_type = "doge"
    inert: ClassVar[tuple[str, ...]] = (  # of experts
        "num_experts", "num_experts_per_tok", "norm_topk_prob", "output_router_logits", "router_aux_loss_coef",
    )  # fmt: skip

    vocab_size: Size = 32768
    hidden_size: Size = 1024
    intermediate_size: Size = 2048
    num_attention_heads: Size = 8
    attention_dropout: float | None = 0.0  # type: ignore[assignment]
    hidden_dropout: float = 0.0
    sliding_window: Size | None = None
    keep_window_size: Size = 2048
    is_moe: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def check(self) -> None:
        super().check()
        if self.is_moe:
            raise UnsupportedConfig(
                "is_moe: the experts of a token depend on the other texts of its batch and on later tokens in the "
                "reference, so no packed batch can give the same numbers."
            )


def attention(config: DogeConfig, positions: Positions) -> DynamicMaskAttention:
    return DynamicMaskAttention(
        config.hidden_size,
        config.num_attention_heads,
        key_heads=config.num_key_value_heads or config.num_attention_heads,
        head_width=config.head_width,
        keep=config.keep_window_size,
        bias=config.attention_bias,
        positions=positions,
        causal=True,
        window=config.sliding_window,
        q_norm=RMSNorm(config.head_width, config.rms_norm_eps),
        k_norm=RMSNorm(config.head_width, config.rms_norm_eps),
        dropout=config.attention_dropout or 0.0,
    )


def build(config: DogeConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(_: int) -> Layer:
        steps = attention(config, positions), llama.feed_forward(config)
        return Layer(
            *(
                ScaledResidual(step, config.hidden_size, before=llama.norm(config), dropout=config.hidden_dropout)
                for step in steps
            )
        )

    return llama.decoder(config, layer)


def keys(config: DogeConfig) -> KeyMap:
    own = {
        "layers.*.attention.step.q_norm": "layers.*.self_attn.q_norm",
        "layers.*.attention.step.k_norm": "layers.*.self_attn.k_norm",
        "layers.*.attention.step.strength": "layers.*.self_attn.A",
        "layers.*.attention.step.rate": "layers.*.self_attn.dt_proj",
        "layers.*.attention.keep": "layers.*.input_residual",
        "layers.*.ffn.keep": "layers.*.post_attention_residual",
    }
    return llama.keys(config, own)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")}
ARCHITECTURE = llama.ARCHITECTURE.derive("Doge", DogeConfig, build, keys=keys, heads=HEADS)
