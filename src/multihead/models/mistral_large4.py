"""Mistral Large 4 (Mistral AI, 2026, model card): sparse latent attention that layers share, and learned positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import ByLayer, Interleaved, PerHead, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.attention.indexer import StateIndexer
from ..nn.attention.latent import BorrowedLatentAttention
from ..nn.attention.query_scale import LearnedLogScale
from ..nn.experts import SharedExpert
from ..nn.layer import Layer
from ..nn.positions import Positions, TunedRotary
from ..nn.stack import Stack
from . import deepseek, deepseek_sparse, llama
from .common.experts import PARTS, ROUTED, SHARED, gated, routed
from .common.patterns import own_rope, rotary_of
from .mistral4 import rule

ROPE = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 2048.0, "original_max_position_embeddings": 512,
    "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.0,
}  # fmt: skip


@dataclass(kw_only=True)
class MistralLarge4TextConfig(deepseek_sparse.GlmMoeDsaConfig):
    model_type = "mistral_large4_text"
    q_lora_rank: ClassVar[None] = None  # type: ignore[assignment,misc]
    norm_topk_prob: ClassVar[bool] = True  # type: ignore[assignment,misc]
    rope_interleave: ClassVar[bool] = True  # type: ignore[assignment,misc]
    indexer_rope_interleave: ClassVar[bool] = True  # type: ignore[assignment,misc]
    scoring_func: ClassVar[str] = "softmax"  # type: ignore[assignment,misc]
    topk_method: ClassVar[str] = "group_limited_greedy"  # type: ignore[assignment,misc]
    num_nextn_predict_layers: ClassVar[int] = 0  # type: ignore[misc]

    vocab_size: Size = 204800
    intermediate_size: Size = 24576
    moe_intermediate_size: Size = 6144
    num_hidden_layers: Count = 72
    n_routed_experts: Copies = 128
    num_experts_per_tok: Size | None = 4
    routed_scaling_factor: float = 1.0
    v_head_dim: Size = 128
    qk_nope_head_dim: Size = 64
    max_position_embeddings: Size = 1048576
    first_k_dense_replace: int = 1
    no_rope_layers: list[int] | None = None  # 1 for a layer that turns queries and keys
    no_rope_layer_interval: Size = 4
    kv_source_layers: list[int] | None = None
    final_logit_softcapping: float = 30.0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return super().normalized(own_rope(entries, ROPE))

    def check(self) -> None:
        super().check()
        if self.num_key_value_heads != self.num_attention_heads:
            raise UnsupportedConfig(
                f"num_key_value_heads = {self.num_key_value_heads} must be num_attention_heads = "
                f"{self.num_attention_heads}: each head has keys of its own."
            )
        if self.final_logit_softcapping <= 0:
            raise UnsupportedConfig(f"final_logit_softcapping must be above 0, not {self.final_logit_softcapping}.")
        if len(self.turning) < self.num_hidden_layers:
            raise UnsupportedConfig(f"no_rope_layers must have an entry for each layer: {self.no_rope_layers}.")
        if len(self.sources) != self.num_hidden_layers:
            raise UnsupportedConfig(f"kv_source_layers must have an entry for each layer: {self.kv_source_layers}.")
        for i, source in enumerate(self.sources):
            owners = [j for j in range(i) if self.sources[j] == j and self.turning[j] == self.turning[i]]
            shared = [j for j in owners if j in self.sources[j + 1 :]]
            if source != i and source != max(shared, default=None):
                raise UnsupportedConfig(
                    f"kv_source_layers: layer {i} reads the keys of layer {source}; it can read those of the last "
                    "layer before it alone that has own keys, shares them, and turns them as no_rope_layers says of it."
                )

    @property
    def turning(self) -> list[bool]:
        """One bool a layer: True if it turns queries and keys by their positions."""
        usual = [(i + 1) % self.no_rope_layer_interval != 0 for i in range(self.num_hidden_layers)]
        return usual if self.no_rope_layers is None else [bool(kind) for kind in self.no_rope_layers]

    @property
    def sources(self) -> list[int]:
        """The layer whose latent vectors each layer reads."""
        return list(range(self.num_hidden_layers)) if self.kv_source_layers is None else self.kv_source_layers


def experts(config: MistralLarge4TextConfig) -> SharedExpert:
    several = routed(config, config.n_routed_experts, rule(config), wide=True, exact=True)
    return SharedExpert(several, gated(config, config.moe_intermediate_size * config.n_shared_experts))


def build(config: MistralLarge4TextConfig) -> Stack:
    tuned, dense = TunedRotary(rotary_of(config, config.qk_rope_head_dim)), deepseek.dense_layers(config)
    kinds, scale = deepseek_sparse.indexers(config), deepseek.score_scale(config)

    def index(width: int, rank: None, **options: Any) -> StateIndexer:
        return StateIndexer(width, **options)

    def layer(i: int) -> Layer:
        turns, source = config.turning[i], config.sources[i]
        positions = tuned if turns else Positions()
        options: dict[str, Any] = {
            "selection": deepseek_sparse.selection(config, positions, i, kinds, index),
            "query_scale": LearnedLogScale(config.num_attention_heads),
            "plain": config.qk_nope_head_dim + (0 if turns else config.qk_rope_head_dim),
            "turned": config.qk_rope_head_dim if turns else 0,
            "norm_eps": config.rms_norm_eps,
        }
        if source != i:
            options |= {"kind": BorrowedLatentAttention, "source": f"layer {source}"}
        elif i in config.sources[i + 1 :]:
            options["shares"] = f"layer {i}"
        ffn: nn.Module = llama.feed_forward(config) if dense[i] else experts(config)
        return llama.layer(config, deepseek.attention(config, positions, scale, **options), ffn)

    return llama.decoder(config, layer)


RENAMED = (  # names of the authors' files, then of the reference's modules, to those that it saves
    (r"^(model\.)?tok_embeddings\.", r"\1embed_tokens."),
    (r"^(model\.)?lerope\.", r"\1rotary_emb."),
    (r"^output\.", "lm_head."),
    (r"\.(feed_forward|shared_experts)\.w1\.", r".\1.gate_proj."),
    (r"\.(feed_forward|shared_experts)\.w2\.", r".\1.down_proj."),
    (r"\.(feed_forward|shared_experts)\.w3\.", r".\1.up_proj."),
    (r"\.self_attn\.", ".attention."),
    (r"\.attention\.wo\.", ".attention.o_proj."),
    (r"\.attention\.q_proj\.", ".attention.wq."),
    (r"\.kv_a_proj_with_mqa\.", ".wkv_a_with_mqa."),
    (r"\.kv_b_proj\.", ".wkv_b."),
    (r"\.kv_a_layernorm\.", ".kv_a_norm."),
    (r"\.softmax_scaling\.([sb])\w+$", r".ssmax_scaling.\1"),
    (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.post_attention_layernorm\.", ".ffn_norm."),
    (r"(layers\.\d+)\.mlp\.(gate|experts|shared_experts)\.", r"\1.\2."),
    (r"(layers\.\d+)\.mlp\.", r"\1.feed_forward."),
)


def keys(config: MistralLarge4TextConfig) -> KeyMap:
    """Return the key map; rotated channels are interleaved, in the layers that have some."""
    ours, theirs, index = "layers.*.attention.step", "layers.*.attention", "layers.*.attention.indexer"
    heads, plain, turned = config.num_attention_heads, config.qk_nope_head_dim, config.qk_rope_head_dim
    turning, value = config.turning[: config.num_hidden_layers], config.v_head_dim

    def sided(key: str, count: int, first: int = 0) -> ByLayer:
        pair = Source(key), Interleaved(key, count, rotated=turned, first=first)
        return ByLayer(key, tuple(pair[turns] for turns in turning))

    def part(number: int) -> ByLayer:
        widths = (plain + turned, value), (plain, value)
        pair = [PerHead(f"{theirs}.wkv_b", heads, each, number) for each in widths]
        return ByLayer(pair[0].key, tuple(pair[turns] for turns in turning))

    rows: dict[str, str | Source] = {
        "embed.token": "embed_tokens",
        f"{ours}.positions.alpha": "rotary_emb.alpha",
        f"{ours}.q": sided(f"{theirs}.wq", heads, plain),
        f"{ours}.latent": sided(f"{theirs}.wkv_a_with_mqa", 1, config.kv_lora_rank),
        f"{ours}.latent_norm": f"{theirs}.kv_a_norm",
        f"{ours}.k": part(0),
        f"{ours}.v": part(1),
        f"{ours}.out": f"{theirs}.o_proj",
        f"{ours}.selection.q": sided(f"{index}.wq_b", config.index_n_heads),
        f"{ours}.selection.k": sided(f"{index}.wk", 1),
        f"{ours}.selection.norm": sided(f"{index}.k_norm", 1),
        f"{ours}.selection.weights": f"{index}.weights_proj",
        f"{ours}.selection.q_norm": f"{index}.q_input_norm",
        **{
            f"{us}.query_scale.{name}": f"{them}.ssmax_scaling.{name[0]}"
            for us, them in ((ours, theirs), (f"{ours}.selection", index))
            for name in ("scale", "bias")
        },
        "layers.*.attention.before": "layers.*.attention_norm",
        "layers.*.ffn.before": "layers.*.ffn_norm",
        **{f"layers.*.ffn.step.{name}": f"layers.*.feed_forward.{name}_proj" for name in PARTS},
        **{f"{SHARED}.{name}": f"layers.*.shared_experts.{name}_proj" for name in PARTS},
        **{
            f"{ROUTED}.experts.*.{ours}": f"layers.*.experts.*.{w}"
            for ours, w in zip(PARTS, ("w1", "w3", "w2"), strict=True)
        },
        f"{ROUTED}.router": "layers.*.gate",
        "norm": "norm",
    }
    ignored = (r"^(?:model\.)?mtp_dspark\.", *(() if any(turning) else (r"rotary_emb\.alpha$",)))
    return KeyMap(rows, "model.", ignored=ignored, renamed=RENAMED)


def generate(config: MistralLarge4TextConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, softcap=config.final_logit_softcapping)


ARCHITECTURE = replace(
    deepseek_sparse.V32,
    name="MistralLarge4",
    config=MistralLarge4TextConfig,
    build=build,
    keys=keys,
    heads={"Model": None, "ForCausalLM": generate},
)
