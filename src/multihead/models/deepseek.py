"""DeepSeek-V2 (arXiv:2405.04434) and V3 (arXiv:2412.19437): latent attention, routed experts beside shared ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Interleaved, PerHead, Shaped, Slice, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.latent import LatentAttention
from ..nn.experts import GroupedTopK, Rule, SharedExpert, group_limited_top_k
from ..nn.layer import Layer
from ..nn.positions import Positions, yarn_mscale
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.experts import ROUTED, expert_rows, gated, routed
from .common.later_words import without_later_layers
from .common.patterns import rotary_of


def check_groups(config: Any) -> None:
    """Raise UnsupportedConfig if experts cannot be shared evenly by their groups, or more groups are chosen."""
    groups = config.n_group or 1
    if config.n_routed_experts % groups or (config.topk_group or 1) > groups:
        raise UnsupportedConfig(
            f"{config.n_routed_experts} experts cannot be in {groups} groups of which {config.topk_group} are chosen."
        )


def check_head_dim(config: Any) -> None:
    """Raise UnsupportedConfig if `head_dim`, by which the reference turns channels, is not the width that is turned."""
    if config.head_dim not in (None, config.qk_rope_head_dim):
        raise UnsupportedConfig(
            f"head_dim = {config.head_dim} is not qk_rope_head_dim = {config.qk_rope_head_dim}. Leave it out."
        )


@dataclass(kw_only=True)
class DeepseekV2Config(llama.LlamaConfig):
    model_type = "deepseek_v2"
    aliases: ClassVar = {"num_local_experts": "n_routed_experts", "num_experts": "n_routed_experts"}

    vocab_size: Size = 102400
    first_k_dense_replace: int = 0
    kv_lora_rank: Size = 512
    q_lora_rank: Size | None = 1536
    qk_nope_head_dim: Size = 128
    qk_rope_head_dim: Size = 64
    v_head_dim: Size = 128
    n_routed_experts: Copies = 64
    n_shared_experts: Size = 2
    num_experts_per_tok: Size | None = None
    moe_intermediate_size: Size = 1407
    moe_layer_freq: Literal[1] = 1
    n_group: Size | None = None
    topk_group: Size | None = None
    topk_method: Literal["greedy", "group_limited_greedy"] = "greedy"
    scoring_func: Literal["softmax"] = "softmax"
    norm_topk_prob: Literal[False] = False
    routed_scaling_factor: float = 1.0
    rope_interleave: Literal[True] = True
    qk_head_dim: Size | None = None  # follows from its parts
    output_router_logits: bool = False
    bos_token_id: int | None = 1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        entries = super().normalized(entries)
        for name in ("num_local_experts", "num_experts"):
            count = entries.pop(name, None)
            entries = entries if count is None else {"n_routed_experts": count, **entries}
        return entries

    def check(self) -> None:
        if self.num_experts_per_tok is None and self.first_k_dense_replace < self.num_hidden_layers:
            raise UnsupportedConfig("num_experts_per_tok must say how many experts a token goes through.")
        check_groups(self)

    @property
    def grouped(self) -> bool:
        return self.topk_method == "group_limited_greedy"


@dataclass(kw_only=True)
class DeepseekV3Config(DeepseekV2Config):
    model_type = "deepseek_v3"
    turns_heads: ClassVar[bool] = True  # the reference's rotary positions have the width `head_dim`

    vocab_size: Size = 129280
    hidden_size: Size = 7168
    intermediate_size: Size = 18432
    num_hidden_layers: Count = 61
    num_attention_heads: Size = 128
    max_position_embeddings: Size = 4096
    moe_intermediate_size: Size = 2048
    n_routed_experts: Copies = 256
    n_shared_experts: Size = 1
    num_experts_per_tok: Size | None = 8
    first_k_dense_replace: int = 3
    n_group: Size | None = 8
    topk_group: Size | None = 4
    topk_method: Literal["noaux_tc"] = "noaux_tc"  # type: ignore[assignment]
    scoring_func: Literal["sigmoid"] = "sigmoid"  # type: ignore[assignment]
    norm_topk_prob: bool = True  # type: ignore[assignment]
    rope_interleave: bool = True  # type: ignore[assignment]
    routed_scaling_factor: float = 2.5
    num_nextn_predict_layers: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        entries = super().normalized(entries)
        count = entries.pop("num_mtp_layers", None)
        return entries if count is None else {"num_nextn_predict_layers": count, **entries}

    def check(self) -> None:
        super().check()
        if self.turns_heads:
            check_head_dim(self)


def rule2(config: DeepseekV2Config) -> Rule:
    groups, kept = (config.n_group, config.topk_group) if config.grouped else (None, None)
    return group_limited_top_k(
        config.num_experts_per_tok or 1, groups=groups or 1, kept=kept or 1, scale=config.routed_scaling_factor
    )


@dataclass(kw_only=True)
class KimiK2Config(DeepseekV3Config):
    """Kimi K2's files (Moonshot AI, 2025, arXiv:2507.20534): DeepSeek-V3 under another name."""

    model_type = "kimi_k2"


