"""MiniMax-M2 (MiniMax, 2025): Mixtral with DeepSeek's routing, and norms over all heads of queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..config import Copies, Count, Size
from ..nn.experts import GroupedTopK
from ..nn.layer import Layer
from ..nn.norms import AllHeadsNorm, RMSNorm
from ..nn.stack import Stack
from . import llama, mixtral, olmo2
from .common import gguf
from .common.experts import ALONE, DENSE, routed
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class MiniMaxM2Config(llama.LlamaConfig):
    model_type = "minimax_m2"
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    inert = (
        "attn_type_list", "layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta",
        "mlp_intermediate_size", "mtp_transformer_layers", "num_mtp_modules", "postnorm", "rotary_dim",
        "shared_moe_mode", "sliding_window", "use_mtp",
    )  # fmt: skip
    theta: ClassVar[float] = 5000000.0
    rotary_factor: ClassVar[float | None] = 1.0

    vocab_size: Size = 200064
    hidden_size: Size = 3072
    intermediate_size: Size = 1536
    num_hidden_layers: Count = 62
    num_attention_heads: Size = 48
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 196608
    num_experts_per_tok: Size = 8
    num_local_experts: Copies = 256
    scoring_func: Literal["sigmoid"] = "sigmoid"
    use_routing_bias: Literal[True] = True
    use_qk_norm: Literal[True] = True
    qk_norm_type: Literal["per_layer"] = "per_layer"
    shared_intermediate_size: Literal[0] = 0
    attention_bias: Literal[False] = False
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    router_jitter_noise: float = 0.0
    bos_token_id: int | None = 200034
    eos_token_id: int | list[int] | None = 200020

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the number of channels that positions turn, as published files have it."""
        turned, width = entries.get("rotary_dim"), entries.get("head_dim") or 128
        if isinstance(turned, int) and isinstance(width, int) and "partial_rotary_factor" not in entries:
            entries = {**entries, "partial_rotary_factor": turned / width}
        return super().normalized(entries)


def build(config: MiniMaxM2Config) -> Stack:
    positions = rotary_of(config, config.head_width)
    heads = {"q_norm": config.num_attention_heads, "k_norm": config.num_key_value_heads or config.num_attention_heads}

    def layer(i: int) -> Layer:
        norms = {
            name: AllHeadsNorm(RMSNorm(count * config.head_width, config.rms_norm_eps)) for name, count in heads.items()
        }
        rule = GroupedTopK(config.num_local_experts, config.num_experts_per_tok)
        noise = (config.router_jitter_noise,)
        experts = routed(config, config.num_local_experts, rule, config.intermediate_size, jitter=noise)
        return llama.layer(config, llama.attention(config, positions, **norms), experts)

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    rows = {**olmo2.HEAD_NORMS, **mixtral.EXPERTS}
    rows["layers.*.ffn.step.rule.correction"] = "layers.*.block_sparse_moe.e_score_correction_bias"
    return replace(llama.keys(config, rows, DENSE), renamed=mixtral.RENAMED)


def gguf_keys(config: MiniMaxM2Config) -> KeyMap:
    norms = {ours: f"blk.*.attn_{ours[-11:-5]}" for ours in olmo2.HEAD_NORMS}
    bias: dict[str, str | Source] = {f"{ALONE}.rule.correction": "blk.*.exp_probs_b.bias"}
    return gguf.llama_keys(config, {**bias, **norms, **gguf.expert_keys(ALONE, config.num_local_experts)}, DENSE)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    gguf.refuse_softmax(metadata)
    own = gguf.named(
        metadata, num_local_experts="expert_count", num_experts_per_tok="expert_used_count",
        rotary_dim="rope.dimension_count",
    )  # fmt: skip
    return {**llama.gguf_config(metadata), **own}


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "MiniMaxM2",
    MiniMaxM2Config,
    build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
