"""Qwen4-Exp (Qwen Team, 2026): Qwen3.5 with several residual streams, hashed n-grams and chosen blocks of keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Shaped, Sharded
from ..config import Copies, Size
from ..errors import UnsupportedConfig
from ..nn.attention.block_selection import BlockIndexer, BlockSelectedAttention
from ..nn.gated_delta_net import GatedDeltaNet, GatedRMSNorm
from ..nn.gated_streams import StreamLayer, StreamMix, StreamResidual
from ..nn.ngram_embeddings import NGramEmbeddings, NGramFeatures, NGramHash, StreamEmbeddings
from ..nn.norms import WideRMSNorm
from ..nn.positions import Rotary
from ..nn.stack import Stack
from ..nn.weights import Embedding
from . import qwen3_next, qwen_moe
from .common.patterns import FULL, LINEAR, rotary_of

INDEX = ("indexer_n_heads", "indexer_kv_heads", "indexer_head_dim", "indexer_budget", "indexer_compress_ratio")

NORMS = ("layers.*.attention.before", "layers.*.ffn.before", "norm")  # of Qwen3.5, whose places mixes of streams have


@dataclass(kw_only=True)
class Qwen4ExpTextConfig(qwen3_next.Qwen35MoeTextConfig):
    model_type = "qwen4_exp_text"
    inert: ClassVar[tuple[str, ...]] = (*qwen3_next.Qwen35MoeTextConfig.inert, "number_of_conv_states")

    rotary_factor: ClassVar[float | None] = 1.0

    hc_count: Size = 4
    hc_lowrank: Size = 320
    ple_layer_ids: list[int] | None = None  # counted from 1
    ple_embed_dim: Size | None = None
    ple_conv_kernel_size: Size = 4
    ngram_size: Size = 3
    heads_per_ngram: Size = 8
    ngram_vocab_size_base: Size = 20_000_000
    make_ngram_vocab_size_divisible_by: Size = 128
    seed: int = 1234
    split_ngram_parts: Size = 512
    indexer_n_heads: Size | None = None
    indexer_kv_heads: Literal[None, 1] = None
    indexer_head_dim: Size | None = None
    indexer_budget: Size | None = None
    indexer_compress_ratio: Size | None = None
    num_experts_per_tok: Size = 10
    num_experts: Copies = 512
    norm_topk_prob: bool = True  # type: ignore[misc]
    output_gate_type: Literal[None, "sigmoid", "silu"] = None  # type: ignore[assignment]

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read full attention under its older name."""
        entries = super().normalized(entries)
        if isinstance(kinds := entries.get("layer_types"), list):
            entries["layer_types"] = [FULL if kind == "indexed_attention" else kind for kind in kinds]
        return entries

    def check(self) -> None:
        super().check()
        if self.hc_count < 2 or self.gate not in ("sigmoid", "silu"):
            raise UnsupportedConfig(
                f"Streams are at least two, gated by 'sigmoid' or 'silu', not {self.hc_count} by {self.gate!r}."
            )
        if (self.indexer_budget or 0) % (self.indexer_compress_ratio or 1):
            raise UnsupportedConfig("indexer_budget must be a multiple of indexer_compress_ratio.")
        wrong = [i for i in self.hashed if not 0 < i <= len(self.kinds) or self.kinds[i - 1] != LINEAR]
        if wrong:
            raise UnsupportedConfig(f"ple_layer_ids may hold layers of linear attention, counted from 1, not {wrong}.")
        if self.hashed and (self.ngram_size < 2 or self.ngram_width % self.ngram_tables or not self.ends):
            raise UnsupportedConfig(
                f"n-grams need an eos_token_id, words before the last, and {self.ngram_tables} equal parts of "
                f"ple_embed_dim = {self.ngram_width}."
            )

    @property
    def gate(self) -> str:
        return self.output_gate_type or self.hidden_act

    @property
    def hashed(self) -> list[int]:
        """Layers with n-grams, counted from 1."""
        return sorted(set(self.ple_layer_ids or []))

    @property
    def ends(self) -> list[int]:
        given = self.eos_token_id
        return given if isinstance(given, list) else [] if given is None else [given]

    @property
    def ngram_width(self) -> int:
        return self.ple_embed_dim or self.hidden_size

    @property
    def ngram_tables(self) -> int:
        return max((self.ngram_size - 1) * self.heads_per_ngram, 1)


def rule(config: Qwen4ExpTextConfig, number: int) -> NGramHash:
    """Return the hash of the `number`-th layer with n-grams."""
    base, end = config.ngram_vocab_size_base, config.ends[0]
    return NGramHash(config.vocab_size, config.ngram_size, config.heads_per_ngram, base, config.seed, number, end)


