"""Llama 4 (Meta, 2025): attention in chunks, layers without positions between, experts that read scaled inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import ColumnPart, Interleaved, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.attention.chunked import ChunkedAttention
from ..nn.attention.query_scale import PositionScale
from ..nn.experts import ExpertList, ScaledInputExperts, SharedExpert, top_k_sigmoid
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.norms import PlainRMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.experts import ROUTED, SHARED
from .common.patterns import FULL, layer_kinds, rotary_of

CHUNKED = "chunked_attention"
MAVERICK = 128  # experts of the model whose queries and keys have no norms


@dataclass(kw_only=True)
class Llama4TextConfig(llama.LlamaConfig):
    model_type = "llama4_text"
    inert = ("router_aux_loss_coef", "router_jitter_noise", "for_llm_compressor")  # the reference reads none of them
    theta: ClassVar[float] = 500000.0

    vocab_size: Size = 202048
    hidden_size: Size = 5120
    intermediate_size: Size = 8192  # of experts
    intermediate_size_mlp: Size = 16384
    num_hidden_layers: Count = 48
    num_attention_heads: Size = 40
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    num_experts_per_tok: Count = 1
    num_local_experts: Count = 16
    moe_layers: list[int] | None = None
    interleave_moe_layer_step: Count = 1
    use_qk_norm: bool = True
    output_router_logits: bool = False
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: Size = 4
    attention_chunk_size: Size = 8192
    layer_types: list[str] | None = None
    attn_temperature_tuning: bool = True
    floor_scale: Size = 8192
    attn_scale: float = 0.1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the number that the first files have for the tuning as a yes or no."""
        entries, tuning = super().normalized(entries), entries.get("attn_temperature_tuning")
        return {**entries, "attn_temperature_tuning": bool(tuning)} if type(tuning) in (int, float) else entries

    @property
    def turned(self) -> list[bool]:
        """For each layer, True if it has rotary positions; a 1 in `no_rope_layers` means that it has them."""
        usual = [(i + 1) % self.no_rope_layer_interval for i in range(self.num_hidden_layers)]
        return [bool(one) for one in self.no_rope_layers or usual]

    @property
    def routed(self) -> set[int]:
        """Layers that have experts."""
        step = self.interleave_moe_layer_step
        return set(range(step - 1, self.num_hidden_layers, step) if self.moe_layers is None else self.moe_layers)

    def check(self) -> None:
        super().check()
        if len(self.turned) < self.num_hidden_layers:
            raise UnsupportedConfig(f"no_rope_layers has {len(self.turned)} entries, not {self.num_hidden_layers}.")
        if self.moe_layers is None and self.interleave_moe_layer_step == 0:
            raise UnsupportedConfig("interleave_moe_layer_step = 0 names no layers with experts without moe_layers.")
        chosen, count = self.num_experts_per_tok, self.num_local_experts
        if self.routed & set(range(self.num_hidden_layers)) and not 1 <= chosen <= count:
            raise UnsupportedConfig(f"num_experts_per_tok = {chosen} of num_local_experts = {count} cannot be chosen.")


def attention(config: Llama4TextConfig, turned: bool, kind: str, positions: Positions) -> Attention:
    options: dict[str, Any] = {
        "key_heads": config.num_key_value_heads,
        "head_width": config.head_width,
        "bias": config.attention_bias,
        "dropout": config.attention_dropout,
    }
    if turned:
        options["positions"] = positions
    if turned and config.use_qk_norm:
        norms = {name: PlainRMSNorm(config.head_width, config.rms_norm_eps) for name in ("q_norm", "k_norm")}
        options |= {**norms, "norm_last": True}
    if config.attn_temperature_tuning and not turned:
        options["query_scale"] = PositionScale(config.attn_scale, config.floor_scale, shift=1)
    width, heads = config.hidden_size, config.num_attention_heads
    if kind == CHUNKED:
        return ChunkedAttention(width, heads, chunk=config.attention_chunk_size, **options)
    return Attention(width, heads, causal=True, **options)


def feed_forward(config: Llama4TextConfig, routed: bool) -> nn.Module:
    def one(inner: int = config.intermediate_size) -> GatedFeedForward:
        return GatedFeedForward(config.hidden_size, inner, config.hidden_act)

    if not routed:
        return one(config.intermediate_size_mlp)
    each, count = ExpertList([one() for _ in range(config.num_local_experts)]), config.num_local_experts
    rule = top_k_sigmoid(config.num_experts_per_tok)
    return SharedExpert(ScaledInputExperts(config.hidden_size, each, count, rule), one())


def build(config: Llama4TextConfig) -> Stack:
    positions, turned, routed = rotary_of(config, config.head_width), config.turned, config.routed
    kinds = layer_kinds(config, [CHUNKED if one else FULL for one in turned], (FULL, CHUNKED))

    def layer(i: int) -> Layer:
        return llama.layer(config, attention(config, turned[i], kinds[i], positions), feed_forward(config, i in routed))

    return llama.decoder(config, layer)


def keys(config: Llama4TextConfig) -> KeyMap:
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads or config.num_attention_heads}
    step, theirs, inner = "layers.*.ffn.step", "layers.*.feed_forward", config.intermediate_size
    count, experts = config.num_local_experts, f"{step}.routed.experts.*"
    own: dict[str, str | Source] = {
        f"layers.*.attention.step.{n}": Interleaved(f"layers.*.self_attn.{n}_proj", c) for n, c in heads.items()
    }
    own |= {f"{step}.{n}": f"{theirs}.{n}_proj" for n in ("gate", "up", "down")}
    own |= {f"{step}.shared.{n}": f"{theirs}.shared_expert.{n}_proj" for n in ("gate", "up", "down")}
    own |= {
        f"{experts}.gate.weight": ColumnPart(f"{theirs}.experts.gate_up_proj", count, sizes=(inner, inner)),
        f"{experts}.up.weight": ColumnPart(f"{theirs}.experts.gate_up_proj", count, sizes=(inner, inner), index=1),
        f"{experts}.down.weight": ColumnPart(f"{theirs}.experts.down_proj", count, sizes=(config.hidden_size,)),
        f"{step}.routed.router": f"{theirs}.router",
    }
    return llama.keys(config, own)


def gguf_keys(config: Llama4TextConfig) -> KeyMap:
    own = {**gguf.expert_keys(ROUTED, config.num_local_experts), **gguf.shared_keys(SHARED)}
    return gguf.llama_keys(config, own, turned=True)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file. llama.cpp knows chunks, unturned layers and norms from the model itself."""
    found = llama.gguf_config(metadata)
    own = gguf.named(
        metadata, num_local_experts="expert_count", num_experts_per_tok="expert_used_count",
        interleave_moe_layer_step="interleave_moe_layer_step", intermediate_size="expert_feed_forward_length",
        window="attention.sliding_window",
    )  # fmt: skip
    layers, experts = found["num_hidden_layers"], own.setdefault("num_local_experts", 0)
    own |= {"intermediate_size_mlp": found["intermediate_size"], "use_qk_norm": experts != MAVERICK}
    if own.pop("window", None) == 0:  # a dense relative whose layers are all alike
        own |= {"layer_types": [FULL] * layers, "no_rope_layers": [1] * layers}
    if not experts:
        own |= {"moe_layers": [], "num_experts_per_tok": 0}
    return {**found, **own}


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="Llama4",
    config=Llama4TextConfig,
    build=build,
    keys=keys,
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
