"""Jais 2 (Inception, 2025): Llama with layer norms, biases, and squared ReLU in place of its gates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from ..config import Size
from ..nn.weights import LayerNorm
from . import llama, nemotron


@dataclass(kw_only=True)
class Jais2Config(llama.LlamaConfig):
    model_type = "jais2"

    vocab_size: Size = 150272
    hidden_size: Size = 3328
    intermediate_size: Size = 26624
    num_attention_heads: Size = 26
    hidden_act: str = "relu2"
    max_position_embeddings: Size = 8192
    layer_norm_eps: float = 1e-5
    attention_bias: bool = True
    mlp_bias: bool = True
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 150024


def norm(config: Any) -> nn.Module:
    return LayerNorm(config.hidden_size, config.layer_norm_eps)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
build = partial(nemotron.build, norm=norm)
ARCHITECTURE = llama.ARCHITECTURE.derive("Jais2", Jais2Config, build, keys=nemotron.keys, heads=HEADS)
