"""Kimi Linear (Moonshot AI, 2025, arXiv:2510.26692): Kimi Delta Attention, and latent attention without positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Joined, Shaped, Source
from ..config import Config, Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.kimi_delta import KimiDeltaAttention
from ..nn.layer import Layer
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import deepseek, llama
from .common.experts import PARTS, ROUTED, SHARED
from .common.patterns import FULL, LINEAR, layer_kinds
from .qwen3_next import DELTA

STORED = "layers.*.self_attn"


@dataclass(kw_only=True)
class KimiLinearConfig(Config):
    model_type = "kimi_linear"
    inert: ClassVar[tuple[str, ...]] = ("rope_theta", "rope_scaling", "head_dim", "use_grouped_topk", "qk_head_dim")
    aliases: ClassVar[Mapping[str, str]] = {
        "model_max_length": "max_position_embeddings", "moe_renormalize": "norm_topk_prob",
        "num_expert_group": "n_group", "num_experts": "num_local_experts",
        "num_experts_per_token": "num_experts_per_tok", "num_shared_experts": "n_shared_experts",
    }  # fmt: skip
    mlp_bias: ClassVar[bool] = False
    rope_interleave: ClassVar[bool] = False

    vocab_size: Size = 163840
    hidden_size: Size = 2304
    intermediate_size: Size = 9216
    moe_intermediate_size: Size = 1024
    num_hidden_layers: Count = 27
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 32
    n_shared_experts: Size = 1
    routed_scaling_factor: float = 2.446
    kv_lora_rank: Size = 512
    q_lora_rank: Size | None = None
    qk_rope_head_dim: Size = 64
    qk_nope_head_dim: Size = 128
    v_head_dim: Size = 128
    n_group: Size = 1
    topk_group: Size | None = 1
    num_experts_per_tok: Size = 8
    num_local_experts: Copies = 256
    norm_topk_prob: bool = True
    moe_layer_freq: Literal[1] = 1
    moe_router_activation_func: Literal["sigmoid"] = "sigmoid"
    mla_use_nope: Literal[True] = True
    num_nextn_predict_layers: int = 0
    hidden_act: str = "silu"
    max_position_embeddings: Size = 1048576
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    attention_bias: bool = False
    attention_dropout: float | None = 0.0
    output_router_logits: Literal[False] = False
    mlp_layer_types: list[str] | None = None
    layer_types: list[str] | None = None
    linear_head_dim: Size = 128
    linear_num_heads: Size = 32
    linear_conv_kernel_dim: Size = 4
    tie_word_embeddings: Literal[False] = False  # which the reference does not tie
    pad_token_id: int | None = 163839
    bos_token_id: int | None = 163584
    eos_token_id: int | list[int] | None = 163586

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the sizes and layers that published files keep in `linear_attn_config`."""
        entries = dict(entries)
        linear, dense = entries.pop("linear_attn_config", None) or {}, entries.pop("first_k_dense_replace", 1)
        names = {"head_dim": "linear_head_dim", "num_heads": "linear_num_heads",
                 "short_conv_kernel_size": "linear_conv_kernel_dim"}  # fmt: skip
        entries |= {ours: linear[theirs] for theirs, ours in names.items() if theirs in linear}
        count = entries.get("num_hidden_layers", 27)
        if entries.get("layer_types") is None and {"full_attn_layers", "kda_layers"} <= set(linear):
            kinds = dict.fromkeys(linear["full_attn_layers"], FULL)  # counted from 1
            kinds |= dict.fromkeys(linear["kda_layers"], LINEAR)
            entries["layer_types"] = [kinds.get(number + 1, "") for number in range(count)]
        if entries.get("mlp_layer_types") is None:
            entries["mlp_layer_types"] = ["dense" if i < dense else "sparse" for i in range(count)]
        return entries

    def check(self) -> None:
        deepseek.check_groups(self)
        if self.num_nextn_predict_layers:
            raise UnsupportedConfig("num_nextn_predict_layers: layers that predict several tokens are not read here.")

    @property
    def n_routed_experts(self) -> int:
        return self.num_local_experts

    @property
    def kinds(self) -> list[str]:
        """The mixer of each layer."""
        usual = [FULL if i and i % 4 == 0 else LINEAR for i in range(self.num_hidden_layers)]
        return layer_kinds(self, usual, (FULL, LINEAR))


def delta_attention(config: Any, bound: float | None = None) -> KimiDeltaAttention:
    """Return the linear attention of a layer; `bound`: of its rates."""
    return KimiDeltaAttention(
        config.hidden_size,
        config.linear_num_heads,
        config.linear_head_dim,
        kernel=config.linear_conv_kernel_dim,
        norm_eps=config.rms_norm_eps,
        act=config.hidden_act,
        bound=bound,
    )


def build(config: KimiLinearConfig) -> Stack:
    kinds, dense = config.kinds, deepseek.dense_layers(config)

    def layer(i: int) -> Layer:
        mixer: nn.Module = deepseek.attention(config, Positions()) if kinds[i] == FULL else delta_attention(config)
        ffn = llama.feed_forward(config) if dense[i] else deepseek.experts(config, deepseek.rule3)  # type: ignore[arg-type]
        return llama.layer(config, mixer, ffn)

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    sizes, kernel = (config.linear_num_heads * config.linear_head_dim,) * 3, config.linear_conv_kernel_dim
    moe = "layers.*.block_sparse_moe"
    rows: dict[str, str | Source] = {
        f"{DELTA}.qkv": Joined(f"{STORED}.q_proj", ("k_proj", "v_proj"), sizes),
        f"{DELTA}.convolution": Joined(f"{STORED}.q_conv1d", ("k_conv1d", "v_conv1d"), sizes, (1, kernel)),
        f"{DELTA}.forget.down": f"{STORED}.f_a_proj",
        f"{DELTA}.forget.up": f"{STORED}.f_b_proj",
        f"{DELTA}.gate.down": f"{STORED}.g_a_proj",
        f"{DELTA}.gate.up": f"{STORED}.g_b_proj",
        f"{DELTA}.write": f"{STORED}.b_proj",
        f"{DELTA}.decay": Shaped(f"{STORED}.A_log", (-1,), (1, 1, -1, 1)),
        f"{DELTA}.step": f"{STORED}.dt_bias",
        f"{DELTA}.norm": f"{STORED}.o_norm",
        f"{DELTA}.output": f"{STORED}.o_proj",
        **{f"{ROUTED}.experts.*.{n}": f"{moe}.experts.*.w{w}" for n, w in zip(PARTS, (1, 3, 2), strict=True)},
        **{f"{SHARED}.{n}": f"{moe}.shared_experts.{n}_proj" for n in PARTS},
        f"{ROUTED}.router": f"{moe}.gate",
        f"{ROUTED}.rule.correction": f"{moe}.gate.e_score_correction_bias",
    }
    table = deepseek.keys(config)
    renamed = (  # the reference writes feed-forwards without experts as those with them
        (r"\.self_attn\.forget_gate\.", ".self_attn."),
        (r"\.mlp\.(?=experts|shared_experts|gate\.)", ".block_sparse_moe."),
        (r"\.block_sparse_moe\.(?=(?:gate|up|down)_proj\.)", ".mlp."),
    )
    convolutions = tuple(rf"\1.{part}_conv1d.weight" for part in "qkv")
    fused = ((r"(\.self_attn)\.conv1d\.weight$", convolutions),)
    return replace(table, rows={**table.rows, **rows}, renamed=renamed, split_fused=fused)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "KimiLinear", KimiLinearConfig, build, keys=keys, heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
)
