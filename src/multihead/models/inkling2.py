"""Inkling 2 (Thinking Machines Lab, 2026, model card): layers that read mixes of earlier states, bounded attention."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.selected_tensors import SelectedTensors
from ..checkpoints.tensor_sources import Source
from ..config import Config, Copies, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import CutLanguageModel, Head
from ..nn.attention.bounded_profiles import BoundedProfileAttention
from ..nn.attention.distance_profiles import LogScale
from ..nn.attention_residuals import FirstState, LastMix, MixedStateLayer, MixedStateStack, StateMix
from ..nn.experts import ExpertList, RoutedExperts
from ..nn.feedforward import SoftcappedFeedForward
from ..nn.hashed_experts import ActivatedTopK
from ..nn.norms import WideRMSNorm
from ..nn.residual_convolution import ConvolvedFeedForward, ConvolvedMixer, DynamicConvolution, ResidualConvolution
from ..nn.weights import Linear, NormedEmbedding
from . import llama
from .common.experts import PARTS
from .inkling import GLOBAL, LOCAL, convolution_row


@dataclass(kw_only=True)
class Inkling2TextConfig(Config):
    model_type = "inkling2_text"
    inert: ClassVar[tuple[str, ...]] = ("number_of_conv_states",)
    aliases: ClassVar = {
        "sliding_window": "sliding_window_size",
        "num_local_experts": "n_routed_experts",
        "sconv_kernel_size": "conv_kernel_size",
        "model_max_length": "max_position_embeddings",
        "intermediate_size": "moe_intermediate_size",
        "routed_scaling_factor": "route_scale",
    }

    vocab_size: Size = 201024
    unpadded_vocab_size: Size = 200058
    hidden_size: Size = 4608
    num_hidden_layers: Count = 48
    num_attention_heads: Size = 48
    num_key_value_heads: Size = 8
    head_dim: Size = 128
    swa_num_attention_heads: Size = 48
    swa_num_key_value_heads: Size = 8
    swa_head_dim: Size = 128
    sliding_window_size: Size = 1024
    d_rel: Size = 16
    rel_extent: Size = 1024
    log_scaling_n_floor: Size = 128000
    log_scaling_alpha: float = 0.1
    layer_types: list[str] | None = None
    max_position_embeddings: Size = 1048576
    rms_norm_eps: float = 1e-6
    conv_kernel_size: Size = 4
    hidden_act: Literal["silu"] = "silu"
    moe_intermediate_size: Size = 2304
    n_routed_experts: Copies = 384
    num_experts_per_tok: Size = 8
    route_scale: float = 8.0
    attention_dropout: float = 0.0
    qk_l2_clip_threshold: float = 22.627416997969522
    rel_l2_clip_threshold: float = 8.0
    n_layers_per_attn_res_block: Size = 6
    mlp_gate_softcap: float = 4.0
    mlp_up_softcap: float = 25.0
    final_logit_softcapping: float = 30.0
    scoring_func: str = "sigmoid"
    output_router_logits: bool = False
    tie_word_embeddings: Literal[False] = False
    initializer_range: float = 0.02
    eos_token_id: int | list[int] | None = 200006

    def check(self) -> None:
        if len(self.kinds) != self.num_hidden_layers or set(self.kinds) - {GLOBAL, LOCAL}:
            raise UnsupportedConfig(f"layer_types must hold {GLOBAL} or {LOCAL} for each layer, not {self.kinds}.")
        if self.num_experts_per_tok > self.n_routed_experts:
            raise UnsupportedConfig(
                f"num_experts_per_tok = {self.num_experts_per_tok} is more than n_routed_experts = "
                f"{self.n_routed_experts}."
            )
        for name in ("mlp_gate_softcap", "mlp_up_softcap", "final_logit_softcapping"):
            if getattr(self, name) <= 0:
                raise UnsupportedConfig(f"{name} must be above 0, not {getattr(self, name)}.")

    @property
    def kinds(self) -> list[str]:
        """Kind of each layer's attention: over the whole text, or over a window."""
        usual = [LOCAL if (i + 1) % 6 else GLOBAL for i in range(self.num_hidden_layers)]
        return usual if self.layer_types is None else self.layer_types


def norm(config: Inkling2TextConfig) -> WideRMSNorm:
    return WideRMSNorm(config.hidden_size, config.rms_norm_eps)


