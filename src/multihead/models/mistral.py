"""Mistral (Jiang et al., 2023, arXiv:2310.06825): Llama whose layers see a window. Ministral: some of them.

Ministral 3 (arXiv:2601.08584) has no window: queries far into a text are scaled instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.query_scale import PositionScale
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_of


@dataclass(kw_only=True)
class MistralConfig(llama.LlamaConfig):
    model_type = "mistral"

    intermediate_size: Size = 14336
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Size = 131072
    sliding_window: Size | None = 4096


@dataclass(kw_only=True)
class MinistralConfig(MistralConfig):
    model_type = "ministral"

    layer_types: list[str] | None = None


@dataclass(kw_only=True)
class Ministral3Config(MistralConfig):
    model_type = "ministral3"

    vocab_size: Size = 131072
    num_hidden_layers: Count = 34
    head_dim: Size | None = 128
    max_position_embeddings: Size = 262144
    rms_norm_eps: float = 1e-5
    sliding_window: Size | None = None
    pad_token_id: int | None = 11

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        usual = {"rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 16384}
        return super().normalized(with_growing_queries(entries, usual))


def with_growing_queries(entries: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """Return entries with these YaRN parameters, and the scale of queries, where they have no rotary parameters."""
    if entries.get("rope_parameters") or entries.get("rope_scaling"):
        return entries
    more = {"beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1}
    return {**entries, "rope_parameters": {"rope_type": "yarn", **usual, **more}}


def query_scale(config: Any) -> PositionScale:
    """Return the scale of queries by their positions.

    Raises:
        UnsupportedConfig: the rotary parameters do not say it.
    """
    weight, length = (
        config.rope_parameters.get(name) for name in ("llama_4_scaling_beta", "original_max_position_embeddings")
    )
    if not isinstance(weight, (int, float)) or not isinstance(length, int) or length < 1:
        raise UnsupportedConfig(
            f"{config.model_type} needs llama_4_scaling_beta and original_max_position_embeddings in rope_parameters, "
            f"not {weight!r} and {length!r}."
        )
    return PositionScale(weight, length)


def build(config: MistralConfig) -> Stack:
    return windowed(config, [SLIDING] * config.num_hidden_layers)


def build_mixed(config: MinistralConfig) -> Stack:
    usual = SLIDING if config.sliding_window is not None else FULL
    return windowed(config, layer_kinds(config, [usual] * config.num_hidden_layers))


def build_scaled(config: Ministral3Config) -> Stack:
    return windowed(config, [SLIDING] * config.num_hidden_layers, query_scale=query_scale(config))


def windowed(config: MistralConfig, kinds: list[str], **options: Any) -> Stack:
    """Build a stack of Llama's layers, some of them with a sliding window; `options` are those of attention."""
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        attention = llama.attention(config, positions, window=window, **options)
        return llama.layer(config, attention, llama.feed_forward(config))

    return llama.decoder(config, layer)


HEADS = {**llama.HEADS, "ForQuestionAnswering": partial(llama.answer, prefix=None)}
ARCHITECTURE = replace(llama.ARCHITECTURE, name="Mistral", config=MistralConfig, build=build, heads=HEADS)
MINISTRAL = llama.ARCHITECTURE.derive("Ministral", MinistralConfig, build_mixed)
MINISTRAL3 = replace(ARCHITECTURE, name="Ministral3", config=Ministral3Config, build=build_scaled)
