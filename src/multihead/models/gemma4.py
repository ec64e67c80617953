"""Gemma 4's language model (Google, 2026, model card of gemma-4-E4B): per-layer embeddings, shared keys and values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Slice, SlicePart
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.attention.shared import BorrowedKeyAttention, NormedValueAttention
from ..nn.dense_and_experts import DenseAndExperts, ScaledTopK
from ..nn.experts import ExpertList, RoutedExperts
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Residual
from ..nn.norms import PlainRMSNorm, RMSNorm, WideRMSNorm
from ..nn.per_layer import PerLayerEmbeddings, PerLayerInput, ScaledLayer
from ..nn.positions import Rotary, rotary
from ..nn.stack import Stack
from ..nn.weights import Linear, ScaledEmbedding
from . import gemma2, llama
from .common.patterns import FULL, SLIDING, every, layer_kinds, whole
from .gemma import GemmaConfig, words
from .qwen3 import NORMS

ROPE = {
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
}


@dataclass(kw_only=True)
class Gemma4TextConfig(GemmaConfig):
    model_type = "gemma4_text"
    inert = (*GemmaConfig.inert, "is_causal")  # follows from use_bidirectional_attention

    vocab_size: Size = 262144
    hidden_size: Size = 2304
    intermediate_size: Size = 9216
    num_hidden_layers: Count = 30
    num_attention_heads: Size = 8
    num_key_value_heads: Size | None = 4
    global_head_dim: Size = 512
    num_global_key_value_heads: Size | None = None
    max_position_embeddings: Size = 131072
    rope_parameters: dict[str, Any] | None = None  # type: ignore[assignment]
    sliding_window: Size = 512
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = None
    use_bidirectional_attention: Literal[None, "all", "vision"] = None  # type: ignore[assignment]  # "vision": images
    vocab_size_per_layer_input: int = 262144
    hidden_size_per_layer_input: int | None = 256
    attention_k_eq_v: bool = False
    num_kv_shared_layers: int = 0
    enable_moe_block: bool = False
    use_double_wide_mlp: bool = False
    num_experts: Size | None = None
    top_k_experts: Size | None = None
    moe_intermediate_size: Size | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the sizes of full layers, which newer files write for each such layer."""
        return full_sizes(entries)

    def check(self) -> None:
        check_rope(self)
        check_shared(self)
        if self.enable_moe_block and not (self.num_experts and self.top_k_experts and self.moe_intermediate_size):
            raise UnsupportedConfig("enable_moe_block needs num_experts, top_k_experts and moe_intermediate_size.")

    def to_dict(self) -> dict[str, Any]:
        """Return the entries with the file's own name for the activation."""
        entries = super().to_dict()
        return {**entries, "hidden_activation": entries.pop("hidden_act")}

    @property
    def rope(self) -> dict[str, Any]:
        return ROPE if self.rope_parameters is None else self.rope_parameters

    @cached_property
    def kinds(self) -> list[str]:
        """Type of each layer; the last one sees all tokens, whatever the file says."""
        return last_full(layer_kinds(self, every(6, self.num_hidden_layers)))

    @property
    def first_shared(self) -> int:
        """The first layer that reads an earlier one's keys and values."""
        return self.num_hidden_layers - self.num_kv_shared_layers


def full_sizes(entries: dict[str, Any]) -> dict[str, Any]:
    """Return config entries with the sizes of full layers as `global_head_dim` and `num_global_key_value_heads`.

    Raises:
        UnsupportedConfig: layers of other sizes.
    """
    named = entries.pop("hidden_activation", None)
    entries = {**entries, "hidden_act": named} if named else dict(entries)
    own = list((entries.pop("per_layer_config", None) or {}).values())
    if any(one != own[0] or set(one) - {"head_dim", "num_key_value_heads"} for one in own):
        raise UnsupportedConfig(f"per_layer_config may give all full layers one size of heads, not {own}.")
    for name, key in (("global_head_dim", "head_dim"), ("num_global_key_value_heads", "num_key_value_heads")):
        if own and key in own[0]:
            entries[name] = own[0][key]
    return entries


def last_full(kinds: list[str]) -> list[str]:
    """Return layer types of which the last is full."""
    return [*kinds[:-1], FULL] if kinds else []


