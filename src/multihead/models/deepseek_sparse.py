"""DeepSeek-V3.2 (DeepSeek-AI, 2025) and GLM-5 (Z.ai, 2026): DeepSeek-V3 with keys chosen by an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Interleaved, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.indexer import Indexer, Selection
from ..nn.layer import Layer
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import deepseek, llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class DeepseekV32Config(deepseek.DeepseekV3Config):
    model_type = "deepseek_v32"
    inert: ClassVar[tuple[str, ...]] = (*deepseek.DeepseekV3Config.inert, "layer_types")
    rotary_factor: ClassVar[float | None] = 1.0
    turns_heads: ClassVar[bool] = False

    num_key_value_heads: Size | None = 128
    max_position_embeddings: Size = 163840
    q_lora_rank: Size = 1536
    n_group: Size = 8
    topk_group: Size = 4
    rope_interleave: Literal[True] = True
    mlp_bias: Literal[False] = False
    head_dim: Size | None = 64
    mlp_layer_types: list[str] | None = None
    index_topk: Size = 2048
    index_head_dim: Size = 128
    index_n_heads: Size = 64

    def check(self) -> None:
        super().check()
        if self.index_head_dim < self.qk_rope_head_dim:
            raise UnsupportedConfig(
                f"qk_rope_head_dim = {self.qk_rope_head_dim} channels of an index key cannot be turned: index_head_dim "
                f"is {self.index_head_dim}."
            )


@dataclass(kw_only=True)
class GlmMoeDsaConfig(DeepseekV32Config):
    """GLM-5's entries; layers can choose the keys that the last layer with an index chose."""

    model_type = "glm_moe_dsa"

    vocab_size: Size = 154880
    hidden_size: Size = 6144
    intermediate_size: Size = 12288
    num_hidden_layers: Count = 78
    num_attention_heads: Size = 64
    num_key_value_heads: Size | None = 64
    n_routed_experts: Copies = 256
    q_lora_rank: Size = 2048
    v_head_dim: Size = 256
    qk_nope_head_dim: Size = 192
    n_group: Size = 1
    topk_group: Size = 1
    max_position_embeddings: Size = 202752
    rms_norm_eps: float = 1e-5
    index_n_heads: Size = 32
    indexer_rope_interleave: Literal[True] = True
    indexer_types: list[str] | None = None
    index_topk_pattern: str | list[str] | None = None
    index_topk_freq: int = 1
    index_skip_topk_offset: int = 2

    def check(self) -> None:
        super().check()
        kinds = indexers(self)
        if len(kinds) < self.num_hidden_layers or set(kinds) - {"full", "shared"} or kinds[:1] == ["shared"]:
            raise UnsupportedConfig(
                f'Each of {self.num_hidden_layers} layers must have an indexer that is "full" or "shared", the first '
                f"one a full one: {kinds}."
            )


def indexers(config: Any) -> list[str]:
    """Return for each layer whether it chooses keys ("full") or takes those of a layer before it ("shared")."""
    if getattr(config, "indexer_types", None) is not None:
        return list(config.indexer_types)
    pattern = getattr(config, "index_topk_pattern", None)
    if pattern is not None:
        return [{"F": "full", "S": "shared"}.get(kind, kind) for kind in pattern]
    every, offset = max(getattr(config, "index_topk_freq", 1), 1), getattr(config, "index_skip_topk_offset", 2)
    return ["shared" if max(i - offset + 1, 0) % every else "full" for i in range(config.num_hidden_layers)]


def selection(
    config: Any, positions: Positions, i: int, kinds: list[str], index: Callable[..., Indexer] = Indexer
) -> Selection:
    """Build what chooses the keys of layer i.

    Args:
        kinds: of the layers, as `indexers` gives them.
    """
    source = max(j for j, kind in enumerate(kinds[: i + 1]) if kind == "full")
    if source != i:
        return Selection(source)
    return index(
        config.hidden_size,
        config.q_lora_rank,
        heads=config.index_n_heads,
        head_width=config.index_head_dim,
        chosen=config.index_topk,
        positions=positions,
        source=i,
    )


def build(config: Any) -> Stack:
    positions, dense = rotary_of(config, config.qk_rope_head_dim), deepseek.dense_layers(config)

    def layer(i: int) -> Layer:
        ffn: nn.Module = llama.feed_forward(config) if dense[i] else deepseek.experts(config, deepseek.rule3)
        scale, chosen = deepseek.score_scale(config), selection(config, positions, i, indexers(config))
        return llama.layer(config, deepseek.attention(config, positions, scale, selection=chosen), ffn)

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    """Return the key map; GLM's index has its rotated channels interleaved, DeepSeek's half a head apart."""
    ours, theirs = "layers.*.attention.step.selection", "layers.*.self_attn.indexer"
    side_by_side, turned = isinstance(config, GlmMoeDsaConfig), config.qk_rope_head_dim

    def sided(name: str, heads: int) -> str | Source:
        key = f"{theirs}.{name}"
        return Interleaved(key, heads, rotated=turned) if side_by_side else key

    rows: dict[str, str | Source] = {
        f"{ours}.q": sided("wq_b", config.index_n_heads),
        f"{ours}.k": sided("wk", 1),
        f"{ours}.norm": sided("k_norm", 1),
        f"{ours}.weights": f"{theirs}.weights_proj",
    }
    table = deepseek.keys(config)
    return replace(table, rows={**table.rows, **rows})


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
V32 = replace(
    deepseek.V3,
    name="DeepseekV32",
    config=DeepseekV32Config,
    build=build,
    keys=keys,
    heads=HEADS,
    layouts={},
    foreign_config={},
)
GLM = replace(V32, name="GlmMoeDsa", config=GlmMoeDsaConfig)