def attention(config: Inkling2TextConfig, local: bool) -> BoundedProfileAttention:
    prefix, kernel, wide = "swa_" if local else "", config.conv_kernel_size, config.hidden_size
    heads, key_heads, head = (
        getattr(config, prefix + name) for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    channels = key_heads * head
    dynamic = partial(DynamicConvolution, channels, wide, key_heads, kernel, (2 * kernel + 1) ** -0.5)
    return BoundedProfileAttention(
        wide,
        heads,
        key_heads=key_heads,
        head_width=head,
        window=config.sliding_window_size if local else None,
        dropout=config.attention_dropout,
        convolution=(lambda: convolution(config, channels)) if local else dynamic,
        dynamic=not local,
        profiles=config.d_rel,
        extent=config.sliding_window_size if local else config.rel_extent,
        log_scale=None if local else LogScale(config.log_scaling_alpha, config.log_scaling_n_floor),
        bound=config.qk_l2_clip_threshold,
        profile_bound=config.rel_l2_clip_threshold,
        norm_eps=config.rms_norm_eps,
    )


def convolution(config: Inkling2TextConfig, channels: int) -> ResidualConvolution:
    return ResidualConvolution(channels, config.conv_kernel_size, (config.conv_kernel_size + 1) ** -0.5)


def experts(config: Inkling2TextConfig) -> RoutedExperts:
    wide, count = config.hidden_size, config.n_routed_experts
    sizes = wide, config.moe_intermediate_size, config.mlp_gate_softcap, config.mlp_up_softcap
    each = ExpertList([SoftcappedFeedForward(*sizes) for _ in range(count)])
    rule = ActivatedTopK(count, config.num_experts_per_tok, config.scoring_func, scale=config.route_scale)
    return RoutedExperts(wide, each, count, rule, wide=True, exact=True)


def build(config: Inkling2TextConfig) -> MixedStateStack:
    wide = config.hidden_size

    def layer(i: int) -> MixedStateLayer:
        local = config.kinds[i] == LOCAL
        reads = 1 if local else 3
        return MixedStateLayer(
            ConvolvedMixer(attention(config, local), convolution(config, wide)),
            ConvolvedFeedForward(experts(config), convolution(config, wide)),
            read=StateMix(wide, reads) if i else None,
            norms=[norm(config) for _ in range(reads)],
            ffn_read=StateMix(wide),
            ffn_norm=norm(config),
            begins=i % config.n_layers_per_attn_res_block == 0,
        )

    words = FirstState(NormedEmbedding(config.vocab_size, wide, norm(config)))
    layers = [layer(i) for i in range(config.num_hidden_layers)]
    return MixedStateStack(words, layers, LastMix(StateMix(wide), norm(config)))


def keys(config: Inkling2TextConfig) -> KeyMap:
    mixer, ffn, kernel = "layers.*.attention.step", "layers.*.ffn.step", config.conv_kernel_size
    theirs, several = "layers.*.self_attn", "layers.*.mlp.experts"
    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "mix": "r_proj", "out": "o_proj", "gate": "gate_proj"}
    names |= {"sink": "sink_proj", "profiles": "rel_logits_proj.proj"}
    names |= {"q_norm.weight": "q_l2_clip.scale", "mix_bound.weight": "rel_l2_clip.scale"}
    both: Rows = {
        f"{mixer}.{n}_convolution.{ours}": f"{theirs}.{n}_sconv.{stored}"
        for n in ("k", "v")
        for ours, stored in {"static": "static_weight", "dynamic": "weight_proj"}.items()
    }
    rows: dict[str, str | Source] = {
        "embed.token": "embed_tokens",
        "embed.token.norm": "embed_tokens.embed_norm",
        **{f"{mixer}.{ours}": f"{theirs}.{name}" for ours, name in names.items()},
        **both,
        **{f"{mixer}.{n}_convolution.weight": convolution_row(f"{theirs}.{n}_sconv", kernel) for n in ("k", "v")},
        "layers.*.attention.convolution.weight": convolution_row("layers.*.post_attention_convolution", kernel),
        "layers.*.ffn.convolution.weight": convolution_row("layers.*.post_mlp_convolution", kernel),
        "layers.*.read.query": "layers.*.attention_input.query",
        "layers.*.ffn_read.query": "layers.*.mlp_input.query",
        "layers.*.norms.*": NormOfReader("layers.*.", tuple(kind == LOCAL for kind in config.kinds)),
        "layers.*.ffn_norm": "layers.*.post_attention_layernorm",
        **{f"{ffn}.experts.*.{part}": f"{several}.*.{part}_proj" for part in PARTS},
        f"{ffn}.router": "layers.*.mlp.gate",
        f"{ffn}.rule.correction": "layers.*.mlp.gate.e_score_correction_bias",
        "norm.mix.query": "final_input.query",
        "norm.norm": "norm",
    }
    joined = (
        (r"\.experts\.(?P<expert>\d+)\.(gate|up)_proj\.weight$", ".experts.gate_up_proj"),
        (r"\.experts\.(?P<expert>\d+)\.down_proj\.weight$", ".experts.down_proj"),
    )
    return KeyMap(rows, "model.", joined=joined)


