"""OLMo (Groeneveld et al., 2024, arXiv:2402.00838): Llama with layer norms that have no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..nn.layer import Layer
from ..nn.norms import PlainLayerNorm
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class OlmoConfig(llama.LlamaConfig):
    model_type = "olmo"

    vocab_size: Size = 50304
    clip_qkv: float | None = None
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 50279


def norm(config: Any) -> nn.Module:
    return PlainLayerNorm(config.hidden_size, 1e-5)


def build(config: OlmoConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, clip=config.clip_qkv)
        return llama.layer(config, attention, llama.feed_forward(config), norm)

    return llama.decoder(config, layer, norm)


NORMS = ("layers.*.attention.before", "layers.*.ffn.before", "norm")


def keys(config: OlmoConfig) -> KeyMap:
    return llama.keys(config, without=NORMS)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {**llama.gguf_config(metadata), **gguf.named(metadata, clip_qkv="attention.clamp_kqv")}


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Olmo",
    OlmoConfig,
    build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": partial(gguf.llama_keys, without=NORMS, turned=True)},
    foreign_config={"gguf": gguf_config},
)
