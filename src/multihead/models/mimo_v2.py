"""MiMo-V2-Flash (Xiaomi, 2025): windows with sinks and more key heads, narrow values, DeepSeek's routing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..config import Copies, Count, Size
from ..nn.attention.uneven import UnevenAttention
from ..nn.layer import Layer
from ..nn.positions import rotary
from ..nn.stack import Stack
from . import deepseek, llama
from .common.experts import ALONE, routed, routed_rows
from .common.later_words import without_mtp
from .common.patterns import FULL, SLIDING, layer_kinds, layered_rope_entries
from .mellum import window_of

THETAS = {FULL: 5000000.0, SLIDING: 10000.0}


@dataclass(kw_only=True)
class MiMoV2FlashConfig(llama.LlamaConfig):
    model_type = "mimo_v2_flash"
    aliases: ClassVar[Mapping[str, str]] = {"num_local_experts": "n_routed_experts"}
    inert: ClassVar[tuple[str, ...]] = (  # most of them in other words what follows from the defaults
        "add_full_attention_sink_bias", "add_swa_attention_sink_bias", "attention_chunk_size", "hybrid_block_size",
        "hybrid_layer_pattern", "layernorm_epsilon", "moe_layer_freq", "n_shared_experts", "num_mtp_layers",
        "num_nextn_predict_layers", "partial_rotary_factor", "rope_theta", "swa_head_dim", "swa_num_attention_heads",
        "swa_num_key_value_heads", "swa_rope_theta", "swa_v_head_dim", "use_qk_norm",
    )  # fmt: skip

    vocab_size: Size = 152576
    intermediate_size: Size = 16384
    num_hidden_layers: Count = 48
    num_attention_heads: Size = 64
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = 192
    v_head_dim: Size = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    attention_value_scale: float | None = 0.707
    sliding_window: Size = 129
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    first_k_dense_replace: Literal[1] = 1
    moe_intermediate_size: Size = 2048
    num_experts_per_tok: Size = 8
    n_routed_experts: Copies = 256
    routed_scaling_factor: float | None = 1.0
    n_group: Size = 1
    topk_group: Size = 1
    norm_topk_prob: bool = True
    scoring_func: Literal["sigmoid"] = "sigmoid"
    topk_method: Literal["noaux_tc"] = "noaux_tc"
    output_router_logits: bool = False
    eos_token_id: int | list[int] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Count the query itself in the window, which published files do not."""
        size = entries.get("sliding_window_size")
        entries = {k: v for k, v in entries.items() if k != "sliding_window_size"}
        entries = entries if size is None else {**entries, "sliding_window": size + 1}
        if entries.get("routed_scaling_factor", 1.0) is None:
            entries["routed_scaling_factor"] = 1.0
        return layered_rope_entries(entries, THETAS)

    def check(self) -> None:
        super().check()
        deepseek.check_groups(self)


def attention(config: MiMoV2FlashConfig, kind: str) -> UnevenAttention:
    """Build a layer's attention: those with a window have twice the key heads, and sinks."""
    key_heads, sliding = config.num_key_value_heads or config.num_attention_heads, kind == SLIDING
    rope = {"partial_rotary_factor": 0.334, **config.rope_parameters[kind]}
    scale = config.attention_value_scale
    return UnevenAttention(
        config.hidden_size,
        config.num_attention_heads,
        key_heads=key_heads * 2 if sliding else key_heads,
        head_width=config.head_width,
        value_width=config.v_head_dim,
        value_scale=1.0 if scale is None else scale,
        bias=config.attention_bias,
        positions=rotary(config.head_width, rope, config.max_position_embeddings),
        causal=True,
        window=window_of(config, kind),
        sinks=sliding,
        dropout=config.attention_dropout,
    )


def build(config: MiMoV2FlashConfig) -> Stack:
    usual = [FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING for i in range(config.num_hidden_layers)]
    kinds, dense = layer_kinds(config, usual), deepseek.dense_layers(config)

    def layer(i: int) -> Layer:
        if dense[i]:
            return llama.layer(config, attention(config, kinds[i]), llama.feed_forward(config))
        each = routed(config, config.n_routed_experts, deepseek.rule3(config), wide=True)
        return llama.layer(config, attention(config, kinds[i]), each)

    return llama.decoder(config, layer)


def keys(config: MiMoV2FlashConfig) -> KeyMap:
    rows: dict[str, str | Source] = {**routed_rows(), **deepseek.correction_rows(ALONE)}
    rows["layers.*.attention.step.sinks"] = "layers.*.self_attn.attention_sink_bias"
    renamed = ((r"\.self_attn\.sinks$", ".self_attn.attention_sink_bias"),)  # the reference's own name
    return without_mtp(replace(llama.keys(config, rows), renamed=renamed))


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive("MiMoV2Flash", MiMoV2FlashConfig, build, keys=keys, heads=HEADS)
