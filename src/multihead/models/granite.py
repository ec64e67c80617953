"""Granite 3 (IBM, 2024): Llama whose words, attention, residuals and scores are multiplied by numbers of the config."""

from __future__ import annotations

from dataclasses import dataclass

from ..heads.heads import Head
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class GraniteConfig(llama.LlamaConfig):
    model_type = "granite"

    embedding_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0


def build(config: GraniteConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, scale=config.attention_multiplier)
        return llama.layer(config, attention, llama.feed_forward(config), scale=config.residual_multiplier)

    return llama.decoder(config, layer, scale=config.embedding_multiplier, rescales=True)


def generate(config: GraniteConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, scale=1.0 / config.logits_scaling)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Granite", GraniteConfig, build, heads={"Model": None, "ForCausalLM": generate}
)
