"""HyperCLOVA X SEED (NAVER, 2025): Granite with norms on what each step gives, and scores that are multiplied."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..heads.heads import Head
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from . import granite, llama
from .common.patterns import rotary_of

NORMS: Rows = {"layers.*.attention.out": "layers.*.post_norm1", "layers.*.ffn.out": "layers.*.post_norm2"}


@dataclass(kw_only=True)
class HyperCLOVAXConfig(granite.GraniteConfig):
    model_type = "hyperclovax"

    attention_multiplier: float | None = None  # type: ignore[assignment]
    use_post_norm: bool = True


def build(config: HyperCLOVAXConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def residual(step: nn.Module) -> Residual:
        out = llama.norm(config) if config.use_post_norm else None
        return Residual(step, before=llama.norm(config), out=out, scale=config.residual_multiplier)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, scale=config.attention_multiplier)
        return Layer(residual(attention), residual(llama.feed_forward(config)))

    return llama.decoder(config, layer, scale=config.embedding_multiplier, rescales=True)


def keys(config: HyperCLOVAXConfig) -> KeyMap:
    return llama.keys(config, NORMS)


def generate(config: HyperCLOVAXConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, scale=config.logits_scaling)


ARCHITECTURE = granite.ARCHITECTURE.derive(
    "HyperCLOVAX", HyperCLOVAXConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": generate}
)