def positions(config: Any) -> dict[str, Rotary]:
    """Return the rotary positions of each layer type, whose heads have a width of their own."""
    widths = {FULL: config.global_head_dim, SLIDING: config.head_width}
    return {
        kind: rotary(widths[kind], whole(config, config.rope[kind]), config.max_position_embeddings)
        for kind in set(config.kinds)
    }


def check_rope(config: Any) -> None:
    """Raise UnsupportedConfig where a layer type has no rotary parameters."""
    used = {kind: config.rope.get(kind) for kind in config.kinds}
    if not all(isinstance(rope, dict) for rope in used.values()):
        raise UnsupportedConfig(f"rope_parameters must hold an object for each of {sorted(used)}, not {config.rope}.")


def check_shared(config: Any) -> None:
    """Raise UnsupportedConfig where a layer would read keys and values that no earlier one has."""
    if not 0 <= config.num_kv_shared_layers <= config.num_hidden_layers:
        raise UnsupportedConfig(
            f"num_kv_shared_layers is {config.num_kv_shared_layers}, of {config.num_hidden_layers} layers."
        )
    if missing := set(config.kinds) - set(config.kinds[: config.first_shared]):
        raise UnsupportedConfig(f"No layer of type {sorted(missing)} has keys that later ones could share.")


def norm(config: Any) -> WideRMSNorm:
    return WideRMSNorm(config.hidden_size, config.rms_norm_eps)


def attention(config: Any, i: int, positions: Rotary, **changes: Any) -> Attention:
    """Build the attention of layer i; `changes` are options of it."""
    kind, first, both = config.kinds[i], config.first_shared, config.use_bidirectional_attention == "all"
    # The reference's window both ways counts one token more to each side than half of it.
    full, window = kind == FULL, config.sliding_window // 2 + 2 if both else config.sliding_window
    keyed = config.attention_k_eq_v and full
    width = config.global_head_dim if full else config.head_width
    heads = config.num_global_key_value_heads if keyed else None
    options: dict[str, Any] = {
        "head_width": width,
        "key_heads": heads or config.num_key_value_heads,
        "bias": config.attention_bias,
        "positions": positions,
        "causal": not both,
        "window": None if full else window,
        "scale": 1.0,
        "dropout": config.attention_dropout,
        "q_norm": WideRMSNorm(width, config.rms_norm_eps),
        **changes,
    }
    sizes = config.hidden_size, config.num_attention_heads
    if i >= first:
        return BorrowedKeyAttention(*sizes, source=kind, **options)
    last = config.num_kv_shared_layers and i == max(j for j in range(first) if config.kinds[j] == kind)
    options |= {"k_norm": WideRMSNorm(width, config.rms_norm_eps), "v_norm": PlainRMSNorm(width, config.rms_norm_eps)}
    return NormedValueAttention(*sizes, keyed=keyed, shares=kind if last else None, **options)


def feed_forward(config: Gemma4TextConfig, i: int) -> Residual:
    double = 2 if config.use_double_wide_mlp and i >= config.first_shared else 1
    dense = GatedFeedForward(config.hidden_size, double * config.intermediate_size, config.hidden_act)
    if not config.enable_moe_block:
        return Residual(dense, before=norm(config), out=norm(config))
    count, chosen, inner = config.num_experts or 0, config.top_k_experts or 0, config.moe_intermediate_size or 0
    each = ExpertList([GatedFeedForward(config.hidden_size, inner, config.hidden_act) for _ in range(count)])
    both = DenseAndExperts(
        dense,
        RoutedExperts(config.hidden_size, each, count, ScaledTopK(count, chosen)),
        dense_norms=(norm(config), norm(config)),
        routed_norms=(norm(config), norm(config)),
        route_norm=RMSNorm(config.hidden_size, config.rms_norm_eps),
        route_scale=config.hidden_size**-0.5,
    )
    return Residual(both, out=norm(config))


def embeddings(config: Gemma4TextConfig) -> PerLayerEmbeddings:
    inner = config.hidden_size_per_layer_input or 0
    whole = config.num_hidden_layers * inner
    return PerLayerEmbeddings(
        words(config),
        config.num_hidden_layers,
        ScaledEmbedding(config.vocab_size_per_layer_input, whole, inner**0.5),
        Linear(config.hidden_size, whole, bias=False),
        WideRMSNorm(inner, config.rms_norm_eps),
        scales=(config.hidden_size**-0.5, 2**-0.5),
        searched=True,
    )


