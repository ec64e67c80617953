"""GPT-OSS (OpenAI, 2025, arXiv:2508.10925): experts with clamped gates, attention sinks, alternating windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from ..checkpoints.keys import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.experts import RoutedExperts, StackedExperts, largest
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .patterns import SLIDING, every, layer_kinds, rotary_of

YARN: Mapping[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


@dataclass(frozen=True, kw_only=True)
class GptOssConfig(llama.LlamaConfig):
    model_type = "gpt_oss"
    theta: ClassVar[float] = 150000.0

    vocab_size: Size = 201088
    hidden_size: Size = 2880
    intermediate_size: Size = 2880
    num_hidden_layers: Count = 36
    num_attention_heads: Size = 64
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 64
    hidden_act: Literal["silu"] = "silu"
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    rope_parameters: dict[str, Any] = field(default_factory=lambda: dict(YARN))
    attention_bias: bool = True
    sliding_window: Size | None = 128
    layer_types: list[str] | None = None
    num_local_experts: Size = 128
    num_experts_per_tok: Size = 4
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    output_router_logits: Literal[False] = False
    router_aux_loss_coef: float = 0.001  # of a loss that is computed only with the router's scores shown
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        if not {"rope_parameters", "rope_scaling", "rope_theta"} & set(entries):
            entries = {**entries, "rope_parameters": dict(YARN)}
        return super().normalized(entries)

    def check(self) -> None:
        super().check()
        kind = self.extra.get("quantization_config")
        if kind:
            name = kind.get("quant_method", "?") if isinstance(kind, Mapping) else kind
            raise UnsupportedConfig(
                f"The checkpoint's weights are quantized by {name!r}, which is not read here yet; load one in bfloat16."
            )


def build(config: GptOssConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    kinds = layer_kinds(config, every(2, config.num_hidden_layers))

    def layer(i: int) -> Layer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        attention = llama.attention(config, positions, window=window, sinks=True)
        count, width = config.num_local_experts, config.hidden_size
        alpha, limit = config.swiglu_alpha, config.swiglu_limit
        each = StackedExperts(count, width, config.intermediate_size, alpha=alpha, limit=limit)
        return llama.layer(
            config, attention, RoutedExperts(width, each, count, largest(config.num_experts_per_tok), bias=True)
        )

    return llama.decoder(config, layer)


def keys(config: GptOssConfig) -> KeyMap:
    names = {"gate_up": "gate_up_proj", "gate_up_bias": "gate_up_proj_bias", "down": "down_proj"}
    names |= {"down_bias": "down_proj_bias"}
    own = {f"layers.*.ffn.step.experts.{ours}": f"layers.*.mlp.experts.{theirs}" for ours, theirs in names.items()}
    own |= {
        "layers.*.ffn.step.router": "layers.*.mlp.router",
        "layers.*.attention.step.sinks": "layers.*.self_attn.sinks",
    }
    return llama.keys(config, own, ("layers.*.ffn.step.gate", "layers.*.ffn.step.up", "layers.*.ffn.step.down"))


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="GptOss",
    config=GptOssConfig,
    build=build,
    keys=keys,
    heads={end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"},
    layouts={},
    foreign_config={},
)
