"""Muse Glimmer (Meta, 2026, model card of Muse-Glimmer-30B): Gemma 2's norms around gated attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.attention.output_gate import OutputGateAttention
from ..nn.layer import Layer, Residual
from ..nn.norms import PlainRMSNorm, WideRMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import NormedEmbedding
from . import gemma2, llama
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_of


@dataclass(kw_only=True)
class MuseGlimmerTextConfig(llama.LlamaConfig):
    model_type = "muse_glimmer_text"

    vocab_size: Size = 202048
    hidden_size: Size = 6656
    intermediate_size: Size = 19968
    num_hidden_layers: Count = 52
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 2
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    post_norm_eps: float = 1e-8
    sliding_window: Size | None = 2048
    layer_types: list[str] | None = None
    layer_rope_theta: list[float | int] | None = None
    qk_scale_factor: float = 3.87
    output_multiplier: float = 0.19611613513818404
    final_logit_softcapping: float = 20.0
    bos_token_id: int | None = 200000
    eos_token_id: int | list[int] | None = 200001

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        entries = super().normalized(entries)
        named = entries.pop("hidden_activation", None)
        return {**entries, "hidden_act": named} if named else entries

    def check(self) -> None:
        super().check()
        bases = self.bases
        if len(bases) != self.num_hidden_layers or set(bases) - {0, self.rope_parameters["rope_theta"]}:
            raise UnsupportedConfig(
                f"layer_rope_theta must be 0 or the base of rope_parameters for each layer, not {bases}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the entries with the file's own name for the activation."""
        entries = super().to_dict()
        return {**entries, "hidden_activation": entries.pop("hidden_act")}

    @property
    def wide(self) -> list[bool]:
        """Whether each layer is one of those without window and positions, by default."""
        count = self.num_hidden_layers
        return [(count - 1 - i) % 4 == 0 for i in range(count)]

    @property
    def bases(self) -> list[float | int]:
        """Rotary base of each layer, 0 for none."""
        usual = [0 if wide else self.rope_parameters["rope_theta"] for wide in self.wide]
        return usual if self.layer_rope_theta is None else self.layer_rope_theta


def build(config: MuseGlimmerTextConfig) -> Stack:
    positions, width, head = rotary_of(config, config.head_width), config.hidden_size, config.head_width
    kinds = layer_kinds(config, [FULL if wide else SLIDING for wide in config.wide])

    def residual(step: Any) -> Residual:
        before, out = (WideRMSNorm(width, eps, centre=1.0) for eps in (config.rms_norm_eps, config.post_norm_eps))
        return Residual(step, before=before, out=out)

    def layer(i: int) -> Layer:
        attention = OutputGateAttention(
            width,
            config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            head_width=head,
            bias=config.attention_bias,
            positions=positions if config.bases[i] else Positions(),
            causal=True,
            window=config.sliding_window if kinds[i] == SLIDING else None,
            scale=config.qk_scale_factor * head**-0.5,
            q_norm=PlainRMSNorm(head, config.rms_norm_eps),
            k_norm=PlainRMSNorm(head, config.rms_norm_eps),
            dropout=config.attention_dropout,
            by_head=False,
            soft=False,
        )
        return Layer(residual(attention), residual(llama.feed_forward(config)))

    words = NormedEmbedding(config.vocab_size, width, PlainRMSNorm(width, config.rms_norm_eps))
    return llama.decoder(config, layer, lambda _: WideRMSNorm(width, config.rms_norm_eps), words)


def keys(config: MuseGlimmerTextConfig) -> KeyMap:
    table = llama.keys(config, {**gemma2.SANDWICH, "layers.*.attention.step.gate": "layers.*.self_attn.gate_proj"})
    return replace(table, prefixes=(*table.prefixes, "model.language_model.", "language_model."))


def generate(config: MuseGlimmerTextConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, scale=config.output_multiplier, softcap=config.final_logit_softcapping)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "MuseGlimmerText",
    MuseGlimmerTextConfig,
    build,
    keys=keys,
    heads={"Model": None, "ForCausalLM": generate},
)
