"""Mistral (Jiang et al., 2023, arXiv:2310.06825): Llama whose layers see a window. Ministral: some of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from ..config import Size
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


def build(config: MistralConfig) -> Stack:
    return windowed(config, [SLIDING] * config.num_hidden_layers)


def build_mixed(config: MinistralConfig) -> Stack:
    usual = SLIDING if config.sliding_window is not None else FULL
    return windowed(config, layer_kinds(config, [usual] * config.num_hidden_layers))


def windowed(config: MistralConfig, kinds: list[str]) -> Stack:
    """Build a stack of Llama's layers, some of them with a sliding window."""
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        return llama.layer(config, llama.attention(config, positions, window=window), llama.feed_forward(config))

    return llama.decoder(config, layer)


HEADS = {**llama.HEADS, "ForQuestionAnswering": partial(llama.answer, prefix=None)}
ARCHITECTURE = replace(llama.ARCHITECTURE, name="Mistral", config=MistralConfig, build=build, heads=HEADS)
MINISTRAL = llama.ARCHITECTURE.derive("Ministral", MinistralConfig, build_mixed)
