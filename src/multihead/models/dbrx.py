"""DBRX (Databricks, 2024): many narrow experts, layer norms without biases, one matrix of queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, RowBlock, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.experts import softmax_top_k
from ..nn.layer import Layer
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import llama
from .common.experts import ALONE, routed
from .common.patterns import rope_entries, rotary_of
from .common.rotary_config import RotaryConfig


@dataclass(kw_only=True)
class DbrxConfig(RotaryConfig):
    """Config of DBRX; `attn_config` and `ffn_config` are as the file has them."""

    model_type = "dbrx"
    inert = ("emb_pdrop", "num_key_value_heads", "router_aux_loss_coef")
    aliases: ClassVar[Mapping[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "max_position_embeddings": "max_seq_len",
    }

    d_model: Size = 2048
    n_heads: Size = 16
    n_layers: Count = 24
    max_seq_len: Size = 2048
    vocab_size: Size = 32000
    resid_pdrop: float = 0.0
    attn_config: dict[str, Any] = field(default_factory=dict)
    ffn_config: dict[str, Any] = field(default_factory=dict)
    initializer_range: float = 0.02
    output_router_logits: bool = False
    tie_word_embeddings: Literal[False] = False

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the rotary base where the first files have it, among the numbers of attention."""
        attention = entries.get("attn_config")
        base = attention.get("rope_theta") if isinstance(attention, Mapping) else None
        return rope_entries(entries, theta=10000.0 if base is None else base)

    def check(self) -> None:
        if not isinstance(self.attn_config.get("clip_qkv"), (int, float)):
            raise UnsupportedConfig("attn_config: clip_qkv must be a number, which bounds queries, keys and values.")
        if not 0 < self.num_experts_per_tok <= self.experts:
            raise UnsupportedConfig(
                f"ffn_config: {self.num_experts_per_tok} of {self.experts} experts cannot be chosen."
            )

    @property
    def key_heads(self) -> int:
        return self.attn_config.get("kv_n_heads", 1)

    @property
    def experts(self) -> int:
        return self.ffn_config.get("moe_num_experts", 4)

    @property
    def num_experts_per_tok(self) -> int:
        return self.ffn_config.get("moe_top_k", 1)

    @property
    def inner(self) -> int:
        return self.ffn_config.get("ffn_hidden_size", 3584)

    @property
    def hidden_act(self) -> str:
        return (self.ffn_config.get("ffn_act_fn") or {}).get("name", "silu")

    @property
    def router_aux_loss_coef(self) -> float:
        return self.ffn_config.get("moe_loss_weight", 0.01)


def norm(config: Any) -> nn.Module:
    return LayerNorm(config.hidden_size, 1e-5, bias=False)


def build(config: DbrxConfig) -> Stack:
    own, ffn = config.attn_config, config.ffn_config
    positions = rotary_of(config, config.d_model // config.n_heads)
    power, noise = ffn.get("moe_normalize_expert_weights", 1.0), ffn.get("moe_jitter_eps") or 0.0

    def layer(i: int) -> Layer:
        attention = Attention(
            config.d_model, config.n_heads, key_heads=config.key_heads, bias=False, positions=positions, causal=True,
            clip=own["clip_qkv"], dropout=own.get("attn_pdrop", 0.0),
        )  # fmt: skip
        rule = softmax_top_k(config.num_experts_per_tok, normalized=power is not None, power=power or 1.0)
        experts = routed(config, config.experts, rule, config.inner, jitter=(noise,))
        return llama.layer(config, attention, experts, norm, dropout=config.resid_pdrop)

    return llama.decoder(config, layer, norm)


def keys(config: DbrxConfig) -> KeyMap:
    stem, attention = "blocks.*.norm_attn_norm", "layers.*.attention"
    width = config.key_heads * (config.d_model // config.n_heads)
    sizes, moe = (config.d_model, width, width), "blocks.*.ffn"
    rows: dict[str, str | Source] = {
        "embed.token": "wte",
        f"{attention}.before": f"{stem}.norm_1",
        **{f"{attention}.step.{n}": Part(f"{stem}.attn.Wqkv", sizes, i) for i, n in enumerate(("q", "k", "v"))},
        f"{attention}.step.out": f"{stem}.attn.out_proj",
        "layers.*.ffn.before": f"{stem}.norm_2",
        f"{ALONE}.router": f"{moe}.router.layer",
        f"{ALONE}.experts.*.gate.weight": RowBlock(f"{moe}.experts.mlp.w1", config.experts),
        f"{ALONE}.experts.*.up.weight": RowBlock(f"{moe}.experts.mlp.v1", config.experts),
        f"{ALONE}.experts.*.down.weight": RowBlock(f"{moe}.experts.mlp.w2", config.experts, transposed=True),
        "norm": "norm_f",
    }
    return KeyMap(rows, "transformer.")


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive("Dbrx", DbrxConfig, build, keys=keys, heads=HEADS)
