"""Qwen 3 (Yang et al., 2025, arXiv:2505.09388): Llama whose queries and keys are normed head by head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Size
from ..nn.attention.attention import Attention
from ..nn.norms import RMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import rotary_of
from .qwen2 import Qwen2Config, windows

NORMS: Rows = {
    "layers.*.attention.step.q_norm": "layers.*.self_attn.q_norm",
    "layers.*.attention.step.k_norm": "layers.*.self_attn.k_norm",
}


@dataclass(kw_only=True)
class Qwen3Config(Qwen2Config):
    model_type = "qwen3"

    head_dim: Size | None = 128


def attention(config: llama.LlamaConfig, positions: Positions, window: int | None = None, **changes: Any) -> Attention:
    norms = {name: RMSNorm(config.head_width, config.rms_norm_eps) for name in ("q_norm", "k_norm")}
    return llama.attention(config, positions, window=window, **norms, **changes)


def build(config: Qwen3Config) -> Stack:
    positions, window = rotary_of(config, config.head_width), windows(config)
    return llama.decoder(
        config, lambda i: llama.layer(config, attention(config, positions, window[i]), llama.feed_forward(config))
    )


def keys(config: Qwen3Config) -> KeyMap:
    return llama.keys(config, NORMS)


GGUF_NORMS = {ours: f"blk.*.attn_{ours[-6:]}" for ours in NORMS}


def gguf_keys(config: Qwen3Config) -> KeyMap:
    return gguf.llama_keys(config, GGUF_NORMS)


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="Qwen3",
    config=Qwen3Config,
    build=build,
    keys=keys,
    layouts={"gguf": gguf_keys},
)
