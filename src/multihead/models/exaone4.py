"""EXAONE 4 (LG AI Research, 2025, arXiv:2507.11407): norms on what each step gives and on queries and keys, windows.

Layers without a window have no positions, if others have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.layer import Layer, Residual
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama, qwen3
from .common import gguf
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_of


@dataclass(kw_only=True)
class Exaone4Config(llama.LlamaConfig):
    model_type = "exaone4"

    vocab_size: Size = 102400
    intermediate_size: Size = 16384
    num_key_value_heads: Size | None = 32
    rms_norm_eps: float = 1e-5
    sliding_window: Size | None = 4096
    sliding_window_pattern: int | str | None = 4
    layer_types: list[str] | None = None
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    bos_token_id: int | None = 0

    @property
    def kinds(self) -> list[str]:
        """Kind of each layer: `layer_types`, or every so many of `sliding_window_pattern` full; "LLLG" is 4."""
        pattern = self.sliding_window_pattern if self.sliding_window is not None else None
        count = len(pattern) if isinstance(pattern, str) else pattern or 1
        usual = [SLIDING if (i + 1) % count else FULL for i in range(self.num_hidden_layers)]
        return layer_kinds(self, usual)

    def check(self) -> None:
        super().check()
        pattern = self.sliding_window_pattern
        if isinstance(pattern, str) and pattern != "L" * (len(pattern) - 1) + "G":
            raise UnsupportedConfig(f"sliding_window_pattern must be like 'LLLG', with one G at its end: {pattern!r}.")
        if SLIDING in self.kinds and self.sliding_window is None:
            raise UnsupportedConfig("layer_types has sliding layers, and sliding_window says no window.")


def build(config: Exaone4Config) -> Stack:
    rotary, plain, kinds, window = (
        rotary_of(config, config.head_width),
        Positions(),
        config.kinds,
        config.sliding_window,
    )

    def layer(i: int) -> Layer:
        slides = kinds[i] == SLIDING
        positions = rotary if slides or window is None else plain
        attention = qwen3.attention(config, positions, window if slides else None)
        ffn = llama.feed_forward(config)
        return Layer(Residual(attention, out=llama.norm(config)), Residual(ffn, out=llama.norm(config)))

    return llama.decoder(config, layer)


def keys(config: Exaone4Config) -> KeyMap:
    own = {
        **qwen3.NORMS,
        "layers.*.attention.out": "layers.*.post_attention_layernorm",
        "layers.*.ffn.out": "layers.*.post_feedforward_layernorm",
    }
    return llama.keys(config, own, without=("layers.*.attention.before", "layers.*.ffn.before"))


def gguf_keys(config: Exaone4Config) -> KeyMap:
    norms = {"layers.*.attention.out": "blk.*.post_attention_norm", "layers.*.ffn.out": "blk.*.post_ffw_norm"}
    without = ("layers.*.attention.before", "layers.*.ffn.before")
    return gguf.llama_keys(config, {**qwen3.GGUF_NORMS, **norms}, without)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file; one that names no window has none."""
    return {"sliding_window": None, **gguf.entries(metadata, (*llama.GGUF_NAMES, "sliding_window"))}


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Exaone4",
    Exaone4Config,
    build,
    keys=keys,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