def rows_of(config: Qwen4ExpTextConfig, hashed: NGramHash) -> int:
    """Return the rows of all tables of a layer.

    Raises:
        UnsupportedConfig: they cannot be stored in so many parts.
    """
    divisor, parts = config.make_ngram_vocab_size_divisible_by, config.split_ngram_parts
    rows = -(-int(hashed.sizes.sum()) // divisor) * divisor
    if -(-rows // -(-rows // parts)) != parts:
        raise UnsupportedConfig(f"{rows} rows of n-grams do not make split_ngram_parts = {parts}.")
    return rows


def ngrams(config: Qwen4ExpTextConfig, number: int) -> NGramFeatures:
    hashed = rule(config, number)
    return NGramFeatures(
        NGramEmbeddings(hashed, rows_of(config, hashed), config.ngram_width // config.ngram_tables),
        config.hidden_size,
        config.hc_count,
        config.ngram_width,
        config.ple_conv_kernel_size,
        config.ngram_size,
        config.rms_norm_eps,
    )


def attention(config: Any, positions: Rotary) -> BlockSelectedAttention:
    """Build gated attention. Raises UnsupportedConfig: the index lacks entries, or its heads are too narrow."""
    if missing := [name for name in INDEX if getattr(config, name) is None]:
        raise UnsupportedConfig(f"Layers of full attention need {', '.join(missing)}.")
    norms = {name: WideRMSNorm(config.head_width, config.rms_norm_eps, centre=1.0) for name in ("q_norm", "k_norm")}
    index = BlockIndexer(
        config.hidden_size,
        heads=config.indexer_n_heads,
        head_width=config.indexer_head_dim,
        block=config.indexer_compress_ratio,
        chosen=config.indexer_budget // config.indexer_compress_ratio,
        eps=config.rms_norm_eps,
        positions=positions,
    )
    if 2 * len(positions.frequencies) > config.indexer_head_dim:
        raise UnsupportedConfig(f"Rotated channels are more than indexer_head_dim = {config.indexer_head_dim}.")
    return BlockSelectedAttention(
        config.hidden_size,
        config.num_attention_heads,
        selection=index,
        head_width=config.head_width,
        key_heads=config.num_key_value_heads,
        bias=config.attention_bias,
        positions=positions,
        causal=True,
        dropout=config.attention_dropout,
        **norms,
    )


def mixer(config: Qwen4ExpTextConfig) -> GatedDeltaNet:
    made = qwen3_next.mixer(config)
    made.norm = GatedRMSNorm(config.linear_value_head_dim, config.rms_norm_eps, config.gate)
    return made


def build(config: Qwen4ExpTextConfig) -> Stack:
    positions, kinds = rotary_of(config, config.head_width), config.kinds
    sizes = config.hidden_size, config.hc_count, config.hc_lowrank, config.rms_norm_eps

    def residual(step: nn.Module) -> StreamResidual:
        return StreamResidual(step, StreamMix(*sizes), config.hidden_size)

    def layer(i: int) -> StreamLayer:
        mix = residual(mixer(config) if kinds[i] == LINEAR else attention(config, positions))
        more = ngrams(config, config.hashed.index(i + 1)) if i + 1 in config.hashed else None
        return StreamLayer(mix, residual(experts(config)), more)

    words = StreamEmbeddings(
        Embedding(config.vocab_size, config.hidden_size), config.hc_count, hashes=bool(config.hashed)
    )
    return Stack(words, [layer(i) for i in range(config.num_hidden_layers)], StreamMix(*sizes))


def experts(config: Any) -> nn.Module:
    return qwen_moe.with_shared(config)


def stream_rows(ours: str, theirs: str) -> Rows:
    return {
        f"{ours}.norm": f"{theirs}.hc_norm",
        f"{ours}.down": f"{theirs}.input_mix_weight_down",
        f"{ours}.up": f"{theirs}.input_mix_weight_up",
    }


def keys(config: Qwen4ExpTextConfig) -> KeyMap:
    """Return the key map; a table of n-grams is stored in parts, or whole."""
    table = qwen3_next.keys(config, experts=True)
    ple, index, channels = "layers.*.ple", "layers.*.self_attn.indexer", config.hc_count * config.hidden_size
    more, kernel = {"key": "key_proj", "value": "value_proj"}, config.ple_conv_kernel_size
    norms = {"key_norm": "norm_key", "state_norm": "norm_query", "out_norm": "norm_conv"}
    own: dict[str, Any] = {
        **stream_rows("layers.*.attention.mix", "layers.*.attn_hyper_connection"),
        **stream_rows("layers.*.ffn.mix", "layers.*.mlp_hyper_connection"),
        **stream_rows("norm", "hyper_connection_mixer"),
        "layers.*.attention.share": "layers.*.attn_hyper_connection.block_inject_weight",
        "layers.*.ffn.share": "layers.*.mlp_hyper_connection.block_inject_weight",
        "layers.*.attention.step.selection.both": f"{index}.index_qk_proj",
        "layers.*.attention.step.selection.q_norm": f"{index}.q_layernorm",
        "layers.*.attention.step.selection.k_norm": f"{index}.k_layernorm",
        **{f"layers.*.ngrams.{ours}": f"{ple}.{theirs}" for ours, theirs in {**more, **norms}.items()},
        "layers.*.ngrams.embed.table": Sharded(
            f"{ple}.ple_embedding.ngram_embedding.shard_0", config.split_ngram_parts
        ),
        "layers.*.ngrams.convolution.weight": Shaped(f"{ple}.conv1d.weight", (channels, kernel), (channels, 1, kernel)),
    }
    parts = tuple(f"ngram_embedding.shard_{part}.weight" for part in range(config.split_ngram_parts))
    split, constants = ((r"ngram_embedding\.weight$", parts),), []
    for number, layer in enumerate(config.hashed):
        made, stem = rule(config, number), f"layers.{layer - 1}.ple.ple_embedding"
        constants += [
            (f"{stem}.layer_multipliers", made.factors),
            (f"{stem}.ngram_heads_vocab_sizes", made.sizes),
            (f"{stem}.ngram_heads_offsets", made.offsets),
        ]
    kept = {ours: row for ours, row in table.rows.items() if ours not in NORMS}
    return replace(table, rows={**kept, **own}, constants=tuple(constants), split_fused=split)


ARCHITECTURE = qwen3_next.MOE_TEXT.derive("Qwen4Exp", Qwen4ExpTextConfig, build, keys=keys)
