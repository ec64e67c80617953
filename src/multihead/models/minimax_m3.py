"""MiniMax-M3's language model (MiniMax, 2026, model card of MiniMax-M3): attention to chosen blocks of keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.attention.key_blocks import BlockIndex, BlockIndexedAttention
from ..nn.experts import ExpertList, GroupedTopK, RoutedExperts, SharedExpert
from ..nn.feedforward import OffsetGatedFeedForward
from ..nn.layer import Layer
from ..nn.norms import WideRMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama, qwen3
from .common.experts import ROUTED, expert_rows
from .common.patterns import FULL, layer_kinds, rotary_of

SPARSE = "minimax_m3_sparse"
OLDER = {  # of `sparse_attention_config` in the authors' files
    "sparse_num_index_heads": "index_n_heads",
    "sparse_index_dim": "index_head_dim",
    "sparse_block_size": "index_block_size",
    "sparse_topk_blocks": "index_topk_blocks",
    "sparse_local_block": "index_local_blocks",
}


@dataclass(kw_only=True)
class MiniMaxM3VLTextConfig(llama.LlamaConfig):
    model_type = "minimax_m3_vl_text"
    aliases: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    inert = (
        "rotary_dim", "router_jitter_noise", "hidden_act", "sparse_attention_config", "qk_norm_type", "use_qk_norm",
        "use_gemma_norm", "use_routing_bias", "scoring_func", "n_shared_experts", "num_mtp_modules", "use_mtp",
    )  # fmt: skip
    theta: ClassVar[float] = 5000000.0
    rotary_factor: ClassVar[float | None] = 1.0
    hidden_act: ClassVar[str] = "silu"  # type: ignore[misc]

    vocab_size: Size = 200064
    hidden_size: Size = 6144
    intermediate_size: Size = 3072  # of experts
    dense_intermediate_size: Size = 12288
    shared_intermediate_size: Size = 3072
    num_hidden_layers: Count = 60
    num_attention_heads: Size = 64
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = 128
    max_position_embeddings: Size = 524288
    num_experts_per_tok: Size = 4
    num_local_experts: Copies = 128
    routed_scaling_factor: float = 2.0
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    index_n_heads: Size = 4
    index_head_dim: Size = 128
    index_block_size: Size = 128
    index_topk_blocks: Size = 16
    index_local_blocks: int = 1
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    bos_token_id: int | None = 200034
    eos_token_id: int | list[int] | None = 200020

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the authors' `sparse_attention_config` and `moe_layer_freq`."""
        entries = dict(entries)
        sparse, experts = entries.get("sparse_attention_config") or {}, entries.pop("moe_layer_freq", None)
        entries |= {ours: sparse[theirs] for theirs, ours in OLDER.items() if theirs in sparse}
        if entries.get("layer_types") is None and "sparse_attention_freq" in sparse:
            entries["layer_types"] = [SPARSE if each else FULL for each in sparse["sparse_attention_freq"]]
        if entries.get("mlp_layer_types") is None and experts is not None:
            entries["mlp_layer_types"] = ["sparse" if each else "dense" for each in experts]
        return super().normalized(entries)

    def check(self) -> None:
        super().check()
        count = self.num_hidden_layers
        kinds = self.mixtures
        if len(kinds) != count or set(kinds) - {"dense", "sparse"}:
            raise UnsupportedConfig(f'mlp_layer_types must be "dense" or "sparse" for each of {count} layers: {kinds}.')
        if self.rope_parameters.get("partial_rotary_factor", 1.0) * self.head_width > self.index_head_dim:
            raise UnsupportedConfig(f"Positions turn more channels than index_head_dim = {self.index_head_dim}.")

    @property
    def mixtures(self) -> list[str]:
        """Whether each layer has experts ("sparse") or not ("dense")."""
        return ["sparse"] * self.num_hidden_layers if self.mlp_layer_types is None else self.mlp_layer_types


def norm(config: Any, width: int | None = None) -> WideRMSNorm:
    return WideRMSNorm(width or config.hidden_size, config.rms_norm_eps, centre=1.0)


