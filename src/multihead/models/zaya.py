"""ZAYA1 (Zyphra, 2025, arXiv:2511.17127): compressed convolutional attention, routers that read each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Slice, SlicePart, Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.attention.compressed_convolution import CompressedConvolutionAttention
from ..nn.depth_router import DepthRoutedExperts, DepthRoutedLayer, SkippedExperts, SkipTopK
from ..nn.norms import NarrowRMSNorm
from ..nn.shifted_residual import ShiftedResidual, ShiftScale
from ..nn.stack import Stack
from . import llama
from .common.experts import ALONE, gated
from .common.patterns import layer_kinds, layered_rope_entries, rotary_by_layer

GLOBAL, LOCAL = "hybrid", "hybrid_sliding"
THETAS = {GLOBAL: 5000000.0, LOCAL: 10000.0}


@dataclass(kw_only=True)
class ZayaConfig(llama.LlamaConfig):
    model_type = "zaya"
    rotary_factor: ClassVar[float | None] = 0.5
    intermediate_size: ClassVar[Any] = property(lambda self: self.moe_intermediate_size)  # type: ignore[misc]

    vocab_size: Size = 262272
    hidden_size: Size = 2048
    num_hidden_layers: Count = 40
    num_attention_heads: Size = 8
    num_key_value_heads: Size = 2
    head_dim: Size = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    sliding_window: Size | None = None
    layer_types: list[str] | None = None
    moe_intermediate_size: Size = 2048
    num_experts: Copies = 16
    num_experts_per_tok: Literal[1] = 1
    router_hidden_size: Size = 256
    cca_time0: Size = 2
    cca_time1: Size = 2
    lm_head_bias: bool = False
    tie_word_embeddings: bool = True
    output_router_logits: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 106

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Give rotary parameters for each kind of layer; files have a `rope_type` of none of them, too."""
        if entries.get("rope_scaling"):
            raise UnsupportedConfig("rope_scaling is not computed; rope_parameters must scale each kind of layer.")
        rope = {name: value for name, value in (entries.get("rope_parameters") or {}).items() if name != "rope_type"}
        if not rope:
            rope = {kind: {"partial_rotary_factor": cls.rotary_factor} for kind in THETAS}
        return layered_rope_entries({**entries, "rope_parameters": rope}, THETAS)

    def check(self) -> None:
        super().check()
        if self.num_key_value_heads * self.head_dim % 2:
            raise UnsupportedConfig("Half of the channels of all values must be a whole number.")
        if self.sliding_window is None and LOCAL in self.kinds:
            raise UnsupportedConfig(f"sliding_window must be a number where layer_types has {LOCAL!r}.")

    @property
    def kinds(self) -> list[str]:
        return layer_kinds(self, [GLOBAL] * self.num_hidden_layers, (GLOBAL, LOCAL))


def experts(config: ZayaConfig, first: bool) -> DepthRoutedExperts:
    each = SkippedExperts([gated(config, config.moe_intermediate_size) for _ in range(config.num_experts)])
    rule, inner = SkipTopK(config.num_experts, config.num_experts_per_tok), config.router_hidden_size
    return DepthRoutedExperts(config.hidden_size, inner, each, rule, first=first, eps=config.rms_norm_eps)


def build(config: ZayaConfig) -> Stack:
    positions, kinds, wide = rotary_by_layer(config, config.head_dim), config.kinds, config.hidden_size

    def norm(_: ZayaConfig) -> NarrowRMSNorm:
        return NarrowRMSNorm(wide, config.rms_norm_eps)

    def layer(i: int) -> DepthRoutedLayer:
        attention = CompressedConvolutionAttention(
            wide,
            config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            head_width=config.head_dim,
            kernels=(config.cca_time0, config.cca_time1),
            bias=config.attention_bias,
            positions=positions[kinds[i]],
            window=config.sliding_window if kinds[i] == LOCAL else None,
            dropout=config.attention_dropout,
        )
        steps = (attention, experts(config, i == 0))
        return DepthRoutedLayer(*(ShiftedResidual(step, wide, before=norm(config)) for step in steps))

    return llama.decoder(config, layer, norm, project=ShiftScale(wide))


def expert_rows(config: ZayaConfig) -> dict[str, str | Source]:
    """Return the rows of the experts, which are stored in stacks, and of their router."""
    count, inner, rows = config.num_experts, config.moe_intermediate_size, dict[str, str | Source]()
    for index, part in enumerate(("gate", "up")):
        stack = SlicePart("layers.*.mlp.experts.gate_up_proj", count, sizes=(inner, inner), index=index)
        rows[f"{ALONE}.experts.*.{part}.weight"] = stack
    rows[f"{ALONE}.experts.*.down.weight"] = Slice("layers.*.mlp.experts.down_proj", count)
    names = {"narrow": "down_proj", "norm": "router_mlp.norm", "first": "router_mlp.fc1", "second": "router_mlp.fc2"}
    names |= {"router": "router_mlp.out_proj", "keep": "router_states_scale", "rule.correction": "balancing_biases"}
    return {**rows, **{f"{ALONE}.{ours}": f"layers.*.mlp.gate.{theirs}" for ours, theirs in names.items()}}


def keys(config: ZayaConfig) -> KeyMap:
    ours, theirs = "layers.*.attention.step", "layers.*.self_attn.qkv_proj"
    channels = (config.num_attention_heads + config.num_key_value_heads) * config.head_dim
    each = Shaped(f"{theirs}.conv_qk_depthwise.weight", (-1, config.cca_time0), (channels, 1, config.cca_time0))
    rows: dict[str, str | Source] = {
        **{f"{ours}.{part}": f"{theirs}.{part}_proj" for part in ("q", "k")},
        f"{ours}.v": f"{theirs}.v_proj_current",
        f"{ours}.v_before": f"{theirs}.v_proj_delayed",
        f"{ours}.convolution.each": each,
        f"{ours}.convolution.each_bias": f"{theirs}.conv_qk_depthwise.bias",
        f"{ours}.convolution.mix": f"{theirs}.conv_qk_grouped.weight",
        f"{ours}.convolution.mix_bias": f"{theirs}.conv_qk_grouped.bias",
        f"{ours}.k_norm.scale": "layers.*.self_attn.qk_norm.temp",
        "embed.project.shift": "input_hidden_states_bias",
        "embed.project.scale": "input_hidden_states_scale",
        **expert_rows(config),
    }
    for part, name in (("attention", "post_attention"), ("ffn", "post_mlp")):
        for term, stem in (("out", "hidden_states"), ("keep", "residual")):
            key = f"layers.*.{name}_residual_scale.{stem}"
            rows |= {f"layers.*.{part}.{term}.{leaf}": f"{key}_{end}" for leaf, end in SHIFTS.items()}
    return llama.keys(config, rows)


SHIFTS = {"shift": "bias", "scale": "scale"}


def generate(config: ZayaConfig, backbone: Stack) -> Head:
    head = llama.generate(config, backbone, bias=config.vocab_size if config.lm_head_bias else None)
    rows = {**head.rows, "bias": "/lm_head.bias"} if config.lm_head_bias else head.rows
    return Head(head.module, rows)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Zaya", ZayaConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": generate}
)
