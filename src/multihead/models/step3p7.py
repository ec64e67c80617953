"""Step 3.5 Flash, and the language model of Step 3.7 Flash (StepFun, 2026, model cards): gated heads, bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.experts import ExpertList, GroupedTopK, RoutedExperts, SharedExpert
from ..nn.feedforward import BoundedGatedFeedForward, GatedFeedForward
from ..nn.layer import Layer
from ..nn.norms import WideRMSNorm
from ..nn.stack import Stack
from . import laguna, llama, qwen3
from .common.experts import PARTS, ROUTED, SHARED
from .common.later_words import without_later_layers
from .common.patterns import FULL, SLIDING, layer_kinds, rotary_by_layer

LISTS = ("layer_types", "mlp_layer_types", "swiglu_limits", "swiglu_limits_shared")  # an entry a layer


@dataclass(kw_only=True)
class Step3p5Config(llama.LlamaConfig):
    model_type = "step3p5"
    inert = (
        "num_nextn_predict_layers", "mtp_layer_types", "mtp_mlp_layer_types", "attention_other_setting",
        "use_moe", "use_moe_router_bias", "use_head_wise_attn_gate", "use_qk_norm", "zero_centered",
        "need_fp32_gate", "moe_router_activation", "norm_expert_weight", "moe_every_n_layer", "moe_layer_offset",
    )  # fmt: skip
    aliases: ClassVar[Mapping[str, str]] = {
        "num_local_experts": "n_routed_experts",
        "num_attention_groups": "num_key_value_heads",
        "moe_num_experts": "n_routed_experts",
        "moe_top_k": "num_experts_per_tok",
        "share_expert_dims": "share_expert_dim",
        "num_mtp_layers": "num_nextn_predict_layers",
    }
    rotary_factor: ClassVar[float | None] = 1.0

    vocab_size: Size = 128815
    hidden_size: Size = 4096
    intermediate_size: Size = 11264
    num_hidden_layers: Count = 45
    num_attention_heads: Size = 64
    num_sliding_attention_heads: Size | None = None
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 128000
    rms_norm_eps: float = 1e-5
    moe_intermediate_size: Size = 1280
    n_routed_experts: Copies = 288
    num_experts_per_tok: Size = 8
    share_expert_dim: Size = 1280
    moe_router_scaling_factor: float = 1.0
    sliding_window: Size | None = None
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    per_layer_config: dict[str, Any] | None = None
    query_pre_attn_scalar: float | None = None
    swiglu_limits: list[float | int | None] | None = None
    swiglu_limits_shared: list[float | int | None] | None = None
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    output_router_logits: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the authors' entries: lists that count layers for later words, and a rotary base a layer."""
        entries = dict(entries)
        count = entries.get("num_hidden_layers", cls.num_hidden_layers)
        for name in LISTS:
            if isinstance(entries.get(name), list):
                entries[name] = entries[name][:count]
        other, listed = entries.get("attention_other_setting") or {}, entries.pop("moe_layers_enum", None)
        if entries.get("num_sliding_attention_heads") is None and "num_attention_heads" in other:
            entries["num_sliding_attention_heads"] = other["num_attention_heads"]
        if entries.get("mlp_layer_types") is None and listed is not None:
            named = listed.split(",") if isinstance(listed, str) else listed
            sparse = {int(number) for number in named if str(number).strip()}
            entries["mlp_layer_types"] = ["sparse" if i in sparse else "dense" for i in range(count)]
        return {**entries, "rope_parameters": ropes(entries, count)}

    def check(self) -> None:
        super().check()
        for name in LISTS:
            given = getattr(self, name)
            if given is not None and len(given) != self.num_hidden_layers:
                raise UnsupportedConfig(f"{name} has {len(given)} entries for {self.num_hidden_layers} layers.")
        if set(self.mixtures) - {"dense", "sparse"}:
            raise UnsupportedConfig(f'mlp_layer_types may hold "dense" and "sparse", not {self.mixtures}.')
        for number, changes in (self.per_layer_config or {}).items():
            if set(changes) - {"num_attention_heads"}:
                raise UnsupportedConfig(f"per_layer_config changes {sorted(changes)} of layer {number}.")

    @property
    def kinds(self) -> list[str]:
        return layer_kinds(self, [FULL] * self.num_hidden_layers)

    @property
    def mixtures(self) -> list[str]:
        """Whether each layer has experts ("sparse") or not ("dense")."""
        usual = ["dense" if i < 3 else "sparse" for i in range(self.num_hidden_layers)]
        return usual if self.mlp_layer_types is None else self.mlp_layer_types

    def heads(self, i: int) -> int:
        """Return the attention heads of layer i."""
        if self.per_layer_config is not None:
            by_layer = {int(number): changes for number, changes in self.per_layer_config.items()}  # "07" is 7
            return int(by_layer.get(i, {}).get("num_attention_heads", self.num_attention_heads))
        sliding = self.num_sliding_attention_heads if self.kinds[i] == SLIDING else None
        return sliding or self.num_attention_heads