def attention(config: MiniMaxM3VLTextConfig, positions: Positions, kind: str) -> Attention:
    wide, heads = config.hidden_size, config.num_attention_heads
    options: dict[str, Any] = {
        "key_heads": config.num_key_value_heads, "head_width": config.head_width, "bias": False, "positions": positions,
        "dropout": config.attention_dropout, "q_norm": norm(config, config.head_width),
        "k_norm": norm(config, config.head_width),
    }  # fmt: skip
    if kind == FULL:
        return Attention(wide, heads, causal=True, **options)
    index = BlockIndex(
        wide,
        config.index_n_heads,
        config.index_head_dim,
        q_norm=norm(config, config.index_head_dim),
        k_norm=norm(config, config.index_head_dim),
        block=config.index_block_size,
        chosen=config.index_topk_blocks,
        local=config.index_local_blocks,
        positions=positions,
    )
    return BlockIndexedAttention(wide, heads, index=index, **options)


def build(config: MiniMaxM3VLTextConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    kinds = layer_kinds(config, [FULL] * config.num_hidden_layers, (FULL, SPARSE))

    def gated(inner: int) -> OffsetGatedFeedForward:
        return OffsetGatedFeedForward(config.hidden_size, inner, alpha=config.swiglu_alpha, bound=config.swiglu_limit)

    def experts() -> SharedExpert:
        count = config.num_local_experts
        rule = GroupedTopK(count, config.num_experts_per_tok, scale=config.routed_scaling_factor)
        each = ExpertList([gated(config.intermediate_size) for _ in range(count)])
        return SharedExpert(
            RoutedExperts(config.hidden_size, each, count, rule), gated(config.shared_intermediate_size)
        )

    def layer(i: int) -> Layer:
        ffn = experts() if config.mixtures[i] == "sparse" else gated(config.dense_intermediate_size)
        return llama.layer(config, attention(config, positions, kinds[i]), ffn, norm)

    return llama.decoder(config, layer, norm)


GATES, EACH = r"\.(?:gate|up)_proj\.weight$", r"\.experts\.(?P<expert>\d+)"
RENAMED = (  # names of the authors' files
    (r"\.block_sparse_moe\.(experts|gate|shared_experts)\.", r".mlp.\1."),
    (r"\.block_sparse_moe\.e_score_correction_bias$", ".mlp.gate.e_score_correction_bias"),
    (r"\.self_attn\.index_([qk]_(?:proj|norm))\.", r".self_attn.indexer.\1."),
    *((rf"(\.experts\.\d+)\.{old}\.weight$", rf"\1.{new}_proj.weight")
      for old, new in (("w1", "gate"), ("w2", "down"), ("w3", "up"))),
)  # fmt: skip


def keys(config: MiniMaxM3VLTextConfig) -> KeyMap:
    """Return the key map; the reference writes gate and up in one, and those of experts in one for all."""
    ours, theirs = "layers.*.attention.step.index", "layers.*.self_attn.indexer"
    rows = {
        **qwen3.NORMS,
        **expert_rows(),
        f"{ROUTED}.rule.correction": "layers.*.mlp.gate.e_score_correction_bias",
        **{f"{ours}.{name}": f"{theirs}.{name}_proj" for name in ("q", "k")},
        **{f"{ours}.{name}_norm": f"{theirs}.{name}_norm" for name in ("q", "k")},
    }
    joined = (
        (EACH + GATES, ".experts.gate_up_proj"),
        (EACH + r"\.down_proj\.weight$", ".experts.down_proj"),
        (GATES, ".gate_up_proj.weight"),
    )
    fused = ((r"\.gate_up_proj\.weight$", (".gate_proj.weight", ".up_proj.weight")),)
    table = llama.keys(config, rows)
    ignored = (*table.ignored, r"(^|\.)mtp\.")
    return replace(table, renamed=RENAMED, split_fused=fused, joined=joined, ignored=ignored)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "MiniMaxM3VL",
    MiniMaxM3VLTextConfig,
    build,
    keys=keys,
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")},
)
