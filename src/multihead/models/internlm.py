"""InternLM 3 (Shanghai AI Laboratory, 2025): Llama whose config names the biases `qkv_bias` and `bias`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..config import Count, Size
from ..errors import UnsupportedConfig
from . import llama


@dataclass(kw_only=True)
class InternLM3Config(llama.LlamaConfig):
    model_type = "internlm3"
    aliases: ClassVar = {"qkv_bias": "attention_bias", "bias": "mlp_bias"}

    vocab_size: Size = 128512
    intermediate_size: Size = 10240
    num_hidden_layers: Count = 48
    num_key_value_heads: Size | None = 2
    head_dim: Size | None = 128
    max_position_embeddings: Size = 32768
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 2

    def check(self) -> None:
        super().check()
        if self.attention_bias != self.mlp_bias:
            raise UnsupportedConfig(
                f"qkv_bias is {self.attention_bias} and bias {self.mlp_bias}; InternLM 3 is computed with equal ones."
            )


ARCHITECTURE = llama.ARCHITECTURE.derive("InternLM3", InternLM3Config, llama.build)
