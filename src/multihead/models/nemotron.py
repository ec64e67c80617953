"""Nemotron-4 (Parmar et al., 2024, arXiv:2402.16819): squared ReLU without a gate, centred layer norms, part rotary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Size
from ..nn.feedforward import FeedForward
from ..nn.norms import CentredLayerNorm
from ..nn.stack import Stack
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class NemotronConfig(llama.LlamaConfig):
    model_type = "nemotron"
    rotary_factor: ClassVar[float | None] = 0.5

    vocab_size: Size = 256000
    hidden_size: Size = 6144
    intermediate_size: Size = 24576
    num_attention_heads: Size = 48
    hidden_act: str = "relu2"
    max_position_embeddings: Size = 4096
    initializer_range: float = 0.0134
    norm_eps: float = 1e-5
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3


def norm(config: Any) -> nn.Module:
    return CentredLayerNorm(config.hidden_size, config.norm_eps)


def feed_forward(config: Any) -> FeedForward:
    """Build a feed-forward network without a gate."""
    return FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act, bias=config.mlp_bias)


def build(config: Any, norm: llama.Norm = norm) -> Stack:
    """Build Llama with other norms and no gates."""
    positions = rotary_of(config, config.head_width)
    return llama.decoder(
        config,
        lambda i: llama.layer(config, llama.attention(config, positions), feed_forward(config), norm),
        norm,
    )


def keys(config: Any, more: Rows | None = None) -> KeyMap:
    return llama.keys(config, more, without=("layers.*.ffn.step.gate",))


ARCHITECTURE = llama.ARCHITECTURE.derive("Nemotron", NemotronConfig, build, keys=keys)
