"""DeepSeek-V4 (DeepSeek-AI, 2026, technical report): summaries of tokens, hyper-connections, hashed experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.latent import LowRank
from ..nn.attention.summaries import GroupedLowRank, SummaryAttention, SummaryIndex, WindowSummary
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert
from ..nn.feedforward import ClampedGatedFeedForward
from ..nn.hashed_experts import ActivatedTopK, HashedAndSharedExperts, HashedExperts
from ..nn.hyper_connections import ContextLayer, HyperConnection, HyperResidual, StreamEmbeddings, StreamMerge
from ..nn.layer import Layer
from ..nn.norms import ExactRMSNorm, PlainRMSNorm
from ..nn.positions import Rotary
from ..nn.stack import Stack
from ..nn.weights import Embedding
from . import llama
from .common.patterns import SLIDING, rotary_by_layer

SPARSE, HEAVY = "compressed_sparse_attention", "heavily_compressed_attention"
KINDS = {0: SLIDING, 4: SPARSE, 128: HEAVY}  # by the entries of `compress_ratios`
HASHED, ROUTED = "hash_moe", "moe"


@dataclass(kw_only=True)
class DeepseekV4Config(llama.LlamaConfig):
    model_type = "deepseek_v4"
    inert = (
        *("expert_dtype", "router_jitter_noise", "num_nextn_predict_layers", "topk_method", "qk_rope_head_dim"),
        *("compress_rope_theta", "rope_theta"),  # which are in `rope_parameters`
    )
    aliases = {"num_local_experts": "n_routed_experts", "intermediate_size": "moe_intermediate_size"}
    rotary_factor: ClassVar[float | None] = 1.0
    intermediate_size: ClassVar[None] = None  # type: ignore[assignment,misc]

    vocab_size: Size = 129280
    moe_intermediate_size: Size = 2048
    num_hidden_layers: Count = 43
    num_attention_heads: Size = 64
    num_key_value_heads: Literal[1] = 1
    head_dim: Size = 512
    q_lora_rank: Size = 1024
    num_experts_per_tok: Size = 6
    n_routed_experts: Copies = 256
    n_shared_experts: Literal[1] = 1
    scoring_func: Literal["sqrtsoftplus", "sigmoid"] = "sqrtsoftplus"
    norm_topk_prob: Literal[True] = True
    routed_scaling_factor: float = 1.5
    max_position_embeddings: Size = 1048576
    layer_types: list[str] | None = None
    compress_rates: dict[str, Any] = field(default_factory=lambda: {SPARSE: 4, HEAVY: 128})
    hc_mult: Size = 4
    hc_sinkhorn_iters: Size = 20
    hc_eps: float = 1e-6
    mlp_layer_types: list[str] | None = None
    swiglu_limit: float = 10.0
    sliding_window: Size = 128
    o_groups: Size = 8
    o_lora_rank: Size = 1024
    index_n_heads: Size = 64
    index_head_dim: Size = 128
    index_topk: Size = 512
    partial_rotary_factor: float = 64 / 512
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the names of the authors' own files: `compress_ratios`, `num_hash_layers`, `qk_rope_head_dim`."""
        entries = dict(entries)
        ratios, hashed = entries.pop("compress_ratios", None), entries.pop("num_hash_layers", None)
        rates = dict(entries.get("compress_rates") or {SPARSE: 4, HEAVY: 128})
        for name, kind in (("compress_rate_csa", SPARSE), ("compress_rate_hca", HEAVY)):
            rate = entries.pop(name, None)
            rates[kind] = rates.get(kind) if rate is None else rate
        count = entries.get("num_hidden_layers", cls.num_hidden_layers)
        if entries.get("layer_types") is None and ratios is not None:
            if set(ratios) - {*KINDS}:
                raise UnsupportedConfig(f"compress_ratios may hold {', '.join(map(str, KINDS))}, not {ratios}.")
            entries["layer_types"] = [KINDS[ratio] for ratio in ratios]
        if entries.get("mlp_layer_types") is None and hashed is not None:
            entries["mlp_layer_types"] = [HASHED] * min(hashed, count) + [ROUTED] * max(count - hashed, 0)
        for name in ("layer_types", "mlp_layer_types"):  # files count the layers that predict several tokens, too
            if entries.get(name) is not None:
                entries[name] = list(entries[name])[:count]
        part, turned = entries.get("partial_rotary_factor"), entries.pop("qk_rope_head_dim", None)
        if part is None:
            part = 64 / 512 if turned is None else turned / entries.get("head_dim", cls.head_dim)
        return {**two_ropes(entries, part, whole=True), "compress_rates": rates, "partial_rotary_factor": part}

    def check(self) -> None:
        for name, kinds, known in (
            ("layer_types", self.kinds, (SLIDING, SPARSE, HEAVY)),
            ("mlp_layer_types", self.mixtures, (HASHED, ROUTED)),
        ):
            if len(kinds) != self.num_hidden_layers or set(kinds) - {*known}:
                raise UnsupportedConfig(f"{name} must hold {' or '.join(known)} for each layer, not {kinds}.")
        if not all(isinstance(self.compress_rates.get(k), int) and self.compress_rates[k] > 0 for k in (SPARSE, HEAVY)):
            raise UnsupportedConfig(f"compress_rates must hold numbers of tokens, not {self.compress_rates}.")
        turned = int(self.head_dim * self.partial_rotary_factor)
        if turned > min(self.head_dim, self.index_head_dim) or turned % 2:
            raise UnsupportedConfig(f"{turned} channels cannot be turned in pairs within a head and an index head.")
        if self.num_attention_heads * self.head_dim % self.o_groups:
            raise UnsupportedConfig(f"{self.num_attention_heads} heads cannot be in o_groups = {self.o_groups} groups.")

    @property
    def kinds(self) -> list[str]:
        """Kind of attention of each layer."""
        count = self.num_hidden_layers
        usual = [HEAVY] * min(count, 2) + [SPARSE if i % 2 else HEAVY for i in range(max(count - 2, 0))]
        return usual if self.layer_types is None else self.layer_types

    @property
    def mixtures(self) -> list[str]:
        """How the experts of each layer are chosen."""
        usual = [HASHED if i < 3 else ROUTED for i in range(self.num_hidden_layers)]
        return usual if self.mlp_layer_types is None else self.mlp_layer_types


