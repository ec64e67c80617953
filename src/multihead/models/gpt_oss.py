"""GPT-OSS (OpenAI, 2025, arXiv:2508.10925): experts with clamped gates, attention sinks, alternating windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source, Woven
from ..config import Copies, Count, Size
from ..nn.experts import ClampedGate, RoutedExperts, StackedExperts, top_k_softmax
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import SLIDING, every, layer_kinds, rotary_of

YARN: Mapping[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


@dataclass(kw_only=True)
class GptOssConfig(llama.LlamaConfig):
    model_type = "gpt_oss"
    inert = ("experts_per_token", "initial_context_length")
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
    attention_bias: bool = True
    sliding_window: Size | None = 128
    layer_types: list[str] | None = None
    num_local_experts: Copies = 128
    num_experts_per_tok: Size = 4
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001  # of the load-balancing loss, which is added where router logits are shown
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        if not {"rope_parameters", "rope_scaling", "rope_theta"} & set(entries):
            entries = {**entries, "rope_parameters": dict(YARN)}
        return super().normalized(entries)


def build(config: GptOssConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    kinds = layer_kinds(config, every(2, config.num_hidden_layers))

    def layer(i: int) -> Layer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        attention = llama.attention(config, positions, window=window, sinks=True)
        count, width = config.num_local_experts, config.hidden_size
        act = ClampedGate(config.swiglu_alpha, config.swiglu_limit)
        each = StackedExperts(count, width, config.intermediate_size, act)
        return llama.layer(
            config, attention, RoutedExperts(width, each, count, top_k_softmax(config.num_experts_per_tok), bias=True)
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


def gguf_keys(config: GptOssConfig) -> KeyMap:
    more: dict[str, str | Source] = {
        "layers.*.ffn.before": "blk.*.post_attention_norm",
        "layers.*.attention.step.sinks": "blk.*.attn_sinks.weight",
        "layers.*.ffn.step.router": "blk.*.ffn_gate_inp",
        "layers.*.ffn.step.experts.gate_up": Woven("blk.*.ffn_gate_exps.weight", "ffn_up_exps.weight"),
        "layers.*.ffn.step.experts.gate_up_bias": Woven("blk.*.ffn_gate_exps.bias", "ffn_up_exps.bias"),
        "layers.*.ffn.step.experts.down": Shaped("blk.*.ffn_down_exps.weight", *downs(config)),
        "layers.*.ffn.step.experts.down_bias": "blk.*.ffn_down_exps.bias",
    }
    plain = tuple(f"layers.*.ffn.step.{name}" for name in ("gate", "up", "down"))
    return gguf.llama_keys(config, more, without=plain)


def downs(config: GptOssConfig) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return our shape, the file's, and its axes in our order."""
    count, inner, width = config.num_local_experts, config.intermediate_size, config.hidden_size
    return (count, inner, width), (count, width, inner), (0, 2, 1)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "num_local_experts": "expert_count",
        "num_experts_per_tok": "expert_used_count",
        "intermediate_size": "expert_feed_forward_length",
    }
    found = {ours: metadata[f"gpt-oss.{theirs}"] for ours, theirs in names.items() if f"gpt-oss.{theirs}" in metadata}
    entries = {**gguf.entries(metadata, (*llama.GGUF_NAMES, "sliding_window")), **found}
    if "rope_scaling" in entries:
        entries["rope_scaling"] = {**YARN, **entries["rope_scaling"]}
    return entries


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="GptOss",
    config=GptOssConfig,
    build=build,
    keys=keys,
    heads={end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
