"""Ling 3.0 (inclusionAI, 2026): Kimi Delta Attention, latent attention with gates of heads, routed experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Joined, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.latent import HeadGatedLatentAttention
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert
from ..nn.feedforward import BoundedGatedFeedForward, GatedFeedForward
from ..nn.kimi_delta import KimiDeltaAttention
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import deepseek, llama
from .common.patterns import FULL, LINEAR, layer_kinds, rope_entries, rotary_of
from .common.rotary_config import RotaryConfig
from .qwen3_next import DELTA

STORED = "layers.*.attention"
FIXED: Mapping[str, Any] = {  # what published files say of choices that no other value was published for
    "gated_attention_proj_granularity_type": "head_wise", "no_kda_lora": True, "use_kda_lora": False,
    "use_mla_nope": False, "up_proj_norm": False, "value_norm": False, "use_nGPT": False, "scale_router_input": False,
    "use_qkv_bias": False, "use_bias": False, "use_qk_norm": True, "moe_router_enable_expert_bias": True,
    "scoring_func": "sigmoid", "score_function": "sigmoid", "topk_method": "noaux_tc", "embedding_dropout": 0.0,
    "output_dropout": 0.0, "linear_silu": True, "rope_interleave": True, "num_kv_heads_for_linear_attn": 0,
}  # fmt: skip
CURRENT = (  # names in the reference's models, to those in files
    (r"\.self_attn\.", ".attention."),
    (r"\.attention\.o_proj\.", ".attention.dense."),
    (r"\.attention\.forget_gate\.", ".attention."),
    (r"\.gate\.e_score_correction_bias$", ".gate.expert_bias"),
    (r"^(model\.)?word_embeddings\.", r"\1embed_tokens."),
)


@dataclass(kw_only=True)
class BailingHybridConfig(RotaryConfig):
    model_type = "bailing_hybrid"
    inert: ClassVar[tuple[str, ...]] = (
        *FIXED, "mtp_loss_scaling_factor", "mtp_use_kda", "rotary_dim", "qk_head_dim", "router_dtype",
        "num_nextn_predict_layers", "group_norm_size",
    )  # fmt: skip
    aliases: ClassVar[Mapping[str, str]] = {
        "model_max_length": "max_position_embeddings", "moe_renormalize": "norm_topk_prob",
        "num_expert_group": "n_group", "num_experts": "num_local_experts", "num_mtp_layers": "num_nextn_predict_layers",
        "num_experts_per_token": "num_experts_per_tok", "num_shared_experts": "n_shared_experts",
    }  # fmt: skip
    mlp_bias: ClassVar[bool] = False
    rope_interleave: ClassVar[bool] = True
    q_lora_rank: Size | None = None

    vocab_size: Size = 157184
    hidden_size: Size = 2560
    intermediate_size: Size = 6144
    moe_intermediate_size: Size = 768
    moe_shared_expert_intermediate_size: Size | None = None  # None: as wide as the routed ones
    num_hidden_layers: Count = 42
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 32
    n_shared_experts: Size = 1
    output_router_logits: bool = False
    routed_scaling_factor: float = 2.5
    kv_lora_rank: Size = 512
    qk_rope_head_dim: Size = 64
    v_head_dim: Size = 128
    qk_nope_head_dim: Size = 128
    n_group: Size = 8
    topk_group: Size = 4
    num_experts_per_tok: Size = 8
    first_k_dense_replace: int = 2
    norm_topk_prob: bool = True
    hidden_act: str = "silu"
    max_position_embeddings: Size = 262144
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: Literal[False] = False  # which the reference does not tie
    attention_bias: bool = False
    attention_dropout: float = 0.0
    num_local_experts: Copies = 512
    head_dim: Size = 128
    short_conv_kernel_size: Size = 4
    layer_group_size: Size = 6
    kda_safe_gate: bool = True
    kda_lower_bound: float = -5.0
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    linear_head_dim: Size | None = None  # what the reference writes, where its `head_dim` is that of positions
    linear_num_heads: Size | None = None
    linear_conv_kernel_dim: Size | None = None
    expert_swiglu_limit_list: list[float] | None = None
    share_expert_swiglu_limit_list: list[float] | None = None
    pad_token_id: int | None = 156892
    eos_token_id: int | list[int] | None = 156895

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return rope_entries(entries, theta=6000000.0)

    def check(self) -> None:
        deepseek.check_groups(self)
        if "BailingMoeV2_5ForCausalLM" in (self.architectures or ()):
            raise UnsupportedConfig("Ling and Ring 2.5 (BailingMoeV2_5ForCausalLM) have other layers than Ling 3.0.")
        for name, value in FIXED.items():
            if self.extra.get(name, value) != value:
                raise UnsupportedConfig(f"{name} is {self.extra[name]!r}; this library computes {value!r}.")
        if self.num_key_value_heads not in (None, self.num_attention_heads):
            raise UnsupportedConfig("num_key_value_heads must be num_attention_heads: all have the same latent vector.")

    @property
    def n_routed_experts(self) -> int:
        return self.num_local_experts

    @property
    def delta_heads(self) -> int:
        return self.linear_num_heads or self.num_attention_heads

    @property
    def delta_width(self) -> int:
        return self.linear_head_dim or self.head_dim

    @property
    def kernel(self) -> int:
        return self.linear_conv_kernel_dim or self.short_conv_kernel_size


def delta(config: BailingHybridConfig) -> KimiDeltaAttention:
    return KimiDeltaAttention(
        config.hidden_size,
        config.delta_heads,
        config.delta_width,
        kernel=config.kernel,
        norm_eps=config.rms_norm_eps,
        act=config.hidden_act,
        factored=False,
        bound=config.kda_lower_bound if config.kda_safe_gate else None,
    )


def limit(limits: list[float] | None, number: int) -> float | None:
    """Return the bound of a layer's gated states; 0 and a missing entry are none."""
    return (limits[number] or None) if limits and number < len(limits) else None


