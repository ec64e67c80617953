"""EmbeddingGemma 2's text encoder (Google, 2026, model card of embeddinggemma-2): Gemma 4's layers, both ways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..nn.layer import Residual
from ..nn.norms import WideRMSNorm
from ..nn.per_layer import PerLayerEmbeddings, PerLayerInput, ScaledLayer
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import gemma2, gemma4, llama
from .common.patterns import FULL, SLIDING, every, layer_kinds
from .gemma import GemmaConfig, words
from .gemma4 import norm
from .qwen3 import NORMS

ROPE = {
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
    FULL: {"rope_type": "default", "rope_theta": 1000000.0},
}


@dataclass(kw_only=True)
class EmbeddingGemma2TextConfig(GemmaConfig):
    model_type = "embedding_gemma2_text"
    attention_k_eq_v: ClassVar[bool] = False
    first_shared: ClassVar[float] = float("inf")
    num_kv_shared_layers: ClassVar[int] = 0

    vocab_size: Size = 262144
    hidden_size: Size = 512
    intermediate_size: Size = 2048
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 4
    num_key_value_heads: Size | None = 2
    global_head_dim: Size = 512
    num_global_key_value_heads: Size = 1
    max_position_embeddings: Size = 262144
    rope_parameters: dict[str, Any] | None = None  # type: ignore[assignment]
    sliding_window: Size = 512  # how far a token sees to either side
    sliding_window_pattern: Size = 6
    layer_types: list[str] | None = None
    hidden_size_per_layer_input: Size = 512
    embedding_dim: Size = 768

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the sizes of full layers, which newer files write for each such layer."""
        return gemma4.full_sizes(entries)

    def check(self) -> None:
        gemma4.check_rope(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the entries with the file's own name for the activation."""
        entries = super().to_dict()
        return {**entries, "hidden_activation": entries.pop("hidden_act")}

    @property
    def rope(self) -> dict[str, Any]:
        return ROPE if self.rope_parameters is None else self.rope_parameters

    @cached_property
    def kinds(self) -> list[str]:
        """Type of each layer; the last one sees all tokens, whatever the file says."""
        return gemma4.last_full(layer_kinds(self, every(self.sliding_window_pattern, self.num_hidden_layers)))


def build(config: EmbeddingGemma2TextConfig) -> Stack:
    inner, width = config.hidden_size_per_layer_input, config.hidden_size
    positions = gemma4.positions(config)

    def layer(i: int) -> ScaledLayer:
        full = config.kinds[i] == FULL
        attention = gemma4.attention(
            config,
            i,
            positions[config.kinds[i]],
            key_heads=config.num_global_key_value_heads if full else config.num_key_value_heads,
            causal=False,
            window=None if full else config.sliding_window + 1,
        )
        ffn = Residual(llama.feed_forward(config), before=norm(config), out=norm(config))
        extra = Residual(PerLayerInput(i, width, inner, config.hidden_act), out=norm(config))
        return ScaledLayer(Residual(attention, before=norm(config), out=norm(config)), ffn, extra)

    embed = PerLayerEmbeddings(
        words(config),
        config.num_hidden_layers,
        None,
        Linear(width, config.num_hidden_layers * inner, bias=False),
        WideRMSNorm(inner, config.rms_norm_eps),
        scales=(width**-0.5, 1.0),
        searched=False,
    )
    layers = [layer(i) for i in range(config.num_hidden_layers)]
    return Stack(embed, layers, norm(config), Linear(width, config.embedding_dim, bias=False))


def keys(config: EmbeddingGemma2TextConfig) -> KeyMap:
    own = {
        **gemma2.SANDWICH, **NORMS,
        "out": "embedding_projection",
        "embed.projection": "ple.per_layer_model_projection",
        "embed.per_layer_norm": "ple.per_layer_projection_norm",
        "layers.*.scalar": "layers.*.layer_scalar",
        "layers.*.extra.step.gate": "layers.*.ple_block.per_layer_input_gate",
        "layers.*.extra.step.out": "layers.*.ple_block.per_layer_projection",
        "layers.*.extra.out": "layers.*.ple_block.post_per_layer_input_norm",
    }  # fmt: skip
    return llama.keys(config, own)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "EmbeddingGemma2", EmbeddingGemma2TextConfig, build, keys=keys, heads={"Model": None}
)
