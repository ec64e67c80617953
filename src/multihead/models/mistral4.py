"""Mistral Small 4 (Mistral AI, 2026, model card): DeepSeek's latent attention and experts, queries scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Slice, SlicePart, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.experts import Rule, pair_limited_top_k
from ..nn.stack import Stack
from . import deepseek, llama
from .mistral import query_scale, with_growing_queries


@dataclass(kw_only=True)
class Mistral4Config(deepseek.DeepseekV2Config):
    model_type = "mistral4"

    vocab_size: Size = 131072
    intermediate_size: Size = 12288
    num_hidden_layers: Count = 36
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 1048576
    kv_lora_rank: Size = 256
    q_lora_rank: Size | None = 1024
    qk_nope_head_dim: Size = 64
    n_routed_experts: Copies = 128
    n_shared_experts: Size = 1
    num_experts_per_tok: Size | None = 4
    moe_intermediate_size: Size = 2048
    n_group: Size | None = 1
    topk_group: Size | None = 1
    norm_topk_prob: bool = True  # type: ignore[assignment]
    rope_interleave: bool = True  # type: ignore[assignment]
    pad_token_id: int | None = 11

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Leave out the part of a head that is turned, which its widths say."""
        usual = {"rope_theta": 10000.0, "factor": 128.0, "original_max_position_embeddings": 8192}
        entries = super().normalized(with_growing_queries(entries, usual))
        part = entries["rope_parameters"].pop("partial_rotary_factor", None)
        turned, plain = (entries.get(name) or getattr(cls, name) for name in ("qk_rope_head_dim", "qk_nope_head_dim"))
        part = turned / (turned + plain) if part is None else part
        width = entries.get("head_dim") or turned + plain
        if int(part * width + 1e-3) != turned:
            raise UnsupportedConfig(
                f"partial_rotary_factor is {part!r} of head_dim = {width} channels; qk_rope_head_dim turns {turned}."
            )
        return entries


def rule(config: Any) -> Rule:
    return pair_limited_top_k(
        config.num_experts_per_tok or 1,
        groups=config.n_group or 1,
        kept=config.topk_group or 1,
        normalized=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
    )


def build(config: Mistral4Config) -> Stack:
    stack = deepseek.build(config, rule)
    scale = query_scale(config)
    for layer in stack.layers:
        layer.attention.step.query_scale = scale  # type: ignore[union-attr]
    return stack


def keys(config: Mistral4Config) -> KeyMap:
    """Return DeepSeek's key map with stacked experts."""
    table = deepseek.keys(config)
    stem, count, inner = "layers.*.ffn.step.routed.experts.*", config.n_routed_experts, config.moe_intermediate_size
    stacked: dict[str, str | Source] = {
        f"{stem}.{name}.weight": SlicePart("layers.*.mlp.experts.gate_up_proj", count, sizes=(inner, inner), index=i)
        for i, name in enumerate(("gate", "up"))
    }
    stacked[f"{stem}.down.weight"] = Slice("layers.*.mlp.experts.down_proj", count)
    others = {ours: theirs for ours, theirs in table.rows.items() if not ours.startswith(stem)}
    return replace(table, rows={**others, **stacked})


HEADS = {**deepseek.HEADS, "ForTokenClassification": llama.HEADS["ForTokenClassification"]}
ARCHITECTURE = llama.ARCHITECTURE.derive("Mistral4", Mistral4Config, build, keys=keys, heads=HEADS)
