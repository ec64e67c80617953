"""Nemotron-4 (Parmar et al., 2024, arXiv:2402.16819): squared ReLU without a gate, centred layer norms, part rotary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Source
from ..config import Size
from ..nn.feedforward import FeedForward
from ..nn.norms import CentredLayerNorm
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class NemotronConfig(llama.LlamaConfig):
    model_type = "nemotron"
    rotary_factor: ClassVar[float | None] = 0.5

    vocab_size: Size = 256000
    hidden_size: Size = 6144
    intermediate_size: Size = 24576
    num_attention_heads: Size = 48
    hidden_act: str = "relu2"
    max_position_embeddings: Size = 4096
    initializer_range: float = 0.0134
    norm_eps: float = 1e-5
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3


def norm(config: Any) -> nn.Module:
    return CentredLayerNorm(config.hidden_size, config.norm_eps)


def feed_forward(config: Any) -> FeedForward:
    """Build a feed-forward network without a gate."""
    return FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act, bias=config.mlp_bias)


def build(config: Any, norm: llama.Norm = norm) -> Stack:
    """Build Llama with other norms and no gates."""
    positions = rotary_of(config, config.head_width)
    return llama.decoder(
        config,
        lambda i: llama.layer(config, llama.attention(config, positions), feed_forward(config), norm),
        norm,
    )


def keys(config: Any, more: Rows | None = None) -> KeyMap:
    return llama.keys(config, more, without=("layers.*.ffn.step.gate",))


def gguf_keys(config: NemotronConfig) -> KeyMap:
    """Return the key map of llama.cpp's names, whose norms' weights are around 1; their biases are as they are."""
    plain = gguf.llama_keys(config, without=("layers.*.ffn.step.gate",))
    norms: dict[str, str | Source] = {}
    for ours in ("layers.*.attention.before", "layers.*.ffn.before", "norm"):
        theirs = plain.rows[ours]
        key = theirs if isinstance(theirs, str) else theirs.key
        norms |= {f"{ours}.weight": gguf.Shifted(f"{key}.weight"), f"{ours}.bias": f"{key}.bias"}
    rows = {ours: theirs for ours, theirs in plain.rows.items() if f"{ours}.weight" not in norms}
    return replace(plain, rows={**rows, **norms})


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = {**llama.gguf_config(metadata), **gguf.entries(metadata, (), norm_eps="layer_norm_eps")}
    width = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
    return {**found, **gguf.rotary_factor(metadata, width)}


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Nemotron",
    NemotronConfig,
    build,
    keys=keys,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