def two_ropes(entries: Mapping[str, Any], part: float, *, whole: bool = False) -> dict[str, Any]:
    """Return rotary parameters of layers without summaries ("main") and with them ("compress").

    Args:
        part: of a head's channels that is turned. whole: return all entries with these instead.
    """
    entries = dict(entries)
    scaling, known = entries.pop("rope_scaling", None), entries.pop("rope_parameters", None)
    rope = dict(scaling or known or {})
    theta, other = entries.pop("rope_theta", None), entries.pop("compress_rope_theta", None)
    if all(isinstance(rope.get(kind), Mapping) for kind in ("main", "compress")):
        both = {kind: {"rope_type": "default", **rope[kind]} for kind in ("main", "compress")}
    else:
        kind = rope.pop("type", "default")
        scaled = {"rope_type": kind, **{k: v for k, v in rope.items() if k not in ("main", "compress")}}
        if scaled["rope_type"] == "yarn":
            scaled = {"attention_factor": 1.0, **scaled}
        both = {
            "main": {"rope_type": "default", "rope_theta": 10000.0 if theta is None else theta},
            "compress": {**scaled, "rope_theta": 160000.0 if other is None else other},
        }
        both = {kind: {**rope, "partial_rotary_factor": part} for kind, rope in both.items()}
    return {**entries, "rope_parameters": both} if whole else both


def norm(config: Any, width: int | None = None) -> ExactRMSNorm:
    return ExactRMSNorm(width or config.hidden_size, config.rms_norm_eps)


def summary(config: DeepseekV4Config, kind: str, width: int) -> WindowSummary:
    rate = config.compress_rates[kind]
    return WindowSummary(config.hidden_size, width, rate, norm(config, width), overlaps=kind == SPARSE)


def attention(config: DeepseekV4Config, kind: str, positions: Mapping[str, Rotary]) -> SummaryAttention:
    wide, heads, turns = config.hidden_size, config.num_attention_heads, positions["compress"]
    index = SummaryIndex(
        wide, config.q_lora_rank, summary(config, kind, config.index_head_dim), heads=config.index_n_heads,
        chosen=config.index_topk, positions=turns,
    ) if kind == SPARSE else None  # fmt: skip
    each, all_heads = config.head_dim, heads * config.head_dim
    return SummaryAttention(
        wide,
        heads,
        head_width=each,
        query=LowRank(wide, config.q_lora_rank, all_heads, norm=norm(config, config.q_lora_rank)),
        key_norm=norm(config, each),
        out=GroupedLowRank(all_heads, config.o_lora_rank, wide, config.o_groups),
        positions=positions["main"] if kind == SLIDING else turns,
        summary=None if kind == SLIDING else summary(config, kind, each),
        index=index,
        window=config.sliding_window,
        q_norm=PlainRMSNorm(each, config.rms_norm_eps),
        dropout=config.attention_dropout,
    )


def experts(config: DeepseekV4Config, kind: str) -> nn.Module:
    def one() -> ClampedGatedFeedForward:
        return ClampedGatedFeedForward(
            config.hidden_size, config.moe_intermediate_size, config.hidden_act, config.swiglu_limit
        )

    count, chosen, act = config.n_routed_experts, config.num_experts_per_tok, config.scoring_func
    several, scale = ExpertList([one() for _ in range(count)]), config.routed_scaling_factor
    if kind == HASHED:
        hashed = HashedExperts(
            config.hidden_size, several, count, words=config.vocab_size, chosen=chosen, act=act, scale=scale
        )
        return HashedAndSharedExperts(hashed, one())
    rule = ActivatedTopK(count, chosen, act, scale=scale)
    return SharedExpert(RoutedExperts(config.hidden_size, several, count, rule), one())


