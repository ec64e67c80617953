"""OLMoE (arXiv:2409.02060) and FlexOlmo (arXiv:2507.07024): OLMo whose feed-forward are routed experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count, Size
from ..nn.experts import RoutedExperts, softmax_top_k
from ..nn.layer import Layer, Residual
from ..nn.norms import AllHeadsNorm, RMSNorm
from ..nn.stack import Stack
from . import llama, olmo2
from .common import gguf
from .common.experts import ALONE, DENSE, routed, routed_rows
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class OlmoeConfig(llama.LlamaConfig):
    model_type = "olmoe"
    aliases: ClassVar[Mapping[str, str]] = {"num_local_experts": "num_experts"}

    vocab_size: Size = 50304
    hidden_size: Size = 2048
    intermediate_size: Size = 2048
    num_hidden_layers: Count = 16
    num_attention_heads: Size = 16
    max_position_embeddings: Size = 4096
    rms_norm_eps: float = 1e-5
    clip_qkv: float | None = None
    num_experts_per_tok: Size = 8
    num_experts: Copies = 64
    norm_topk_prob: bool = False
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.01
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 50279


@dataclass(kw_only=True)
class FlexOlmoConfig(OlmoeConfig):
    model_type = "flex_olmo"
    inert = ("clip_qkv",)
    theta: ClassVar[float] = 500000.0

    vocab_size: Size = 100352
    hidden_size: Size = 4096
    intermediate_size: Size = 11008
    num_hidden_layers: Count = 32
    num_attention_heads: Size = 32
    rms_norm_eps: float = 1e-6
    num_experts_per_tok: Size = 5
    num_experts: Copies = 7
    pad_token_id: int | None = 100277
    eos_token_id: int | list[int] | None = 100257


def experts(config: OlmoeConfig) -> RoutedExperts:
    rule = softmax_top_k(config.num_experts_per_tok, normalized=config.norm_topk_prob)
    return routed(config, config.num_experts, rule, config.intermediate_size)


def build(config: OlmoeConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    heads = {"q_norm": config.num_attention_heads, "k_norm": config.num_key_value_heads or config.num_attention_heads}

    def layer(i: int) -> Layer:
        norms = {
            name: AllHeadsNorm(RMSNorm(count * config.head_width, config.rms_norm_eps)) for name, count in heads.items()
        }
        # Without a bound there is nothing that the norms' order changes, and fast paths serve the attention.
        clip = {"clip": config.clip_qkv, "clips_normed": True} if config.clip_qkv is not None else {}
        attention = llama.attention(config, positions, **clip, **norms)
        return llama.layer(config, attention, experts(config))

    return llama.decoder(config, layer)


def build_flex(config: FlexOlmoConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        out = Residual(experts(config), out=olmo2.norm(config))
        return Layer(Residual(olmo2.attention(config, positions), out=olmo2.norm(config)), out)

    return llama.decoder(config, layer, olmo2.norm)


def keys(config: OlmoeConfig) -> KeyMap:
    return llama.keys(config, {**olmo2.HEAD_NORMS, **routed_rows()}, DENSE)


def gguf_keys(config: OlmoeConfig) -> KeyMap:
    norms = {ours: f"blk.*.attn_{ours[-11:-5]}" for ours in olmo2.HEAD_NORMS}
    return gguf.llama_keys(config, {**norms, **gguf.expert_keys(ALONE, config.num_experts)}, DENSE)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    own = gguf.named(metadata, num_experts="expert_count", num_experts_per_tok="expert_used_count")
    return {**llama.gguf_config(metadata), **own}


def keys_flex(config: FlexOlmoConfig) -> KeyMap:
    plain = olmo2.keys(config)
    rows = {ours: theirs for ours, theirs in plain.rows.items() if ours not in DENSE}
    return replace(plain, rows={**rows, **routed_rows()})


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Olmoe",
    OlmoeConfig,
    build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
FLEX_OLMO = ARCHITECTURE.derive("FlexOlmo", FlexOlmoConfig, build_flex, keys=keys_flex)
