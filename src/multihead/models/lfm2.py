"""LFM2 (Liquid AI, 2025, arXiv:2511.23404): gated short convolutions, a few attention layers, experts or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Copies, Count, Size
from ..nn.attention.attention import Attention
from ..nn.attention.output_gate import OutputGateAttention
from ..nn.experts import ExpertList, RoutedExperts, SigmoidTopK
from ..nn.feedforward import GatedFeedForward
from ..nn.gated_convolution import GatedConvolution
from ..nn.layer import Layer, MixerLayer, Residual
from ..nn.norms import RMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama, qwen3
from .common import gguf
from .common.experts import ALONE
from .common.patterns import FULL, SLIDING, layer_kinds, layered_rope_entries, rotary_by_layer, rotary_of

CONV = "conv"


@dataclass(kw_only=True)
class ConvolutionConfig(llama.LlamaConfig):
    """Config of a decoder with gated short convolutions."""

    theta: ClassVar[float] = 1000000.0

    vocab_size: Size = 65536
    num_key_value_heads: Size | None = 8
    hidden_act: Literal["silu"] = "silu"
    max_position_embeddings: Size = 128000
    norm_eps: float = 1e-5
    conv_bias: bool = False
    conv_L_cache: Size = 3
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read names of the first files."""
        older = {"tie_embedding": "tie_word_embeddings", "block_ff_dim": "intermediate_size"}
        current = {new: entries[old] for old, new in older.items() if old in entries}
        return super().normalized({**{k: v for k, v in entries.items() if k not in older}, **current})

    def __post_init__(self) -> None:
        self.rms_norm_eps = self.norm_eps  # the name that Llama's parts read
        super().__post_init__()


