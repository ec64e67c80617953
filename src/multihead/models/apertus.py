"""Apertus (Swiss AI Initiative, 2025, arXiv:2509.14233): xIELU without a gate, normed queries and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..nn.stack import Stack
from . import cwm, llama, nemotron, qwen3
from .common.patterns import own_rope, rotary_of

ROPE = {**cwm.ROPE, "rope_theta": 12000000.0, "factor": 8.0}


@dataclass(kw_only=True)
class ApertusConfig(llama.LlamaConfig):
    model_type = "apertus"
    inert = ("hidden_dropout",)  # which no layer has
    theta: ClassVar[float] = 12000000.0

    vocab_size: Size = 131072
    intermediate_size: Size = 14336
    hidden_act: str = "xielu"
    max_position_embeddings: Size = 65536
    rms_norm_eps: float = 1e-5
    mlp_bias: Literal[False] = False
    post_norm: Literal[False] = False
    qk_norm: Literal[True] = True
    pad_token_id: int | None = 3

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return super().normalized(own_rope(entries, ROPE))


def build(config: ApertusConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    return llama.decoder(
        config,
        lambda i: llama.layer(config, qwen3.attention(config, positions), nemotron.feed_forward(config)),
    )


def keys(config: ApertusConfig) -> KeyMap:
    own = {
        **qwen3.NORMS,
        "layers.*.attention.before": "layers.*.attention_layernorm",
        "layers.*.ffn.before": "layers.*.feedforward_layernorm",
    }
    return nemotron.keys(config, own)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForTokenClassification")}
ARCHITECTURE = llama.ARCHITECTURE.derive("Apertus", ApertusConfig, build, keys=keys, heads=HEADS)