def experts(config: BailingHybridConfig, number: int) -> SharedExpert:
    def each(inner: int, limits: list[float] | None) -> nn.Module:
        bound, sizes = limit(limits, number), (config.hidden_size, inner, config.hidden_act)
        return GatedFeedForward(*sizes) if bound is None else BoundedGatedFeedForward(*sizes, bound)

    count, inner = config.num_local_experts, config.moe_intermediate_size
    several = ExpertList([each(inner, config.expert_swiglu_limit_list) for _ in range(count)])
    routed = RoutedExperts(config.hidden_size, several, count, deepseek.rule3(config), wide=True)
    wide = (config.moe_shared_expert_intermediate_size or inner) * config.n_shared_experts
    return SharedExpert(routed, each(wide, config.share_expert_swiglu_limit_list))


def build(config: BailingHybridConfig) -> Stack:
    count, group = config.num_hidden_layers, config.layer_group_size
    kinds = layer_kinds(config, [LINEAR if (i + 1) % group else FULL for i in range(count)], (FULL, LINEAR))
    positions, dense = rotary_of(config, config.qk_rope_head_dim), deepseek.dense_layers(config)
    scale = deepseek.score_scale(config)

    def layer(i: int) -> Layer:
        full = kinds[i] == FULL
        mixer = deepseek.attention(config, positions, scale, HeadGatedLatentAttention) if full else delta(config)
        ffn = llama.feed_forward(config) if dense[i] else experts(config, i)  # type: ignore[arg-type]
        return llama.layer(config, mixer, ffn)

    return llama.decoder(config, layer)


def keys(config: BailingHybridConfig) -> KeyMap:
    sizes, kernel = (config.delta_heads * config.delta_width,) * 3, config.kernel
    table = deepseek.keys(config)

    def stored(row: str | Source) -> str | Source:
        key = row if isinstance(row, str) else row.key
        key = key.replace("self_attn.o_proj", "self_attn.dense").replace("self_attn", "attention")
        key = key.replace("e_score_correction_bias", "expert_bias")
        return key if isinstance(row, str) else replace(row, key=key)

    rows: dict[str, str | Source] = {
        **{ours: stored(row) for ours, row in table.rows.items()},
        "layers.*.attention.step.head_gate": f"{STORED}.g_proj",
        f"{DELTA}.qkv": Joined(f"{STORED}.q_proj", ("k_proj", "v_proj"), sizes),
        f"{DELTA}.convolution": Joined(f"{STORED}.q_conv1d", ("k_conv1d", "v_conv1d"), sizes, (1, kernel)),
        f"{DELTA}.forget": f"{STORED}.f_proj",
        f"{DELTA}.gate": f"{STORED}.g_proj",
        f"{DELTA}.write": f"{STORED}.b_proj",
        f"{DELTA}.decay": f"{STORED}.A_log",
        f"{DELTA}.step": f"{STORED}.dt_bias",
        f"{DELTA}.norm": f"{STORED}.o_norm",
        f"{DELTA}.output": f"{STORED}.dense",
    }
    convolutions = tuple(rf"\1.{part}_conv1d.weight" for part in "qkv")
    fused = ((r"(\.(?:self_attn|attention))\.conv1d\.weight$", convolutions),)
    return replace(table, rows=rows, renamed=CURRENT, split_fused=fused)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "BailingHybrid",
    BailingHybridConfig,
    build,
    keys=keys,
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")},
)