@dataclass(kw_only=True)
class Lfm2Config(ConvolutionConfig):
    model_type = "lfm2"
    inert = tuple(
        (
            "block_dim block_mlp_init_scale block_norm_eps block_out_init_scale block_use_swiglu block_use_xavier_init "
            "conv_dim conv_dim_out conv_use_xavier_init num_heads rope_interleaved use_pos_enc"
        ).split()
    )

    hidden_size: Size = 2560
    intermediate_size: Size = 12288
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    block_multiple_of: Size = 256
    block_ffn_dim_multiplier: float | None = 1.0
    block_auto_adjust_ff_dim: bool = True
    full_attn_idxs: list[int] | None = None

    @property
    def inner(self) -> int:
        """Channels of a feed-forward."""
        if not self.block_auto_adjust_ff_dim:
            return self.intermediate_size
        inner, step = int(2 * self.intermediate_size / 3), self.block_multiple_of
        if self.block_ffn_dim_multiplier is None:
            return inner
        return step * -(-int(self.block_ffn_dim_multiplier * inner) // step)


@dataclass(kw_only=True)
class Lfm2MoeConfig(ConvolutionConfig):
    model_type = "lfm2_moe"

    hidden_size: Size = 2048
    intermediate_size: Size = 7168
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    moe_intermediate_size: Size = 1792
    num_dense_layers: Count = 2
    num_experts: Copies = 32
    num_experts_per_tok: Size = 4
    use_expert_bias: bool = True
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    output_router_logits: bool = False


@dataclass(kw_only=True)
class Lfm3Config(ConvolutionConfig):
    model_type = "lfm3"

    vocab_size: Size = 128000
    hidden_size: Size = 2048
    intermediate_size: Size = 7680
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 16
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = 128
    conv_L_cache: Size = 7
    sliding_window: Size | None = 256
    use_sandwich_norm: bool = True
    use_attention_gate: bool = True
    mlp_bias: Literal[False] = False
    pad_token_id: int | None = 124893
    bos_token_id: int | None = 124894
    eos_token_id: int | list[int] | None = 124900

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Give rotary parameters for each kind of attention."""
        if not entries.get("rope_parameters"):
            half = {"rope_type": "proportional", "rope_theta": cls.theta, "partial_rotary_factor": 0.5}
            entries = {**entries, "rope_parameters": {FULL: half, SLIDING: {}}}
        return layered_rope_entries(entries, {FULL: cls.theta, SLIDING: 10000.0})


def experts(config: Lfm2MoeConfig) -> RoutedExperts:
    def one() -> GatedFeedForward:
        return GatedFeedForward(config.hidden_size, config.moe_intermediate_size, config.hidden_act)

    rule = SigmoidTopK(
        config.num_experts,
        config.num_experts_per_tok,
        corrected=config.use_expert_bias,
        normalized=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
    )
    each = ExpertList([one() for _ in range(config.num_experts)])
    return RoutedExperts(config.hidden_size, each, config.num_experts, rule)


def decoder(config: Any, kinds: Sequence[str], ffn: Callable[[int], nn.Module]) -> Stack:
    """Build a stack of convolutions and attention, with feed-forwards `ffn(i)`."""
    positions = rotary_of(config, config.head_width)

    def residual(step: nn.Module) -> Residual:
        return Residual(step, before=llama.norm(config))

    def layer(i: int) -> nn.Module:
        if kinds[i] == CONV:
            step = GatedConvolution(config.hidden_size, config.conv_L_cache, bias=config.conv_bias)
            return MixerLayer(residual(step), residual(ffn(i)))
        return Layer(residual(qwen3.attention(config, positions)), residual(ffn(i)))

    return llama.decoder(config, layer)


def build(config: Lfm2Config) -> Stack:
    count, chosen = config.num_hidden_layers, config.full_attn_idxs
    usual = [FULL if chosen is None or i in chosen else CONV for i in range(count)]
    kinds = layer_kinds(config, usual, (FULL, CONV))
    return decoder(config, kinds, lambda _: GatedFeedForward(config.hidden_size, config.inner, config.hidden_act))


def build_moe(config: Lfm2MoeConfig) -> Stack:
    def ffn(i: int) -> nn.Module:
        return llama.feed_forward(config) if i < config.num_dense_layers else experts(config)

    return decoder(config, layer_kinds(config, (), (FULL, CONV)), ffn)


def gated_attention(config: Lfm3Config, positions: Positions, window: int | None) -> Attention:
    if not config.use_attention_gate:
        return qwen3.attention(config, positions, window)
    q_norm, k_norm = (RMSNorm(config.head_width, config.norm_eps) for _ in range(2))
    return OutputGateAttention(
        config.hidden_size,
        config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_width=config.head_width,
        by_head=True,
        soft=False,
        bias=config.attention_bias,
        positions=positions,
        window=window,
        causal=True,
        dropout=config.attention_dropout,
        q_norm=q_norm,
        k_norm=k_norm,
    )


def build3(config: Lfm3Config) -> Stack:
    usual = [FULL if i % 4 == 2 else SLIDING if i and i % 4 == 0 else CONV for i in range(config.num_hidden_layers)]
    kinds = layer_kinds(config, usual, (FULL, SLIDING, CONV))
    positions = rotary_by_layer(config, config.head_width)

    def residual(step: nn.Module) -> Residual:
        out = llama.norm(config) if config.use_sandwich_norm else None
        return Residual(step, before=llama.norm(config), out=out)

    def layer(i: int) -> nn.Module:
        ffn = residual(GatedFeedForward(config.hidden_size, config.intermediate_size, config.hidden_act))
        if kinds[i] == CONV:
            step = GatedConvolution(config.hidden_size, config.conv_L_cache, bias=config.conv_bias)
            return MixerLayer(residual(step), ffn)
        window = config.sliding_window if kinds[i] == SLIDING else None
        return Layer(residual(gated_attention(config, positions[kinds[i]], window)), ffn)

    return llama.decoder(config, layer)


def keys3(config: Lfm3Config) -> KeyMap:
    table, attention = keys(config), "layers.*.attention.step"
    own = {
        f"{attention}.{ours}": f"layers.*.self_attn.{theirs}"
        for ours, theirs in (("out", "o_proj"), ("q_norm", "q_norm"), ("k_norm", "k_norm"), ("gate", "gate_proj"))
    }
    own |= {f"layers.*.{part}.out": "layers.*.post_operator_norm" for part in ("mixer", "attention")}
    own["layers.*.ffn.out"] = "layers.*.post_ffn_norm"
    renamed = ((r"\.self_attn\.g_proj\.", ".self_attn.gate_proj."),)  # what the reference calls it inside
    return replace(table, rows={**table.rows, **own}, renamed=renamed)


def keys(config: ConvolutionConfig) -> KeyMap:
    mixer, attention, ffn = "layers.*.conv", "layers.*.self_attn", "layers.*.feed_forward"
    width, kernel = config.hidden_size, config.conv_L_cache
    linears = {"gate": "w1", "up": "w3", "down": "w2"}
    own: dict[str, str | Source] = {
        "layers.*.mixer.step.into": f"{mixer}.in_proj",
        "layers.*.mixer.step.convolution.weight": Shaped(f"{mixer}.conv.weight", (width, kernel), (width, 1, kernel)),
        "layers.*.mixer.step.convolution.bias": f"{mixer}.conv.bias",
        "layers.*.mixer.step.out": f"{mixer}.out_proj",
        "layers.*.mixer.before": "layers.*.operator_norm",
        "layers.*.attention.before": "layers.*.operator_norm",
        "layers.*.attention.step.out": f"{attention}.out_proj",
        "layers.*.attention.step.q_norm": f"{attention}.q_layernorm",
        "layers.*.attention.step.k_norm": f"{attention}.k_layernorm",
        "layers.*.ffn.before": "layers.*.ffn_norm",
        **{f"layers.*.ffn.step.{ours}": f"{ffn}.{theirs}" for ours, theirs in linears.items()},
        **{f"layers.*.ffn.step.experts.*.{ours}": f"{ffn}.experts.*.{theirs}" for ours, theirs in linears.items()},
        "layers.*.ffn.step.router": f"{ffn}.gate",
        "layers.*.ffn.step.rule.correction": f"{ffn}.expert_bias",
        "norm": "embedding_norm",
    }
    return llama.keys(config, own)


def gguf_keys(config: ConvolutionConfig) -> KeyMap:
    """Return the key map of llama.cpp's names, in which the last norm has the name of the words' norm."""
    shape = config.hidden_size, config.conv_L_cache
    own: dict[str, str | Source] = {
        "layers.*.mixer.step.into": "blk.*.shortconv.in_proj",
        "layers.*.mixer.step.convolution.weight": Shaped("blk.*.shortconv.conv.weight", shape, shape),
        "layers.*.mixer.step.convolution.bias": "blk.*.shortconv.conv.bias",
        "layers.*.mixer.step.out": "blk.*.shortconv.out_proj",
        "layers.*.mixer.before": "blk.*.attn_norm",
        **qwen3.GGUF_NORMS,
        "norm": "token_embd_norm",
    }
    if isinstance(config, Lfm2MoeConfig):
        own |= {**gguf.expert_keys(ALONE, config.num_experts), f"{ALONE}.rule.correction": "blk.*.exp_probs_b.bias"}
    return gguf.llama_keys(config, own)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, which counts no key heads for a convolution."""
    names = [name for name in llama.GGUF_NAMES if name != "num_key_value_heads"]
    found = gguf.entries(metadata, names)
    own = gguf.named(
        metadata, conv_L_cache="shortconv.l_cache", norm_eps="attention.layer_norm_rms_epsilon",
        num_key_value_heads="attention.head_count_kv",
    )  # fmt: skip
    heads = own.pop("num_key_value_heads")
    each = heads if isinstance(heads, list) else [heads] * found["num_hidden_layers"]
    kinds = [FULL if count else CONV for count in each]
    adjusted = {} if metadata["general.architecture"] == "lfm2moe" else {"block_auto_adjust_ff_dim": False}
    return {**found, **own, **adjusted, "layer_types": kinds, "num_key_value_heads": max(each)}


def gguf_config_moe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    gguf.refuse_softmax(metadata)
    own = gguf.named(
        metadata, num_experts="expert_count", num_experts_per_tok="expert_used_count",
        moe_intermediate_size="expert_feed_forward_length", num_dense_layers="leading_dense_block_count",
    )  # fmt: skip
    return {**gguf_config(metadata), **own}


HEADS = {"Model": None, "ForCausalLM": llama.generate}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Lfm2",
    Lfm2Config,
    build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
MOE = ARCHITECTURE.derive(
    "Lfm2Moe",
    Lfm2MoeConfig,
    build_moe,
    keys=keys,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config_moe},
)
LFM3 = ARCHITECTURE.derive("Lfm3", Lfm3Config, build3, keys=keys3)
