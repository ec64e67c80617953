"""Qwen 2 and 2.5 (Yang et al., 2024, arXiv:2407.10671): Llama with biases in front of attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_of


@dataclass(kw_only=True)
class Qwen2Config(llama.LlamaConfig):
    model_type = "qwen2"
    inert = ("use_mrope",)

    vocab_size: Size = 151936
    intermediate_size: Size = 22016
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 32768
    use_sliding_window: bool = False
    sliding_window: Size | None = 4096
    max_window_layers: Count = 28
    layer_types: list[str] | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


def windows(config: Qwen2Config, usual: Sequence[str] | None = None) -> list[int | None]:
    """Return the sliding window of each layer; None for full attention.

    Args:
        usual: the layers' kinds where `layer_types` does not say them; None for Qwen2's.

    Raises:
        UnsupportedConfig: layers are said to slide, and no window.
    """
    window = (config.sliding_window or None) if config.use_sliding_window else None
    late = [SLIDING if window and i >= config.max_window_layers else FULL for i in range(config.num_hidden_layers)]
    kinds = layer_kinds(config, late if usual is None else usual)
    if SLIDING in kinds and window is None:
        raise UnsupportedConfig("layer_types has sliding layers; use_sliding_window or sliding_window says no window.")
    return [window if kind == SLIDING else None for kind in kinds]


def build(config: Qwen2Config) -> Stack:
    positions, window = rotary_of(config, config.head_width), windows(config)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, bias=True, out_bias=False, window=window[i])
        return llama.layer(config, attention, llama.feed_forward(config))

    return llama.decoder(config, layer)


ARCHITECTURE = replace(
    llama.ARCHITECTURE, name="Qwen2", config=Qwen2Config, build=build, layouts={"gguf": gguf.llama_keys}
)
