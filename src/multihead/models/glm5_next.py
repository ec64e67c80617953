"""GLM-5.3-Flash (Z.ai, 2026, model card): Kimi Delta Attention, latent attention to chosen pools, hyper-connections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Joined, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.indexer import PoolIndexer
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert
from ..nn.feedforward import ClampedGatedFeedForward
from ..nn.hyper_connections import HyperConnection, HyperResidual, StreamEmbeddings, StreamMean
from ..nn.layer import Layer
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import Embedding
from . import deepseek, deepseek_sparse, llama
from .common.patterns import LINEAR
from .kimi_linear import STORED, delta_attention
from .qwen3_next import DELTA

INDEXED = "indexed_attention"
SIZES = {
    "head_dim": "linear_head_dim", "num_heads": "linear_num_heads",
    "short_conv_kernel_size": "linear_conv_kernel_dim", "gate_lower_bound": "linear_lower_bound",
}  # fmt: skip


@dataclass(kw_only=True)
class Glm5NextTextConfig(deepseek_sparse.GlmMoeDsaConfig):
    model_type = "glm5_next_text"
    inert = ("rope_theta", "rope_parameters", "head_dim", "qk_head_dim", "num_nextn_predict_layers")
    rope_interleave: ClassVar[bool] = False  # type: ignore[assignment,misc]
    head_dim: ClassVar[None] = None  # type: ignore[misc]
    first_k_dense_replace: ClassVar[int] = 3  # type: ignore[misc]

    hidden_size: Size = 4096
    num_hidden_layers: Count = 45
    n_routed_experts: Copies = 288
    q_lora_rank: Size = 1536
    qk_rope_head_dim: Literal[0] = 0
    qk_nope_head_dim: Size = 256
    max_position_embeddings: Size = 1048576
    layer_types: list[str] | None = None
    swiglu_limit: float = 10.0
    linear_head_dim: Size = 128
    linear_num_heads: Size = 64
    linear_conv_kernel_dim: Size = 4
    linear_lower_bound: float | None = -5.0
    hc_mult: Size = 4
    hc_eps: float = 1e-6
    hc_sinkhorn_iters: Size = 20
    router_aux_loss_coef: float = 0.001
    index_kpool: Size = 16
    index_kpool_always_select_tail: Literal[True] = True  # without it a text's first tokens would see nothing
    pad_token_id: int | None = 154820
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the sizes that published files keep in `linear_attn_config`."""
        entries = super().normalized(entries)
        linear = entries.pop("linear_attn_config", None) or {}
        entries |= {ours: linear[theirs] for theirs, ours in SIZES.items() if theirs in linear}
        if linear.get("safe_gate", True) and linear and entries.get("linear_lower_bound", -5.0) is None:
            entries["linear_lower_bound"] = -5.0
        return entries

    def check(self) -> None:
        super().check()
        if self.num_key_value_heads not in (None, self.num_attention_heads):
            raise UnsupportedConfig(
                f"num_key_value_heads = {self.num_key_value_heads} must be num_attention_heads = "
                f"{self.num_attention_heads}: each head has keys of its own."
            )
        if self.index_topk % self.index_kpool:
            raise UnsupportedConfig(
                f"index_topk = {self.index_topk} is no multiple of index_kpool = {self.index_kpool}."
            )
        if self.swiglu_limit <= 0:
            raise UnsupportedConfig(f"swiglu_limit = {self.swiglu_limit} would clamp all of the states to it.")
        kinds, index = self.kinds, deepseek_sparse.indexers(self)
        if len(kinds) != self.num_hidden_layers or set(kinds) - {INDEXED, LINEAR}:
            raise UnsupportedConfig(f"layer_types must hold {INDEXED} or {LINEAR} for each layer, not {kinds}.")
        for i, kind in enumerate(kinds):
            if kind == INDEXED and index[i] == "shared" and (kinds[i - 1], index[i - 1]) != (INDEXED, "full"):
                raise UnsupportedConfig(
                    f"indexer_types: layer {i} shares the choice of the layer before it, which must be one of "
                    f'{INDEXED} with a "full" indexer.'
                )

    @property
    def kinds(self) -> list[str]:
        """The mixer of each layer."""
        usual = [INDEXED if i % 4 == 3 else LINEAR for i in range(self.num_hidden_layers)]
        given = usual if self.layer_types is None else self.layer_types
        return [INDEXED if kind == "full_attention" else kind for kind in given]


def feed_forward(config: Glm5NextTextConfig, inner: int, act: str) -> ClampedGatedFeedForward:
    return ClampedGatedFeedForward(config.hidden_size, inner, act, config.swiglu_limit)


