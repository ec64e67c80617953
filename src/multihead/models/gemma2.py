"""Gemma 2 (Riviere et al., 2024, arXiv:2408.00118): norms around each step, soft caps, alternating windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Count, Size
from ..heads.heads import Head
from ..nn.attention.attention import Attention
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import SLIDING, every, layer_kinds, rotary_of
from .gemma import HEADS, GemmaConfig, norm, words

SANDWICH: Rows = {
    "layers.*.attention.out": "layers.*.post_attention_layernorm",
    "layers.*.ffn.before": "layers.*.pre_feedforward_layernorm",
    "layers.*.ffn.out": "layers.*.post_feedforward_layernorm",
}


@dataclass(kw_only=True)
class Gemma2Config(GemmaConfig):
    model_type = "gemma2"

    hidden_size: Size = 2304
    intermediate_size: Size = 9216
    num_hidden_layers: Count = 26
    num_attention_heads: Size = 8
    num_key_value_heads: Size | None = 4
    query_pre_attn_scalar: float = 256
    sliding_window: Size | None = 4096
    layer_types: list[str] | None = None
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0

    def to_dict(self) -> dict[str, Any]:
        """Return the entries with the file's own name for the activation."""
        entries = super().to_dict()
        return {**entries, "hidden_activation": entries.pop("hidden_act")}


def attention(config: Gemma2Config, kind: str, **changes: Any) -> Attention:
    """Build the attention of a layer type, with the scale and softcap of the config."""
    near = changes.pop("window", config.sliding_window)
    window = near if kind == SLIDING else None
    usual = {"scale": config.query_pre_attn_scalar**-0.5, "softcap": config.attn_logit_softcapping}
    return llama.attention(config, changes.pop("positions"), window=window, **{**usual, **changes})


def layer(config: Gemma2Config, attention: Attention) -> Layer:
    first = Residual(attention, before=norm(config), out=norm(config))
    return Layer(first, Residual(llama.feed_forward(config), before=norm(config), out=norm(config)))


def build(config: Gemma2Config) -> Stack:
    positions = rotary_of(config, config.head_width)
    kinds = layer_kinds(config, every(2, config.num_hidden_layers))
    layers = [layer(config, attention(config, kind, positions=positions)) for kind in kinds]
    return llama.decoder(config, lambda i: layers[i], norm, words(config))


def keys(config: Gemma2Config) -> KeyMap:
    return llama.keys(config, SANDWICH)


GGUF_SANDWICH: Rows = {
    "layers.*.attention.out": gguf.Shifted("blk.*.post_attention_norm"),
    "layers.*.ffn.out": gguf.Shifted("blk.*.post_ffw_norm"),
}


MEAN_SCALED = {"gemma2": 46, "gemma3": 62}  # layers of the largest models


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file: softcaps of file or family; rotary entries are the full layers'."""
    kind = metadata["general.architecture"]
    width = metadata[f"{kind}.attention.key_length"]
    if metadata.get(f"{kind}.block_count") == MEAN_SCALED.get(kind):  # the 27B model scales by its mean width a head
        width = metadata[f"{kind}.embedding_length"] // metadata[f"{kind}.attention.head_count"]
    names = (*llama.GGUF_NAMES, "sliding_window", "attn_logit_softcapping", "final_logit_softcapping")
    return {**gguf.entries(metadata, names), "query_pre_attn_scalar": width}


def generate(config: Gemma2Config, backbone: Stack) -> Head:
    return llama.generate(config, backbone, softcap=config.final_logit_softcapping)


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="Gemma2",
    config=Gemma2Config,
    build=build,
    keys=keys,
    heads={**HEADS, "ForCausalLM": generate},
    layouts={"gguf": partial(gguf.llama_keys, more=GGUF_SANDWICH, norms=gguf.Shifted)},
    foreign_config={"gguf": gguf_config},
)
