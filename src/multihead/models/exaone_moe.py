"""K-EXAONE (LG AI Research, 2026): EXAONE 4's attention before pre-norm layers, DeepSeek's routing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Size
from ..errors import UnsupportedConfig
from ..nn.experts import GroupedTopK, SharedExpert
from ..nn.layer import Layer
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import deepseek, llama, qwen3
from .common.experts import ROUTED, expert_rows, gated, routed
from .common.later_words import without_mtp
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_of
from .mellum import window_of


@dataclass(kw_only=True)
class ExaoneMoeConfig(llama.LlamaConfig):
    model_type = "exaone_moe"
    aliases: ClassVar[Mapping[str, str]] = {"n_routed_experts": "num_experts"}
    inert = ("first_last_k_dense_replace", "num_nextn_predict_layers", "is_moe_layer", "attention_bias", "mlp_bias")

    vocab_size: Size = 102400
    intermediate_size: Size = 16384
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 2048
    rms_norm_eps: float = 1e-5
    sliding_window: Size | None = 4096
    sliding_window_pattern: Any = 4
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    first_k_dense_replace: int = 1
    moe_intermediate_size: Size = 1024
    num_experts: Copies = 64
    num_experts_per_tok: Size = 8
    num_shared_experts: Size = 1
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 2.5
    n_group: Size = 1
    topk_group: Size = 1
    scoring_func: Literal["sigmoid"] = "sigmoid"
    topk_method: Literal["noaux_tc"] = "noaux_tc"
    output_router_logits: bool = False
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 53

    def check(self) -> None:
        super().check()
        if self.layer_types is None and not (isinstance(self.sliding_window_pattern, int) and self.sliding_window):
            raise UnsupportedConfig("layer_types must say which layers slide where no pattern of layers does.")
        if self.num_experts % self.n_group or self.topk_group > self.n_group:
            raise UnsupportedConfig(f"{self.num_experts} experts cannot be in {self.n_group} groups.")


def experts(config: ExaoneMoeConfig) -> SharedExpert:
    rule = GroupedTopK(
        config.num_experts,
        config.num_experts_per_tok,
        groups=config.n_group,
        kept=config.topk_group,
        normalized=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
    )
    shared = gated(config, config.moe_intermediate_size * config.num_shared_experts)
    return SharedExpert(routed(config, config.num_experts, rule, wide=True), shared)


def build(config: ExaoneMoeConfig) -> Stack:
    """Build the stack: beside sliding-window layers, full ones have no positions."""
    positions, dense = rotary_of(config, config.head_width), deepseek.dense_layers(config)
    step = config.sliding_window_pattern
    usual = [SLIDING if isinstance(step, int) and (i + 1) % step else FULL for i in range(config.num_hidden_layers)]
    kinds = layer_kinds(config, usual)

    def layer(i: int) -> Layer:
        turns = positions if config.sliding_window is None or kinds[i] == SLIDING else Positions()
        attention = qwen3.attention(config, turns, window_of(config, kinds[i]), bias=False)
        return llama.layer(config, attention, llama.feed_forward(config) if dense[i] else experts(config))

    return llama.decoder(config, layer)


def keys(config: ExaoneMoeConfig) -> KeyMap:
    correction = {f"{ROUTED}.rule.correction": "layers.*.mlp.e_score_correction_bias"}
    table = llama.keys(config, {**qwen3.NORMS, **expert_rows(), **correction})
    renamed = ((r"\.gate\.e_score_correction_bias$", ".e_score_correction_bias"),)  # the reference's own name
    return without_mtp(replace(table, renamed=renamed))


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive("ExaoneMoe", ExaoneMoeConfig, build, keys=keys, heads=HEADS)