@dataclass(frozen=True)
class NormOfReader(Source):
    """A norm of what the attention reads, whose name says of what where there are three.

    Args:
        single: whether each layer has one alone.
    """

    single: tuple[bool, ...]

    def numbered(self, numbers: Sequence[int]) -> Source:
        layer, part = numbers
        names = ("",) if self.single[layer] else ("q_", "k_", "v_")
        return Source(f"{self.key}{names[part]}input_layernorm")


RENAMED = (  # (pattern, replacement): the authors' names of tensors to those of the reference's modules, in turn
    (r"^model\.llm\.unembed\.", "lm_head."),
    (r"^model\.llm\.", "model."),
    (r"(^|\.)embed_norm\.", r"\1embed_tokens.embed_norm."),
    (r"embed_tokens\.embed_tokens\.", "embed_tokens."),
    (r"(^|\.)embed\.", r"\1embed_tokens."),
    (r"\.mlp\.gate\.bias$", ".mlp.gate.e_score_correction_bias"),
    (r"\.experts\.w2_weight$", ".experts.down_proj"),
    (r"\.attn\.w([qkvr])_d[uv]\.", r".self_attn.\1_proj."),
    (r"\.attn\.wo_ud\.", ".self_attn.o_proj."),
    (r"\.attn\.gate_attn\.", ".self_attn.gate_proj."),
    (r"\.attn\.attn_sink_proj\.", ".self_attn.sink_proj."),
    (r"\.attn\.", ".self_attn."),
    (r"\.attn_sconv\.", ".post_attention_convolution."),
    (r"\.mlp_sconv\.", ".post_mlp_convolution."),
    (r"(convolution|sconv)\.weight$", r"\1.conv1d.weight"),
    (r"sconv\.static_w$", "sconv.static_weight"),
    (r"sconv\.weight_proj$", "sconv.weight_proj.weight"),
    (r"\.attn_norm\.", ".input_layernorm."),
    (r"\.mlp_norm\.", ".post_attention_layernorm."),
    (r"\.([qkv])_input_norm\.", r".\1_input_layernorm."),
    (r"attn_res\.mlp_queries\.(\d+)$", r"layers.\1.mlp_input.query"),
    (r"attn_res\.output_query$", "final_input.query"),
)


def view(config: Inkling2TextConfig, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors under the names of the reference's modules; the authors keep gates and ups row by row in turns."""
    parts = []
    for old in stored:
        name = old
        for pattern, new in RENAMED:
            name = re.sub(pattern, new, name)
        # the first layer reads no mix, and the authors count the others from 0
        name = re.sub(
            r"attn_res\.attn_queries\.(\d+)$", lambda found: f"layers.{int(found[1]) + 1}.attention_input.query", name
        )
        woven = name.endswith(".experts.w13_weight")
        name = name.replace(".experts.w13_weight", ".experts.gate_up_proj")
        parts.append((name, old, unwoven if woven else None))
    return SelectedTensors(stored, parts)


def unwoven(stack: Tensor) -> Tensor:
    """Return a stack (experts, 2 inner, width) with all gates before all ups."""
    return stack.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)


def generate(config: Inkling2TextConfig, backbone: nn.Module) -> Head:
    table, kept = Linear(config.hidden_size, config.vocab_size, bias=False), config.unpadded_vocab_size
    model = CutLanguageModel(table, min(kept, config.vocab_size), softcap=config.final_logit_softcapping)
    return Head(model, {"table": "/lm_head"})


ARCHITECTURE = replace(
    llama.ARCHITECTURE.derive(
        "Inkling2Text", Inkling2TextConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": generate}
    ),
    view_tensors=view,
)