def ropes(entries: dict[str, Any], count: int) -> dict[str, Any]:
    """Return rotary parameters of each kind of layer; entries that they come from are taken out."""
    theta, parts = entries.pop("rope_theta", None), entries.pop("partial_rotary_factors", None)
    scaling, known = entries.pop("rope_scaling", None) or {}, entries.pop("rope_parameters", None) or {}
    kinds = list(entries.get("layer_types") or [FULL] * max(count, 1))
    if all(isinstance(known.get(kind), Mapping) for kind in set(kinds)):
        return {kind: {"rope_type": "default", **known[kind]} for kind in dict.fromkeys(kinds)}
    found: dict[str, Any] = {}
    for i, kind in enumerate(kinds):
        base = theta[i] if isinstance(theta, list) else theta
        part = {"partial_rotary_factor": parts[i]} if parts else {}
        found.setdefault(kind, {"rope_type": "default", "rope_theta": 10000.0 if base is None else base, **part})
    if FULL in found:
        found[FULL] |= {"rope_type" if name == "type" else name: value for name, value in scaling.items()}
    return found


def norm(config: Any) -> WideRMSNorm:
    return WideRMSNorm(config.hidden_size, config.rms_norm_eps, centre=1.0)


def build(config: Step3p5Config) -> Stack:
    positions, kinds, wide = rotary_by_layer(config, config.head_width), config.kinds, config.hidden_size
    scale = (config.query_pre_attn_scalar or config.head_width) ** -0.5

    def gated(inner: int, limits: list[Any] | None, i: int) -> nn.Module:
        bound = limits[i] if limits else None
        sizes = (wide, inner, config.hidden_act)
        return BoundedGatedFeedForward(*sizes, bound) if bound else GatedFeedForward(*sizes)

    def experts(i: int) -> SharedExpert:
        count = config.n_routed_experts
        rule = GroupedTopK(count, config.num_experts_per_tok, scale=config.moe_router_scaling_factor)
        each = ExpertList([gated(config.moe_intermediate_size, config.swiglu_limits, i) for _ in range(count)])
        shared = gated(config.share_expert_dim, config.swiglu_limits_shared, i)
        return SharedExpert(RoutedExperts(wide, each, count, rule), shared)

    def layer(i: int) -> Layer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        attention = laguna.attention(
            config, config.heads(i), partial(WideRMSNorm, centre=1.0), positions=positions[kinds[i]], window=window,
            scale=scale, by_head=True, soft=False,
        )  # fmt: skip
        dense = config.mixtures[i] == "dense"
        ffn = gated(config.intermediate_size, config.swiglu_limits_shared, i) if dense else experts(i)
        return llama.layer(config, attention, ffn, norm)

    return llama.decoder(config, layer, norm)


RENAMED = (  # names of the reference's modules
    (r"\.mlp\.gate\.weight$", ".moe.gate.weight"),
    (r"\.mlp\.gate\.e_score_correction_bias$", ".moe.router_bias"),
    (r"\.mlp\.shared_experts\.", ".share_expert."),
)


def keys(config: Step3p5Config) -> KeyMap:
    """Return the key map; files stack each kind of matrices of a layer's experts."""
    rows = {
        **qwen3.NORMS,
        **{f"{ROUTED}.experts.*.{part}": f"layers.*.mlp.experts.*.{part}_proj" for part in PARTS},
        **{f"{SHARED}.{part}": f"layers.*.share_expert.{part}_proj" for part in PARTS},
        f"{ROUTED}.router": "layers.*.moe.gate",
        f"{ROUTED}.rule.correction": "layers.*.moe.router_bias",
        "layers.*.attention.step.gate": "layers.*.self_attn.g_proj",
    }
    stacks = ((r"\.moe\.(gate|up|down)_proj\.weight$", (r".mlp.experts.#.\1_proj.weight",)),)
    joined = ((r"\.mlp\.experts\.(?P<expert>\d+)\.(gate|up|down)_proj\.weight$", r".moe.\2_proj.weight"),)
    table = replace(llama.keys(config, rows), renamed=RENAMED, split_fused=stacks, joined=joined)
    return without_later_layers(config, table)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Step3p5",
    Step3p5Config,
    build,
    keys=keys,
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")},
)
