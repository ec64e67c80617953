"""Granite 3 (IBM, 2024): Llama whose words, attention, residuals and scores are multiplied by numbers of the config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common import gguf
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


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, in which a multiplier that is not written is the usual one.

    Raises:
        UnsupportedConfig: a model without positions, as llama.cpp's converter of the hybrid models marks it.
    """
    turned = f"{metadata['general.architecture']}.rope.scaling.finetuned"
    if not metadata.get(turned, True):
        raise UnsupportedConfig(f"{turned} is false: layers without rotary positions are not computed here.")
    return gguf_scales(metadata)


def gguf_scales(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file without a look at its positions."""
    found = llama.gguf_config(metadata)
    width = found["hidden_size"] // found["num_attention_heads"]
    own = gguf.named(
        metadata, embedding_multiplier="embedding_scale", attention_multiplier="attention.scale",
        residual_multiplier="residual_scale", logits_scaling="logit_scale",
    )  # fmt: skip
    return {**found, "attention_multiplier": width**-0.5, **own}


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Granite",
    GraniteConfig,
    build,
    heads={"Model": None, "ForCausalLM": generate},
    layouts={"gguf": partial(gguf.llama_keys, turned=True)},
    foreign_config={"gguf": gguf_config},
)