@dataclass(kw_only=True)
class Glm4MoeLiteConfig(DeepseekV3Config):
    """GLM-4.7-Flash (Z.ai, 2026): DeepSeek-V3 with smaller numbers, and a list of dense layers."""

    model_type = "glm4_moe_lite"
    rotary_factor: ClassVar[float | None] = 1.0

    vocab_size: Size = 154880
    hidden_size: Size = 2048
    intermediate_size: Size = 10240
    num_hidden_layers: Count = 47
    num_attention_heads: Size = 20
    num_key_value_heads: Size | None = 20
    max_position_embeddings: Size = 202752
    rms_norm_eps: float = 1e-5
    moe_intermediate_size: Size = 1536
    n_routed_experts: Copies = 64
    num_experts_per_tok: Size | None = 4
    routed_scaling_factor: float = 1.8
    q_lora_rank: Size | None = 768
    qk_nope_head_dim: Size = 192
    v_head_dim: Size = 256
    n_group: Size | None = 1
    topk_group: Size | None = 1
    first_k_dense_replace: int = 1
    mlp_layer_types: list[str] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Leave out `first_k_dense_replace`: the first layer alone is dense where `mlp_layer_types` is not given."""
        return {k: v for k, v in super().normalized(entries).items() if k != "first_k_dense_replace"}


def rule3(config: Any) -> Rule:
    return GroupedTopK(
        config.n_routed_experts,
        config.num_experts_per_tok or 1,
        groups=config.n_group or 1,
        kept=config.topk_group or 1,
        normalized=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
    )


def score_scale(config: Any) -> float:
    """Return the attention scale, which YaRN raises where a config says so."""
    rope = config.rope_parameters
    scaled = rope.get("rope_type", "default") != "default" and rope.get("mscale_all_dim")
    grown = yarn_mscale(rope["factor"], rope["mscale_all_dim"]) if scaled else 1.0
    return (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5 * grown**2


def experts(config: Any, rule: Callable[[Any], Rule]) -> nn.Module:
    inner = config.moe_intermediate_size * config.n_shared_experts
    return SharedExpert(
        routed(config, config.n_routed_experts, rule(config), wide=True), gated(config, inner, bias=config.mlp_bias)
    )


def attention(
    config: Any,
    positions: Positions,
    scale: float | None = None,
    kind: type[LatentAttention] = LatentAttention,
    **changes: Any,
) -> LatentAttention:
    usual: dict[str, Any] = {
        "rank": config.kv_lora_rank,
        "query_rank": config.q_lora_rank,
        "plain": config.qk_nope_head_dim,
        "turned": config.qk_rope_head_dim,
        "value_width": config.v_head_dim,
        "bias": config.attention_bias,
        "positions": positions,
        "causal": True,
        "scale": scale,
        "dropout": config.attention_dropout,
    }
    return kind(config.hidden_size, config.num_attention_heads, **{**usual, **changes})


def build(config: Any, rule: Callable[[Any], Rule]) -> Stack:
    positions, dense = rotary_of(config, config.qk_rope_head_dim), dense_layers(config)

    def layer(i: int) -> Layer:
        ffn: nn.Module = llama.feed_forward(config) if dense[i] else experts(config, rule)
        return llama.layer(config, attention(config, positions, score_scale(config)), ffn)

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    """Return the key map; rotated channels are interleaved, at the end of a head's queries and of the latent matrix."""
    ours, theirs, heads = "layers.*.attention.step", "layers.*.self_attn", config.num_attention_heads
    plain, turned, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank

    def sided(key: str, count: int, first: int) -> Source:
        if not config.rope_interleave:
            return Source(key)
        return Interleaved(key, count, rotated=turned, first=first)

    q = f"{ours}.q" if config.q_lora_rank is None else f"{ours}.q.up"
    rows: dict[str, str | Source] = {
        q: sided(f"{theirs}.q_proj" if config.q_lora_rank is None else f"{theirs}.q_b_proj", heads, plain),
        f"{ours}.q.down": f"{theirs}.q_a_proj",
        f"{ours}.q.norm": f"{theirs}.q_a_layernorm",
        f"{ours}.latent": sided(f"{theirs}.kv_a_proj_with_mqa", 1, rank),
        f"{ours}.latent_norm": f"{theirs}.kv_a_layernorm",
        f"{ours}.k": PerHead(f"{theirs}.kv_b_proj", heads, (plain, config.v_head_dim), 0),
        f"{ours}.v": PerHead(f"{theirs}.kv_b_proj", heads, (plain, config.v_head_dim), 1),
        **expert_rows(),
        **correction_rows(),
    }
    return without_later_layers(config, llama.keys(config, rows))


def dense_layers(config: Any) -> list[bool]:
    """Return for each layer whether it has no experts: the first ones, or those that `mlp_layer_types` names.

    Raises:
        UnsupportedConfig: not one of "dense" and "sparse" for each layer.
    """
    count, kinds = config.num_hidden_layers, getattr(config, "mlp_layer_types", None)
    if kinds is None:
        return [i < config.first_k_dense_replace for i in range(count)]
    if len(kinds) != count or set(kinds) - {"dense", "sparse"}:
        raise UnsupportedConfig(f'mlp_layer_types must hold "dense" or "sparse" for each of {count} layers: {kinds}.')
    return [kind == "dense" for kind in kinds]


