"""A.X-K2 (SK Telecom, 2026): DeepSeek-V3.2 with gated norms and gated attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Chained, Interleaved, PerHead, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.latent import ChannelGatedLatentAttention
from ..nn.experts import GroupedTopK
from ..nn.layer import Layer, Residual
from ..nn.norms import LowRankGatedNorm
from ..nn.stack import Stack
from . import deepseek, deepseek_sparse, llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class AXK2Config(deepseek_sparse.DeepseekV32Config):
    model_type = "axk2"

    vocab_size: Size = 163840
    hidden_size: Size = 2048
    intermediate_size: Size = 5120
    moe_intermediate_size: Size = 512
    num_hidden_layers: Count = 48
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 32
    n_routed_experts: Copies = 128
    first_k_dense_replace: int = 1
    kv_lora_rank: Size = 128
    q_lora_rank: Size = 384
    qk_rope_head_dim: Size = 32
    v_head_dim: Size = 64
    qk_nope_head_dim: Size = 64
    head_dim: Size | None = None  # that of the turned channels, whatever a file says
    max_position_embeddings: Size = 131072
    index_n_heads: Size = 16
    gated_norm_rank: Size = 16
    n_group: Size | None = None  # type: ignore[assignment]
    topk_group: Size | None = None  # type: ignore[assignment]
    mlp_bias: Literal[False] = False
    bos_token_id: int | None = 163691
    eos_token_id: int | list[int] | None = 163691

    def check(self) -> None:
        super().check()
        if (self.n_group is None) != (self.topk_group is None):
            raise UnsupportedConfig(f"n_group = {self.n_group} and topk_group = {self.topk_group} belong together.")


def rule(config: Any) -> GroupedTopK:
    made = deepseek.rule3(config)
    assert isinstance(made, GroupedTopK)
    made.rest = 0.0
    return made


def gated_norm(config: Any) -> LowRankGatedNorm:
    return LowRankGatedNorm(config.hidden_size, config.gated_norm_rank, config.rms_norm_eps)


def build(config: Any) -> Stack:
    positions, dense = rotary_of(config, config.qk_rope_head_dim), deepseek.dense_layers(config)

    def layer(i: int) -> Layer:
        index = deepseek_sparse.selection(config, positions, i, deepseek_sparse.indexers(config))
        mix = deepseek.attention(
            config, positions, deepseek.score_scale(config), ChannelGatedLatentAttention, selection=index
        )
        attention = Residual(mix, before=gated_norm(config))
        if dense[i]:
            ffn: nn.Module = llama.feed_forward(config)
            return Layer(attention, Residual(ffn, before=llama.norm(config)))
        return Layer(attention, Residual(deepseek.experts(config, rule), before=gated_norm(config)))

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    """Return the key map: a head's queries and its gates are stored together, and gates under two names."""
    ours, heads = "layers.*.attention.step", config.num_attention_heads
    plain, turned = config.qk_nope_head_dim, config.qk_rope_head_dim
    table = deepseek_sparse.keys(config)

    def part(index: int) -> PerHead:
        return PerHead("layers.*.self_attn.q_gate_proj", heads, (plain + turned, config.v_head_dim), index)

    turning = Interleaved("", heads, rotated=turned, first=plain)
    rows: dict[str, str | Source] = {
        f"{ours}.q.up": Chained("layers.*.self_attn.q_gate_proj", part(0), turning),
        f"{ours}.gate": part(1),
    }
    norms = {"attention": "input_layernorm", "ffn": "post_attention_layernorm"}
    for side, name in norms.items():
        rows[f"layers.*.{side}.before.norm"] = f"layers.*.{name}.norm"
        rows[f"layers.*.{side}.before.down"] = f"layers.*.{name}.mlp.fc1"
        rows[f"layers.*.{side}.before.up"] = f"layers.*.{name}.mlp.fc2"
    first = (
        (r"\bW_down\b", "mlp.fc1"),
        (r"\bW_up\b", "mlp.fc2"),
        (r"self_attn\.q_b_proj\.", "self_attn.q_gate_proj."),
    )
    return replace(table, rows={**table.rows, **rows}, renamed=(*table.renamed, *first))


ENDS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification")
ARCHITECTURE = replace(
    deepseek_sparse.V32,
    name="AXK2",
    config=AXK2Config,
    build=build,
    keys=keys,
    heads={end: llama.HEADS[end] for end in ENDS},
)
