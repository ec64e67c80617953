"""Qwen 2 and 3 with routed experts (arXiv:2407.10671, arXiv:2505.09388); Qwen 2 has a shared expert beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Source
from ..config import Count, Size
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert, softmax_top_k
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import llama, qwen3
from .common import gguf
from .common.experts import ALONE, DENSE, ROUTED, SHARED
from .common.patterns import FULL, SLIDING, rotary_of
from .qwen2 import Qwen2Config, windows


@dataclass(kw_only=True)
class Qwen2MoeConfig(Qwen2Config):
    model_type = "qwen2_moe"

    hidden_size: Size = 2048
    intermediate_size: Size = 5632
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 16
    num_key_value_heads: Size | None = 16
    sliding_window: int | None = 4096  # 0 is none, as the reference writes it
    qkv_bias: bool = True
    decoder_sparse_step: Size = 1
    moe_intermediate_size: Size = 1408
    shared_expert_intermediate_size: Size = 5632
    num_experts_per_tok: Size = 4
    num_experts: Count = 60
    norm_topk_prob: bool = False
    mlp_only_layers: list[int] = field(default_factory=list)
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001  # of the load-balancing loss, which is added where router logits are shown


@dataclass(kw_only=True)
class Qwen3MoeConfig(qwen3.Qwen3Config):
    model_type = "qwen3_moe"

    hidden_size: Size = 2048
    intermediate_size: Size = 6144
    num_hidden_layers: Count = 24
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = None
    decoder_sparse_step: Size = 1
    moe_intermediate_size: Size = 768
    num_experts_per_tok: Size = 8
    num_experts: Count = 128
    norm_topk_prob: bool = False
    mlp_only_layers: list[int] = field(default_factory=list)
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the number of experts under the reference's name."""
        entries = super().normalized(entries)
        count = entries.pop("num_local_experts", None)
        return entries if count is None else {"num_experts": count, **entries}


def some_windows(config: Qwen2MoeConfig) -> list[int | None]:
    """Return the window of each layer of Qwen2-MoE: every other of the first `max_window_layers` slides."""
    early = range(config.max_window_layers if config.sliding_window and config.use_sliding_window else 0)
    return windows(config, [SLIDING if i in early and i % 2 == 0 else FULL for i in range(config.num_hidden_layers)])


def all_windows(config: Qwen3MoeConfig) -> list[int | None]:
    """Return the window of each layer of Qwen3-MoE: all slide, or none."""
    return [config.sliding_window if config.use_sliding_window else None] * config.num_hidden_layers


def sparse(config: Any) -> list[bool]:
    """Return for each layer whether it has experts."""
    step, dense = config.decoder_sparse_step, set(config.mlp_only_layers)
    layers = range(config.num_hidden_layers)
    return [config.num_experts > 0 and i not in dense and (i + 1) % step == 0 for i in layers]


def routed(config: Any) -> RoutedExperts:
    def one() -> GatedFeedForward:
        return GatedFeedForward(config.hidden_size, config.moe_intermediate_size, config.hidden_act)

    rule = softmax_top_k(config.num_experts_per_tok, normalized=config.norm_topk_prob)
    each = ExpertList([one() for _ in range(config.num_experts)])
    return RoutedExperts(config.hidden_size, each, config.num_experts, rule)


def with_shared(config: Qwen2MoeConfig) -> SharedExpert:
    shared = GatedFeedForward(config.hidden_size, config.shared_expert_intermediate_size, config.hidden_act)
    return SharedExpert(routed(config), shared, Linear(config.hidden_size, 1, bias=False))


def build2(config: Qwen2MoeConfig) -> Stack:
    positions, window, chosen = rotary_of(config, config.head_width), some_windows(config), sparse(config)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, bias=config.qkv_bias, out_bias=False, window=window[i])
        ffn: nn.Module = with_shared(config) if chosen[i] else llama.feed_forward(config)
        return llama.layer(config, attention, ffn)

    return llama.decoder(config, layer)


def build3(config: Qwen3MoeConfig) -> Stack:
    positions, window, chosen = rotary_of(config, config.head_width), all_windows(config), sparse(config)

    def layer(i: int) -> Layer:
        ffn: nn.Module = routed(config) if chosen[i] else llama.feed_forward(config)
        return llama.layer(config, qwen3.attention(config, positions, window[i]), ffn)

    return llama.decoder(config, layer)


def rows(ours: str) -> Rows:
    """Return the key map rows of the routed experts at `ours`."""
    each = {f"{ours}.experts.*.{n}": f"layers.*.mlp.experts.*.{n}_proj" for n in ("gate", "up", "down")}
    return {**each, f"{ours}.router": "layers.*.mlp.gate"}


def shared_rows() -> Rows:
    """Return the key map rows of routed experts with a shared one."""
    stem = "layers.*.ffn.step"
    shared = {f"{stem}.shared.{n}": f"layers.*.mlp.shared_expert.{n}_proj" for n in ("gate", "up", "down")}
    return {**rows(f"{stem}.routed"), **shared, f"{stem}.share": "layers.*.mlp.shared_expert_gate"}


def keys2(config: Qwen2MoeConfig) -> KeyMap:
    return llama.keys(config, shared_rows())


def keys3(config: Qwen3MoeConfig) -> KeyMap:
    return llama.keys(config, {**qwen3.NORMS, **rows("layers.*.ffn.step")})


def gguf_keys2(config: Qwen2MoeConfig) -> KeyMap:
    share: dict[str, str | Source] = {f"{ALONE}.share": gguf.Row("blk.*.ffn_gate_inp_shexp")}
    own = {**gguf.expert_keys(ROUTED, config.num_experts), **gguf.shared_keys(SHARED), **share}
    return gguf.llama_keys(config, own, DENSE)


def gguf_keys3(config: Qwen3MoeConfig) -> KeyMap:
    return gguf.llama_keys(config, {**qwen3.GGUF_NORMS, **gguf.expert_keys(ALONE, config.num_experts)}, DENSE)


GGUF_EXPERTS = {
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}


def gguf_config2(metadata: Mapping[str, Any]) -> dict[str, Any]:
    own = {**GGUF_EXPERTS, "shared_expert_intermediate_size": "expert_shared_feed_forward_length"}
    return {**llama.gguf_config(metadata), **gguf.named(metadata, **own)}


def gguf_config3(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file. llama.cpp always divides the chosen experts' weights by their sum."""
    return {**llama.gguf_config(metadata), **gguf.named(metadata, **GGUF_EXPERTS), "norm_topk_prob": True}


QWEN2_MOE = llama.ARCHITECTURE.derive(
    "Qwen2Moe",
    Qwen2MoeConfig,
    build2,
    keys=keys2,
    heads={**llama.HEADS, "ForQuestionAnswering": partial(llama.answer, prefix=None)},
    layouts={"gguf": gguf_keys2},
    foreign_config={"gguf": gguf_config2},
)
QWEN3_MOE = replace(
    QWEN2_MOE,
    name="Qwen3Moe",
    config=Qwen3MoeConfig,
    build=build3,
    keys=keys3,
    heads=llama.HEADS,
    layouts={"gguf": gguf_keys3},
    foreign_config={"gguf": gguf_config3},
)