def build(config: DeepseekV4Config) -> Stack:
    wide, streams, positions = config.hidden_size, config.hc_mult, rotary_by_layer(config, config.head_dim)
    eps = {"eps": config.hc_eps, "norm_eps": config.rms_norm_eps}

    def residual(step: nn.Module) -> HyperResidual:
        connection = HyperConnection(wide, streams, rounds=config.hc_sinkhorn_iters, strength=2.0, **eps)
        return HyperResidual(step, connection, before=norm(config))

    def layer(i: int) -> Layer:
        mixture = config.mixtures[i]
        parts = residual(attention(config, config.kinds[i], positions)), residual(experts(config, mixture))
        return ContextLayer(*parts) if mixture == HASHED else Layer(*parts)

    embed = StreamEmbeddings(Embedding(config.vocab_size, wide), streams)
    merge = StreamMerge(wide, streams, norm(config), **eps)
    return Stack(embed, [layer(i) for i in range(config.num_hidden_layers)], merge)


PARTS = {"gate": "w1", "down": "w2", "up": "w3"}
RENAMED = (  # names of the authors' files, then of the reference's modules, to those that it saves
    (r"^embed\.", "embed_tokens."),
    (r"^(?:model\.)?head\.", "lm_head."),
    (r"hc_head_(base|fn|scale)$", r"hc_head.hc_\1"),
    (r"\.self_attn\.", ".attn."),
    (r"\.mlp\.", ".ffn."),
    (r"\.input_layernorm\.", ".attn_norm."),
    (r"\.post_attention_layernorm\.", ".ffn_norm."),
    (r"\.(attn|ffn)_hc\.", r".hc_\1_"),
    (r"\.attn\.sinks$", ".attn.attn_sink"),
    (r"\.compressor\.indexer\.(?:scorer\.)?(weights_proj|q_b_proj)\.", r".indexer.\1."),
    (r"\.compressor\.indexer\.", ".indexer.compressor."),
    (r"\.q_([ab])_proj\.", r".wq_\1."),
    (r"\.o_([ab])_proj\.", r".wo_\1."),
    (r"\.kv_proj\.", ".wkv."),
    (r"\.compressor\.gate_proj\.", ".compressor.wgate."),
    (r"\.position_bias$", ".ape"),
    (r"\.(attn|compressor)\.kv_norm\.", r".\1.norm."),
    (r"\.q_a_norm\.", ".q_norm."),
    (r"\.gate\.e_score_correction_bias$", ".gate.bias"),
    *((rf"\.shared_experts\.{part}_proj\.", f".shared_experts.{name}.") for part, name in PARTS.items()),
)


def keys(config: DeepseekV4Config) -> KeyMap:
    """Return the key map, with the names that the reference saves."""
    ours, theirs = "layers.*.attention.step", "layers.*.attn"
    rows = {
        "embed.token": "embed_tokens",
        "norm.norm": "norm",
        "layers.*.attention.before": "layers.*.attn_norm",
        "layers.*.ffn.before": "layers.*.ffn_norm",
        f"{ours}.q.down": f"{theirs}.wq_a",
        f"{ours}.q.norm": f"{theirs}.q_norm",
        f"{ours}.q.up": f"{theirs}.wq_b",
        f"{ours}.k": f"{theirs}.wkv",
        f"{ours}.k_norm": f"{theirs}.norm",
        f"{ours}.out.narrow": f"{theirs}.wo_a",
        f"{ours}.out.widen": f"{theirs}.wo_b",
        f"{ours}.sinks": f"{theirs}.attn_sink",
        f"{ours}.index.q": f"{theirs}.indexer.wq_b",
        f"{ours}.index.weights": f"{theirs}.indexer.weights_proj",
        "layers.*.ffn.step.routed.router": "layers.*.ffn.gate",
        "layers.*.ffn.step.routed.rule.correction": "layers.*.ffn.gate.bias",
        "layers.*.ffn.step.routed.table": "layers.*.ffn.gate.tid2eid",
    }
    for mine, own in (
        (f"{ours}.summary", f"{theirs}.compressor"),
        (f"{ours}.index.summary", f"{theirs}.indexer.compressor"),
    ):
        rows |= {f"{mine}.value": f"{own}.wkv", f"{mine}.gate": f"{own}.wgate", f"{mine}.norm": f"{own}.norm"}
        rows[f"{mine}.places.bias"] = f"{own}.ape"
    for part, their in PARTS.items():
        rows[f"layers.*.ffn.step.routed.experts.*.{part}"] = f"layers.*.ffn.experts.*.{their}"
        rows[f"layers.*.ffn.step.shared.{part}"] = f"layers.*.ffn.shared_experts.{their}"
    for name, part in (("base", "base"), ("fn", "matrix"), ("scale", "scale")):
        rows[f"layers.*.attention.connection.weights.{part}"] = f"layers.*.hc_attn_{name}"
        rows[f"layers.*.ffn.connection.weights.{part}"] = f"layers.*.hc_ffn_{name}"
        rows[f"norm.weights.{part}"] = f"hc_head.hc_{name}"
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "model.", ignored=(r"^(?:model\.)?mtp\.", *copies), renamed=RENAMED)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "DeepseekV4", DeepseekV4Config, build, keys=keys, heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
)
