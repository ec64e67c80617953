"""Command A+ (Cohere, 2026): Cohere 2 whose feed-forward are routed experts, after a few dense layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Size
from ..errors import UnsupportedConfig
from ..nn.experts import GroupedTopK, Rule, SharedExpert, top_k_softmax
from ..nn.layer import ParallelLayer
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import cohere, deepseek, llama
from .common.experts import PARTS, gated, routed
from .common.patterns import SLIDING, every, layer_kinds, rotary_of


@dataclass(kw_only=True)
class Cohere2MoeConfig(cohere.Cohere2Config):
    model_type = "cohere2_moe"
    inert = ("position_embedding_type", "rotary_pct")

    head_dim: Size | None = 128
    use_qk_norm: Literal[False] = False
    rms_norm_eps: float | None = None  # type: ignore[assignment]
    num_experts_per_tok: Size = 2
    num_experts: Copies = 8
    num_shared_experts: int = 0
    shared_expert_combination_strategy: Literal["average", "sum"] = "average"
    expert_selection_fn: Literal["softmax", "sigmoid"] = "softmax"
    norm_topk_prob: bool = True
    mlp_layer_types: list[str] | None = None
    first_k_dense_replace: int = 0
    prefix_dense_sliding_window_pattern: Size = 1
    prefix_dense_intermediate_size: Size | None = None
    output_router_logits: bool = False

    def check(self) -> None:
        super().check()
        if self.num_shared_experts < 0 or not 0 <= self.first_k_dense_replace <= self.num_hidden_layers:
            raise UnsupportedConfig(
                f"There cannot be {self.num_shared_experts} shared experts, or {self.first_k_dense_replace} dense of "
                f"{self.num_hidden_layers} layers."
            )


def norm(config: Cohere2MoeConfig) -> nn.Module:
    return cohere.norm(config) if config.rms_norm_eps is None else llama.norm(config)


def usual_kinds(config: Cohere2MoeConfig) -> list[str]:
    """Return the kinds of layers where `layer_types` does not say them: dense ones have a pattern of their own."""
    dense = config.first_k_dense_replace
    first = every(config.prefix_dense_sliding_window_pattern, dense)
    return [*first, *every(config.sliding_window_pattern, config.num_hidden_layers - dense)]


def experts(config: Cohere2MoeConfig) -> nn.Module:
    count, chosen = config.num_experts, config.num_experts_per_tok
    rule: Rule = top_k_softmax(chosen)
    if config.expert_selection_fn == "sigmoid":
        rule = GroupedTopK(count, chosen, corrected=False, normalized=config.norm_topk_prob)
    each = routed(config, count, rule, config.intermediate_size)
    if not config.num_shared_experts:
        return each
    scale = 0.5 if config.shared_expert_combination_strategy == "average" else 1.0
    return SharedExpert(each, gated(config, config.intermediate_size * config.num_shared_experts), scale=scale)


def build(config: Cohere2MoeConfig) -> Stack:
    """Build the stack: layers with a window have positions, and dense ones where all of these have none."""
    positions, dense = rotary_of(config, config.head_width), deepseek.dense_layers(config)
    kinds = layer_kinds(config, usual_kinds(config))
    inner = config.prefix_dense_intermediate_size or config.intermediate_size

    def layer(i: int) -> ParallelLayer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        turns = window is not None or (dense[i] and config.prefix_dense_sliding_window_pattern == 1)
        attention = llama.attention(config, positions if turns else Positions(), window=window)
        return ParallelLayer(attention, gated(config, inner) if dense[i] else experts(config), norm(config))

    return llama.decoder(config, layer, norm)


def keys(config: Cohere2MoeConfig) -> KeyMap:
    plain, stem = cohere.keys(config), "layers.*.ffn"
    routes = f"{stem}.routed" if config.num_shared_experts else stem
    rows: dict[str, Any] = {f"{routes}.router": "layers.*.mlp.gate"}
    for part in PARTS:
        rows[f"{routes}.experts.*.{part}"] = f"layers.*.mlp.experts.*.{part}_proj"
        rows[f"{stem}.shared.{part}"] = f"layers.*.mlp.shared_experts.{part}_proj"
    return replace(plain, rows={**plain.rows, **rows})


ARCHITECTURE = replace(cohere.COHERE2, name="Cohere2Moe", config=Cohere2MoeConfig, build=build, keys=keys)
