"""Hunyuan 4 (Tencent, 2026, model card of Hy4-preview): latent attention by an index, and hyper-connections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Slice, SlicePart, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head, LanguageModel
from ..nn.attention.indexer import Indexer
from ..nn.attention.latent import GatedLatentAttention
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert
from ..nn.feedforward import ClampedGatedFeedForward
from ..nn.hyper_connections import HyperConnection, HyperResidual, StreamEmbeddings, StreamMerge
from ..nn.layer import Layer
from ..nn.stack import Stack
from ..nn.weights import Embedding, ExactLinear
from . import deepseek, deepseek_sparse, llama
from .common.experts import ROUTED, gated
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class HYV4Config(deepseek_sparse.DeepseekV32Config):
    model_type = "hy_v4"
    inert = (*deepseek_sparse.DeepseekV32Config.inert, "learnable_sink_init", "first_k_dense_replace")
    aliases: ClassVar = {"num_local_experts": "n_routed_experts"}
    rope_interleave: ClassVar[bool] = False  # type: ignore[assignment,misc]
    first_k_dense_replace: ClassVar[int] = 1  # type: ignore[misc]

    vocab_size: Size = 120832
    hidden_size: Size = 2816
    intermediate_size: Size = 6912
    moe_intermediate_size: Size = 768
    num_hidden_layers: Count = 34
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 262144
    rms_norm_eps: float = 1e-5
    n_routed_experts: Copies = 256
    routed_scaling_factor: float = 2.827
    n_group: Size = 1
    topk_group: Size = 1
    kv_lora_rank: Size = 512
    qk_nope_head_dim: Size = 192
    v_head_dim: Size = 256
    index_n_heads: Size = 16
    indexer_types: list[str] | None = None
    hc_mult: Size = 4
    hc_magnitude: float = 2.0
    hc_eps: float = 1e-6
    swiglu_limit: float = 10.0
    gating_type: Literal["elementwise"] = "elementwise"
    mlp_bias: Literal[False] = False
    pad_token_id: int | None = 120002
    initializer_range: float = 0.006
    bos_token_id: int | None = 120000
    eos_token_id: int | list[int] | None = 120025

    def check(self) -> None:
        super().check()
        kinds = self.indexers
        if len(kinds) != self.num_hidden_layers or set(kinds) - {"full", "shared"} or kinds[:1] == ["shared"]:
            raise UnsupportedConfig(f'indexer_types must be "full" or "shared" for each layer, first "full": {kinds}.')
        if self.swiglu_limit <= 0:
            raise UnsupportedConfig(f"swiglu_limit = {self.swiglu_limit} would clamp all of the experts' states to it.")

    @property
    def indexers(self) -> list[str]:
        """Whether each layer chooses keys ("full") or takes those of a layer before it ("shared")."""
        usual = ["full" if i == 0 or (i - 1) % 4 == 0 else "shared" for i in range(self.num_hidden_layers)]
        return usual if self.indexer_types is None else list(self.indexer_types)


def experts(config: HYV4Config) -> SharedExpert:
    wide, inner, count = config.hidden_size, config.moe_intermediate_size, config.n_routed_experts
    several = ExpertList(
        [ClampedGatedFeedForward(wide, inner, config.hidden_act, config.swiglu_limit) for _ in range(count)]
    )
    routed = RoutedExperts(wide, several, count, deepseek.rule3(config), wide=True)
    return SharedExpert(routed, gated(config, inner * config.n_shared_experts))


def build(config: HYV4Config) -> Stack:
    positions, dense = rotary_of(config, config.qk_rope_head_dim), deepseek.dense_layers(config)
    wide, streams, eps = config.hidden_size, config.hc_mult, {"eps": config.hc_eps, "norm_eps": config.rms_norm_eps}
    index = partial(Indexer, norm_eps=config.rms_norm_eps, last=config.qk_rope_head_dim)

    def residual(step: nn.Module) -> HyperResidual:
        connection = HyperConnection(wide, streams, rounds=None, strength=config.hc_magnitude, **eps)
        return HyperResidual(step, connection, before=llama.norm(config))

    def layer(i: int) -> Layer:
        chosen = deepseek_sparse.selection(config, positions, i, config.indexers, index)
        scale = deepseek.score_scale(config)
        attention = deepseek.attention(config, positions, scale, GatedLatentAttention, selection=chosen, sinks=True)
        return Layer(residual(attention), residual(llama.feed_forward(config) if dense[i] else experts(config)))

    embed = StreamEmbeddings(Embedding(config.vocab_size, wide), streams)
    return Stack(
        embed,
        [layer(i) for i in range(config.num_hidden_layers)],
        StreamMerge(wide, streams, llama.norm(config), **eps),
    )


def generate(config: HYV4Config, backbone: Stack) -> Head:
    """Build the language model head, whose scores are float32 in every model."""
    if config.tie_word_embeddings:
        return llama.generate(config, backbone)
    table = ExactLinear(config.hidden_size, config.vocab_size, bias=False)
    return Head(LanguageModel(table), {"table": "/lm_head"})


RENAMED = (  # names of the authors' files
    (r"\.hc_pre\.hc_", ".hc_"),
    (r"\.learnable_sink_param$", ".sinks"),
    (r"\.linear_gate\.", ".gate_proj."),
    (r"\.hc_attn_layer\.hc_", ".attn_hc."),
    (r"\.hc_mlp_layer\.hc_", ".ffn_hc."),
    (r"\.hc_head_(base|fn|scale)$", r".hc_\1"),
)


def keys(config: HYV4Config) -> KeyMap:
    table, ours = deepseek_sparse.keys(config), "layers.*.attention.step"
    count, inner = config.n_routed_experts, config.moe_intermediate_size
    rows: dict[str, str | Source] = {
        **{k: v for k, v in table.rows.items() if k != "norm" and not k.startswith(f"{ROUTED}.experts.")},
        "norm.norm": "norm",
        f"{ours}.sinks": "layers.*.self_attn.sinks",
        f"{ours}.gate": "layers.*.self_attn.gate_proj",
        f"{ROUTED}.experts.*.down.weight": Slice("layers.*.mlp.experts.down_proj", count),
    }
    for index, part in enumerate(("gate", "up")):
        stack = SlicePart("layers.*.mlp.experts.gate_up_proj", count, sizes=(inner, inner), index=index)
        rows[f"{ROUTED}.experts.*.{part}.weight"] = stack
    for name, part in (("base", "base"), ("fn", "matrix"), ("scale", "scale")):
        rows[f"layers.*.attention.connection.weights.{part}"] = f"layers.*.attn_hc.{name}"
        rows[f"layers.*.ffn.connection.weights.{part}"] = f"layers.*.ffn_hc.{name}"
        rows[f"norm.weights.{part}"] = f"hc_head.hc_{name}"
    ignored = (*table.ignored, r"^(?:model\.)?mtp_layers\.")
    return replace(table, rows=rows, renamed=(*table.renamed, *RENAMED), ignored=ignored)


ARCHITECTURE = replace(
    deepseek_sparse.V32,
    name="HYV4",
    config=HYV4Config,
    build=build,
    keys=keys,
    heads={"Model": None, "ForCausalLM": generate},
)
