"""Gemma 3n's language model (Google, 2025, model card of gemma-3n-E4B): AltUp, LAuReL and per-layer embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.altup import AltUp, AltUpEmbeddings, AltUpLayer, AltUpMerge, Laurel, LaurelResidual
from ..nn.feedforward import GatedFeedForward, SparseGatedFeedForward
from ..nn.layer import Residual
from ..nn.norms import WideRMSNorm
from ..nn.per_layer import PerLayerInput
from ..nn.stack import Stack
from ..nn.weights import Linear, ScaledEmbedding
from . import gemma2, gemma4, llama
from .common.patterns import FULL, SLIDING, every, layer_kinds, layered_rope_entries, rotary_by_layer
from .gemma import GemmaConfig, words
from .gemma4 import norm
from .qwen3 import NORMS


@dataclass(kw_only=True)
class Gemma3nTextConfig(GemmaConfig):
    model_type = "gemma3n_text"
    inert = (*GemmaConfig.inert, "query_pre_attn_scalar", "altup_lr_multiplier")  # scores are not scaled
    attention_k_eq_v: ClassVar[bool] = False
    num_global_key_value_heads: ClassVar[None] = None

    vocab_size: Size = 262400
    hidden_size: Size = 2048
    intermediate_size: Size | list[int] = 16384  # type: ignore[assignment]  # of each layer
    num_hidden_layers: Count = 35
    num_attention_heads: Size = 8
    num_key_value_heads: Size | None = 2
    max_position_embeddings: Size = 32768
    sliding_window: Size = 512
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = 30.0
    vocab_size_per_layer_input: Size = 262144
    hidden_size_per_layer_input: Size = 256
    altup_active_idx: int = 0
    altup_coef_clip: float | None = 120.0
    altup_correct_scale: bool = True
    altup_num_inputs: Size = 4
    num_kv_shared_layers: int = 15
    laurel_rank: Size = 64
    activation_sparsity_pattern: list[float] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read a rotary base each for full and sliding layers; older: rope_theta and rope_local_base_freq."""
        local, base = entries.pop("rope_local_base_freq", None), entries.pop("rope_theta", None)
        thetas = {SLIDING: 10000.0 if local is None else local, FULL: 1000000.0 if base is None else base}
        named = entries.pop("hidden_activation", None)
        entries = layered_rope_entries(entries, thetas)
        return {**entries, "hidden_act": named} if named else entries

    def check(self) -> None:
        for name, given in (("intermediate_size", self.inner), ("activation_sparsity_pattern", self.sparsity)):
            if len(given) != self.num_hidden_layers:
                raise UnsupportedConfig(f"{name} has {len(given)} numbers for {self.num_hidden_layers} layers.")
        if not all(0 <= share < 1 for share in self.sparsity):
            raise UnsupportedConfig(f"activation_sparsity_pattern holds shares below 1, not {self.sparsity}.")
        if not all(isinstance(self.rope_parameters.get(kind), Mapping) for kind in (SLIDING, FULL)):
            raise UnsupportedConfig(f"rope_parameters must hold {SLIDING!r} and {FULL!r}, not {self.rope_parameters}.")
        if not 0 <= self.altup_active_idx < self.altup_num_inputs:
            raise UnsupportedConfig(f"altup_active_idx is {self.altup_active_idx} of {self.altup_num_inputs} inputs.")
        gemma4.check_shared(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the entries with the file's own name for the activation."""
        entries = super().to_dict()
        return {**entries, "hidden_activation": entries.pop("hidden_act")}

    @property
    def global_head_dim(self) -> int:
        return self.head_width

    @property
    def inner(self) -> list[int]:
        """Width of the feed-forward of each layer."""
        given: Any = self.intermediate_size
        return list(given) if isinstance(given, list) else [given] * self.num_hidden_layers

    @property
    def sparsity(self) -> list[float]:
        """Share of closed gates in each layer."""
        count = self.num_hidden_layers
        default = [0.95 if count > 10 and i < 10 else 0.0 for i in range(count)]
        return default if self.activation_sparsity_pattern is None else self.activation_sparsity_pattern

    @cached_property
    def kinds(self) -> list[str]:
        return layer_kinds(self, every(5, self.num_hidden_layers))

    @property
    def first_shared(self) -> int:
        """The first layer that reads an earlier one's keys and values."""
        return self.num_hidden_layers - self.num_kv_shared_layers


def feed_forward(config: Gemma3nTextConfig, i: int) -> GatedFeedForward:
    sizes, share = (config.hidden_size, config.inner[i], config.hidden_act), config.sparsity[i]
    return SparseGatedFeedForward(*sizes, share) if share > 0 else GatedFeedForward(*sizes)


def build(config: Gemma3nTextConfig) -> Stack:
    positions, width = rotary_by_layer(config, config.head_width), config.hidden_size
    count, inner = config.altup_num_inputs, config.hidden_size_per_layer_input

    def layer(i: int) -> AltUpLayer:
        attention = gemma4.attention(config, i, positions[config.kinds[i]])
        return AltUpLayer(
            AltUp(width, count, config.altup_active_idx, norm(config), config.altup_coef_clip),
            LaurelResidual(
                attention, Laurel(width, config.laurel_rank, norm(config)), before=norm(config), out=norm(config)
            ),
            Residual(feed_forward(config, i), before=norm(config), out=norm(config)),
            PerLayerInput(i, width, inner, config.hidden_act),
            norm(config),
            width=width,
            scaled=config.altup_correct_scale,
        )

    whole = config.num_hidden_layers * inner
    embed = AltUpEmbeddings(
        words(config),
        config.num_hidden_layers,
        ScaledEmbedding(config.vocab_size_per_layer_input, whole, inner**0.5),
        Linear(width, whole, bias=False),
        WideRMSNorm(inner, config.rms_norm_eps),
        scales=(width**-0.5, 2**-0.5),
        searched=False,
        streams=count,
        width=width,
    )
    return Stack(embed, [layer(i) for i in range(config.num_hidden_layers)], AltUpMerge(width, count, norm(config)))


def keys(config: Gemma3nTextConfig) -> KeyMap:
    own = {
        **gemma2.SANDWICH, **NORMS, **gemma4.PER_LAYER,
        "embed.streams.*": "altup_projections.*",
        "norm.streams.*": "altup_unembed_projections.*",
        "norm.norm": "norm",
        "layers.*.altup.norm": "layers.*.altup.router_norm",
        "layers.*.altup.router": "layers.*.altup.modality_router",
        "layers.*.altup.prediction": "layers.*.altup.prediction_coefs",
        "layers.*.altup.correction": "layers.*.altup.correction_coefs",
        "layers.*.scale": "layers.*.altup.correct_output_scale",
        "layers.*.attention.laurel.left": "layers.*.laurel.linear_left",
        "layers.*.attention.laurel.right": "layers.*.laurel.linear_right",
        "layers.*.attention.laurel.norm": "layers.*.laurel.post_laurel_norm",
        "layers.*.extra.gate": "layers.*.per_layer_input_gate",
        "layers.*.extra.out": "layers.*.per_layer_projection",
        "layers.*.extra_norm": "layers.*.post_per_layer_input_norm",
    }  # fmt: skip
    table = llama.keys(config, own, ("norm",))
    ignored = (*table.ignored, *gemma4.unread(config))
    return replace(table, ignored=ignored, prefixes=(*table.prefixes, "model.language_model.", "language_model."))


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Gemma3n", Gemma3nTextConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": gemma2.generate}
)
