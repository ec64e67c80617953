"""Helium 1 (Kyutai, 2025): Llama whose norms multiply in float32, and whose rotary pairs lie side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import ernie4_5, llama
from .common.patterns import rotary_of
from .olmo2 import norm


@dataclass(kw_only=True)
class HeliumConfig(llama.LlamaConfig):
    model_type = "helium"
    theta: ClassVar[float] = 100000.0

    vocab_size: Size = 48000
    hidden_size: Size = 2560
    intermediate_size: Size = 7040
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 20
    num_key_value_heads: Size | None = 20
    head_dim: Size | None = 128
    max_position_embeddings: Size = 4096
    rms_norm_eps: float = 1e-8
    pad_token_id: int | None = 3

    def check(self) -> None:
        super().check()
        if self.num_attention_heads * self.head_width != self.hidden_size:
            raise UnsupportedConfig(
                f"{self.num_attention_heads} heads of head_dim {self.head_width} must fill hidden_size "
                f"{self.hidden_size}: attention's last matrix is square."
            )


def build(config: HeliumConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, out_bias=False)
        return llama.layer(config, attention, llama.feed_forward(config), norm)

    return llama.decoder(config, layer, norm)


HEADS = {end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"}
ARCHITECTURE = llama.ARCHITECTURE.derive("Helium", HeliumConfig, build, keys=ernie4_5.keys, heads=HEADS)
