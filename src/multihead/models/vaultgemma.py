"""VaultGemma (Sinha et al., 2025, arXiv:2510.15001): Gemma 2 without the norms on what each step gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checkpoints.key_map import KeyMap
from ..nn.stack import Stack
from . import gemma2, llama
from .common.patterns import every, layer_kinds, rotary_of
from .gemma import norm, words


@dataclass(kw_only=True)
class VaultGemmaConfig(gemma2.Gemma2Config):
    model_type = "vaultgemma"


def build(config: VaultGemmaConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    kinds = layer_kinds(config, every(2, config.num_hidden_layers))
    steps = [gemma2.attention(config, kind, positions=positions) for kind in kinds]
    return llama.decoder(
        config, lambda i: llama.layer(config, steps[i], llama.feed_forward(config), norm), norm, words(config)
    )


def keys(config: VaultGemmaConfig) -> KeyMap:
    return llama.keys(config, {"layers.*.ffn.before": "layers.*.pre_feedforward_layernorm"})


ARCHITECTURE = replace(
    gemma2.ARCHITECTURE,
    name="VaultGemma",
    config=VaultGemmaConfig,
    build=build,
    keys=keys,
    heads={"Model": None, "ForCausalLM": gemma2.generate},
    layouts={},
    foreign_config={},
)