def correction_rows(stem: str = ROUTED, theirs: str = "gate.e_score_correction_bias") -> Rows:
    """Return the row of the balancing bias of routed experts at `stem`."""
    return {f"{stem}.rule.correction": f"layers.*.mlp.{theirs}"}


def gguf_keys(config: DeepseekV2Config) -> KeyMap:
    """Return the key map of llama.cpp's names: stacked experts, separate keys and values, keys transposed."""
    ours, heads, rank = "layers.*.attention.step", config.num_attention_heads, config.kv_lora_rank
    plain, turned, value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    full = config.q_lora_rank is None
    stem = "layers.*.ffn.step"
    rows: dict[str, str | Source] = {
        f"{ours}.q" if full else f"{ours}.q.up": Interleaved(
            "blk.*.attn_q" if full else "blk.*.attn_q_b", heads, rotated=turned, first=plain
        ),
        f"{ours}.q.down": "blk.*.attn_q_a",
        f"{ours}.q.norm": "blk.*.attn_q_a_norm",
        f"{ours}.latent": Interleaved("blk.*.attn_kv_a_mqa", 1, rotated=turned, first=rank),
        f"{ours}.latent_norm": "blk.*.attn_kv_a_norm",
        f"{ours}.k": Shaped("blk.*.attn_k_b", (heads * plain, rank), (heads, rank, plain), (0, 2, 1)),
        f"{ours}.v": Shaped("blk.*.attn_v_b", (heads * value, rank), (heads, value, rank)),
        f"{stem}.routed.router": "blk.*.ffn_gate_inp",
        f"{stem}.routed.rule.correction": "blk.*.exp_probs_b.bias",
    }
    for name in ("gate", "up", "down"):
        rows[f"{stem}.shared.{name}"] = f"blk.*.ffn_{name}_shexp"
        rows[f"{stem}.routed.experts.*.{name}"] = Slice(f"blk.*.ffn_{name}_exps", config.n_routed_experts)
    return gguf.llama_keys(config, rows)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, where V2 and V3 share an architecture; a sigmoid router means V3."""

    def entry(name: str, default: Any = None) -> Any:
        return metadata.get(f"deepseek2.{name}", default)

    if entry("attention.key_length_mla") is None:
        raise UnsupportedConfig("The file keeps keys and values in one matrix, as before 2025; convert it again.")
    turned, third = entry("rope.dimension_count"), entry("expert_gating_func", 1) == 2
    groups = entry("expert_group_count")
    found = {
        "model_type": "deepseek_v3" if third else "deepseek_v2",
        "first_k_dense_replace": entry("leading_dense_block_count", 0),
        "q_lora_rank": entry("attention.q_lora_rank"),
        "kv_lora_rank": entry("attention.kv_lora_rank"),
        "qk_rope_head_dim": turned,
        "qk_nope_head_dim": entry("attention.key_length_mla") - turned,
        "v_head_dim": entry("attention.value_length_mla"),
        "moe_intermediate_size": entry("expert_feed_forward_length"),
        "n_routed_experts": entry("expert_count"),
        "n_shared_experts": entry("expert_shared_count"),
        "num_experts_per_tok": entry("expert_used_count"),
        "routed_scaling_factor": entry("expert_weights_scale", 1.0),
        "n_group": groups,
        "topk_group": entry("expert_group_used_count"),
    }
    if third:
        found["norm_topk_prob"] = entry("expert_weights_norm", False)
    elif groups and groups > 1:
        found["topk_method"] = "group_limited_greedy"
    names = tuple(name for name in llama.GGUF_NAMES if name not in ("head_dim", "num_key_value_heads"))
    entries = {
        **gguf.entries(metadata, names),
        **{k: v for k, v in found.items() if v is not None},
        "q_lora_rank": found["q_lora_rank"],
    }
    sharper = entry("rope.scaling.yarn_log_multiplier")
    if "rope_scaling" in entries and sharper:
        entries["rope_scaling"] |= {"mscale": 10 * sharper, "mscale_all_dim": 10 * sharper}
    return entries


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")}
V2 = replace(
    llama.ARCHITECTURE,
    name="DeepseekV2",
    config=DeepseekV2Config,
    build=lambda config: build(config, rule2),
    keys=keys,
    heads=HEADS,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
V3 = replace(
    V2,
    name="DeepseekV3",
    config=DeepseekV3Config,
    build=lambda config: build(config, rule3),
    heads={**HEADS, "ForTokenClassification": llama.HEADS["ForTokenClassification"]},
)
KIMI_K2 = replace(V3, name="KimiK2", config=KimiK2Config, layouts={}, foreign_config={})
GLM4_MOE_LITE = replace(
    V3,
    name="Glm4MoeLite",
    config=Glm4MoeLiteConfig,
    heads={end: HEADS[end] for end in ("Model", "ForCausalLM")},
    layouts={},
    foreign_config={},
)
