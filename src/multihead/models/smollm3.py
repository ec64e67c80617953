"""SmolLM 3 (Hugging Face, 2025): Llama whose every fourth layer knows no positions (NoPE, arXiv:2501.18795)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.layer import Layer
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_of


@dataclass(kw_only=True)
class SmolLM3Config(llama.LlamaConfig):
    model_type = "smollm3"
    theta: ClassVar[float] = 2000000.0

    vocab_size: Size = 128256
    hidden_size: Size = 2048
    num_hidden_layers: Count = 36
    num_attention_heads: Size = 16
    num_key_value_heads: Size | None = 4
    max_position_embeddings: Size = 32768
    use_sliding_window: bool = False
    sliding_window: Size | None = None
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: Size = 4
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 128004
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001

    @property
    def turned(self) -> list[bool]:
        """For each layer, True if it has rotary positions; a 1 in `no_rope_layers` means that it has them."""
        if self.no_rope_layers is not None:
            return [bool(one) for one in self.no_rope_layers]
        return [(i + 1) % self.no_rope_layer_interval != 0 for i in range(self.num_hidden_layers)]

    def check(self) -> None:
        super().check()
        if len(self.turned) != self.num_hidden_layers:
            raise UnsupportedConfig(f"no_rope_layers has {len(self.turned)} entries, not {self.num_hidden_layers}.")


def build(config: SmolLM3Config) -> Stack:
    window = config.sliding_window  # of layers that are said to slide, whatever `use_sliding_window` says of others
    slides = config.use_sliding_window and window is not None
    usual = [SLIDING if slides and not turned else FULL for turned in config.turned]
    kinds, rotary, plain = layer_kinds(config, usual), rotary_of(config, config.head_width), Positions()

    def layer(i: int) -> Layer:
        positions = rotary if config.turned[i] else plain
        attention = llama.attention(config, positions, window=window if kinds[i] == SLIDING else None)
        return llama.layer(config, attention, llama.feed_forward(config))

    return llama.decoder(config, layer)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "SmolLM3",
    SmolLM3Config,
    build,
    layouts={"gguf": partial(gguf.llama_keys, turned=True)},
    foreign_config={"gguf": llama.gguf_config},
)