def experts(config: Glm5NextTextConfig) -> SharedExpert:
    inner, count = config.moe_intermediate_size, config.n_routed_experts
    several = ExpertList([feed_forward(config, inner, "silu") for _ in range(count)])  # whatever hidden_act says
    routed = RoutedExperts(config.hidden_size, several, count, deepseek.rule3(config), wide=True)
    return SharedExpert(routed, feed_forward(config, inner * config.n_shared_experts, config.hidden_act))


def mixer(config: Glm5NextTextConfig, i: int) -> nn.Module:
    if config.kinds[i] == INDEXED:
        index = partial(PoolIndexer, pool=config.index_kpool)
        chosen = deepseek_sparse.selection(config, Positions(), i, deepseek_sparse.indexers(config), index)
        return deepseek.attention(config, Positions(), selection=chosen, norm_eps=config.rms_norm_eps)
    return delta_attention(config, bound=config.linear_lower_bound)


def build(config: Glm5NextTextConfig) -> Stack:
    wide, streams, dense = config.hidden_size, config.hc_mult, deepseek.dense_layers(config)
    numbers = {"eps": config.hc_eps, "norm_eps": config.rms_norm_eps}

    def residual(step: nn.Module) -> HyperResidual:
        connection = HyperConnection(wide, streams, rounds=config.hc_sinkhorn_iters, strength=2.0, **numbers)
        return HyperResidual(step, connection, before=llama.norm(config))

    def layer(i: int) -> Layer:
        plain = feed_forward(config, config.intermediate_size, config.hidden_act) if dense[i] else None
        return Layer(residual(mixer(config, i)), residual(plain or experts(config)))

    embed = StreamEmbeddings(Embedding(config.vocab_size, wide), streams)
    return Stack(embed, [layer(i) for i in range(config.num_hidden_layers)], StreamMean(llama.norm(config)))


RENAMED = (  # names of the reference's modules
    (r"\.self_attn\.forget_gate\.", ".self_attn."),
    (r"\.(attn|ffn)_hc\.(base|fn|scale)$", r".hc_\1_\2"),
)


def keys(config: Any) -> KeyMap:
    sizes, kernel = (config.linear_num_heads * config.linear_head_dim,) * 3, config.linear_conv_kernel_dim
    table, index = deepseek_sparse.keys(config), "layers.*.attention.step.selection"
    stored = f"{STORED}.indexer"
    rows: dict[str, str | Source] = {
        **{k: v for k, v in table.rows.items() if k != "norm"},
        "norm.norm": "norm",
        f"{DELTA}.qkv": Joined(f"{STORED}.q_proj", ("k_proj", "v_proj"), sizes),
        f"{DELTA}.convolution": Joined(f"{STORED}.q_conv1d", ("k_conv1d", "v_conv1d"), sizes, (1, kernel)),
        f"{DELTA}.forget.down": f"{STORED}.f_a_proj",
        f"{DELTA}.forget.up": f"{STORED}.f_b_proj",
        f"{DELTA}.gate.down": f"{STORED}.g_a_proj",
        f"{DELTA}.gate.up": f"{STORED}.g_b_proj",
        f"{DELTA}.write": f"{STORED}.b_proj",
        f"{DELTA}.decay": f"{STORED}.A_log",
        f"{DELTA}.step": f"{STORED}.dt_bias",
        f"{DELTA}.norm": f"{STORED}.o_norm",
        f"{DELTA}.output": f"{STORED}.o_proj",
        **{f"{index}.{n}": f"{stored}.{s}" for n, s in {"q": "wq_b", "k": "wk", "norm": "k_norm"}.items()},
        f"{index}.places": f"{stored}.index_kpool_compress_ape",
        f"{index}.share.weight": f"{stored}.index_kpool_compress_gate",
    }
    for name, part in (("base", "base"), ("fn", "matrix"), ("scale", "scale")):
        rows[f"layers.*.attention.connection.weights.{part}"] = f"layers.*.hc_attn_{name}"
        rows[f"layers.*.ffn.connection.weights.{part}"] = f"layers.*.hc_ffn_{name}"
    fused = ((r"(\.self_attn)\.conv1d\.weight$", tuple(rf"\1.{part}_conv1d.weight" for part in "qkv")),)
    return replace(table, rows=rows, renamed=(*table.renamed, *RENAMED), split_fused=fused)


ARCHITECTURE = replace(deepseek_sparse.V32, name="Glm5Next", config=Glm5NextTextConfig, build=build, keys=keys)