def build(config: Gemma4TextConfig) -> Stack:
    turned, inner = positions(config), config.hidden_size_per_layer_input

    def layer(i: int) -> ScaledLayer:
        step = Residual(attention(config, i, turned[config.kinds[i]]), before=norm(config), out=norm(config))
        extra = PerLayerInput(i, config.hidden_size, inner, config.hidden_act) if inner else None
        return ScaledLayer(step, feed_forward(config, i), Residual(extra, out=norm(config)) if extra else None)

    stack = llama.decoder(config, layer, norm, words(config))
    if inner:
        stack.embed = embeddings(config)
    return stack


PER_LAYER: Rows = {
    "embed.table": "embed_tokens_per_layer",
    "embed.projection": "per_layer_model_projection",
    "embed.per_layer_norm": "per_layer_projection_norm",
}


def unread(config: Any) -> tuple[str, ...]:
    """Return patterns of the keys and values of layers that read others', which files have all the same."""
    shared = "|".join(map(str, range(config.first_shared, config.num_hidden_layers)))
    return (rf"layers\.({shared})\.self_attn\.[kv]_(proj|norm)\.",) if shared else ()


def expert_rows(config: Gemma4TextConfig) -> Rows:
    """Return the rows of the experts, whose matrices lie in two tensors of a layer."""
    ours, sizes = "layers.*.ffn.step", (config.moe_intermediate_size or 0,) * 2
    count, each = config.num_experts or 0, "layers.*.experts"
    return {
        **{f"{ours}.routed.experts.*.{name}.weight": SlicePart(f"{each}.gate_up_proj", count, sizes=sizes, index=index)
           for index, name in enumerate(("gate", "up"))},
        f"{ours}.routed.experts.*.down.weight": Slice(f"{each}.down_proj", count),
        f"{ours}.routed.router": "layers.*.router.proj",
        f"{ours}.routed.rule.scale": "layers.*.router.per_expert_scale",
        f"{ours}.route_norm.weight": "layers.*.router.scale",
        **{f"{ours}.dense.{name}": f"layers.*.mlp.{name}_proj" for name in ("gate", "up", "down")},
        f"{ours}.dense_in": "layers.*.pre_feedforward_layernorm",
        f"{ours}.dense_out": "layers.*.post_feedforward_layernorm_1",
        f"{ours}.routed_in": "layers.*.pre_feedforward_layernorm_2",
        f"{ours}.routed_out": "layers.*.post_feedforward_layernorm_2",
    }  # fmt: skip


def keys(config: Gemma4TextConfig) -> KeyMap:
    own: dict[str, Any] = {**gemma2.SANDWICH, **NORMS, "layers.*.scalar": "layers.*.layer_scalar"}
    without: tuple[str, ...] = ()
    if config.hidden_size_per_layer_input:
        own |= {
            **PER_LAYER,
            "layers.*.extra.step.gate": "layers.*.per_layer_input_gate",
            "layers.*.extra.step.out": "layers.*.per_layer_projection",
            "layers.*.extra.out": "layers.*.post_per_layer_input_norm",
        }
    if config.enable_moe_block:
        own |= expert_rows(config)
        without = ("layers.*.ffn.before", *(f"layers.*.ffn.step.{name}" for name in ("gate", "up", "down")))
    table = llama.keys(config, own, without)
    return replace(table, ignored=(*table.ignored, *unread(config)))


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Gemma4", Gemma4TextConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": gemma2.generate}
)


@dataclass(kw_only=True)
class Gemma4UnifiedTextConfig(Gemma4TextConfig):
    """The config of a model that reads images without an encoder: no per-layer vectors, no experts."""

    model_type = "gemma4_unified_text"

    max_position_embeddings: Size = 262144
    sliding_window: Size = 1024
    use_bidirectional_attention: Literal[None, "all", "vision"] = "vision"
    vocab_size_per_layer_input: int = 0
    hidden_size_per_layer_input: int | None = None

    def check(self) -> None:
        super().check()
        if self.hidden_size_per_layer_input or self.enable_moe_block:
            raise UnsupportedConfig(f"{self.model_type} has no per-layer vectors and no experts.")


UNIFIED = replace(ARCHITECTURE, name="Gemma4Unified", config=Gemma4UnifiedTextConfig)
