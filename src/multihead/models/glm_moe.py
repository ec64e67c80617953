"""GLM-4.5 (arXiv:2508.06471) and relatives with DeepSeek's routing: Solar Open, dots.llm1 (arXiv:2506.05767)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.experts import SharedExpert
from ..nn.layer import Layer
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import deepseek, llama, qwen3
from .common import gguf
from .common.experts import ROUTED, SHARED, expert_rows, gated, routed
from .common.later_words import without_later_layers
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_of

HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}


@dataclass(kw_only=True)
class Glm4MoeConfig(llama.LlamaConfig):
    model_type = "glm4_moe"
    aliases: ClassVar[Mapping[str, str]] = {"num_local_experts": "n_routed_experts"}
    inert: ClassVar[tuple[str, ...]] = ("num_nextn_predict_layers", "num_mtp_layers", "rope_interleave")
    rotary_factor: ClassVar[float | None] = 0.5

    vocab_size: Size = 151552
    intermediate_size: Size = 10944
    num_hidden_layers: Count = 46
    num_attention_heads: Size = 96
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    moe_intermediate_size: Size = 1408
    num_experts_per_tok: Size = 8
    n_shared_experts: Size = 1
    n_routed_experts: Copies = 128
    routed_scaling_factor: float = 1.0
    n_group: Size | None = 1
    topk_group: Size | None = 1
    first_k_dense_replace: int = 1
    norm_topk_prob: bool = True
    use_qk_norm: bool = False
    scoring_func: Literal["sigmoid", "noaux_tc"] = "sigmoid"  # dots.llm1 writes the second for the first
    topk_method: Literal["noaux_tc"] = "noaux_tc"
    moe_layer_freq: Literal[1] = 1
    output_router_logits: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def check(self) -> None:
        super().check()
        deepseek.check_groups(self)


@dataclass(kw_only=True)
class SolarOpenConfig(Glm4MoeConfig):
    model_type = "solar_open"
    inert = ("intermediate_size", "num_nextn_predict_layers", "first_k_dense_replace", "use_qk_norm")
    theta: ClassVar[float] = 1000000.0
    rotary_factor: ClassVar[float | None] = 1.0

    vocab_size: Size = 196608
    num_hidden_layers: Count = 48
    num_attention_heads: Size = 64
    moe_intermediate_size: Size = 1280
    first_k_dense_replace: int = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Leave out what Solar Open's layers do not have: norms of heads, and layers without experts."""
        entries = super().normalized(entries)
        return {k: v for k, v in entries.items() if k not in ("first_k_dense_replace", "use_qk_norm")}


@dataclass(kw_only=True)
class Dots1Config(Glm4MoeConfig):
    model_type = "dots1"
    rotary_factor: ClassVar[float | None] = None

    vocab_size: Size = 152064
    hidden_size: Size = 4608
    num_hidden_layers: Count = 62
    head_dim: Size | None = None
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 2048
    rms_norm_eps: float = 1e-6
    num_experts_per_tok: Size | None = None  # type: ignore[assignment]
    n_shared_experts: Size | None = None  # type: ignore[assignment]
    n_routed_experts: Copies | None = None  # type: ignore[assignment]
    first_k_dense_replace: int = 0
    norm_topk_prob: bool = False
    sliding_window: Size | None = 4096
    max_window_layers: int = 62
    layer_types: list[str] | None = None

    def check(self) -> None:
        names = ("num_experts_per_tok", "n_shared_experts", "n_routed_experts")
        absent = [name for name in names if getattr(self, name) is None]
        if absent:
            raise UnsupportedConfig(f"{', '.join(absent)} must say how many experts there are.")
        super().check()


def attention(config: Glm4MoeConfig, positions: Positions) -> Attention:
    make = qwen3.attention if config.use_qk_norm else llama.attention
    return make(config, positions, out_bias=False)


def experts(config: Any) -> SharedExpert:
    shared = gated(config, config.moe_intermediate_size * config.n_shared_experts)
    return SharedExpert(routed(config, config.n_routed_experts, deepseek.rule3(config), wide=True), shared)


def build(config: Glm4MoeConfig) -> Stack:
    positions, dense = rotary_of(config, config.head_width), deepseek.dense_layers(config)

    def layer(i: int) -> Layer:
        ffn = llama.feed_forward(config) if dense[i] else experts(config)
        return llama.layer(config, attention(config, positions), ffn)

    return llama.decoder(config, layer)


def build_windows(config: Dots1Config) -> Stack:
    positions, dense = rotary_of(config, config.head_width), deepseek.dense_layers(config)
    late = config.sliding_window is not None
    usual = [SLIDING if late and i >= config.max_window_layers else FULL for i in range(config.num_hidden_layers)]
    kinds = layer_kinds(config, usual)

    def layer(i: int) -> Layer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        ffn = llama.feed_forward(config) if dense[i] else experts(config)
        return llama.layer(config, qwen3.attention(config, positions, window=window), ffn)

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    rows = {**qwen3.NORMS, **expert_rows(), **deepseek.correction_rows()}
    return without_later_layers(config, llama.keys(config, rows))


def gguf_keys(config: Glm4MoeConfig) -> KeyMap:
    """Return the key map of llama.cpp's names, without the layers after the last, which draft the word after next."""
    own: dict[str, str | Source] = {
        **qwen3.GGUF_NORMS,
        **gguf.expert_keys(ROUTED, config.n_routed_experts),
        **gguf.shared_keys(SHARED),
        f"{ROUTED}.rule.correction": "blk.*.exp_probs_b.bias",
        "layers.*.ffn.before": "blk.*.post_attention_norm",
    }
    table, layers = gguf.llama_keys(config, own), "|".join(map(str, range(config.num_hidden_layers)))
    return replace(table, ignored=(*table.ignored, rf"^blk\.(?!({layers})\.)\d+\."))


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, which counts the drafting layers too."""
    found = llama.gguf_config(metadata)
    width = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
    own = gguf.named(
        metadata, first_k_dense_replace="leading_dense_block_count", moe_intermediate_size="expert_feed_forward_length",
        n_routed_experts="expert_count", n_shared_experts="expert_shared_count",
        num_experts_per_tok="expert_used_count", routed_scaling_factor="expert_weights_scale",
        norm_topk_prob="expert_weights_norm", n_group="expert_group_count", topk_group="expert_group_used_count",
        num_nextn_predict_layers="nextn_predict_layers",
    )  # fmt: skip
    gguf.refuse_softmax(metadata)
    told = {
        "attention_bias": gguf.has(metadata, "blk.0.attn_q.bias"),
        "use_qk_norm": gguf.has(metadata, "blk.0.attn_q_norm.weight"),
        "num_hidden_layers": found["num_hidden_layers"] - own.get("num_nextn_predict_layers", 0),
    }
    return {**found, **gguf.rotary_factor(metadata, width), **own, **told}


GLM4_MOE = llama.ARCHITECTURE.derive(
    "Glm4Moe",
    Glm4MoeConfig,
    build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
SOLAR_OPEN = replace(GLM4_MOE, name="SolarOpen", config=SolarOpenConfig)
DOTS1 = replace(GLM4_MOE, name="Dots1", config=Dots1Config, build=build_windows)
