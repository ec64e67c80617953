"""Inkling (Thinking Machines Lab, 2026, model card of Inkling): learned biases by distance and short convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Slice, SlicePart, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import CutLanguageModel, Head
from ..nn.attention.distance_profiles import LogScale, ProfiledAttention
from ..nn.experts import ExpertList
from ..nn.joint_experts import JointExperts, JointTopK, ScaledFeedForward
from ..nn.layer import Residual
from ..nn.norms import RMSNorm
from ..nn.residual_convolution import ConvolvedFeedForward, ConvolvedMixer, ResidualConvolution, TwoMixerLayer
from ..nn.stack import Stack
from ..nn.weights import Linear, NormedEmbedding
from . import llama
from .common.experts import PARTS, gated

GLOBAL, LOCAL = "hybrid", "hybrid_sliding"
DENSE, SPARSE = "dense", "sparse"


@dataclass(kw_only=True)
class InklingTextConfig(Config):
    model_type = "inkling_text"
    inert: ClassVar[tuple[str, ...]] = (
        *("rms_norm_eps_moe_gate", "number_of_conv_states", "num_mtp_layers"),
        *("chain_hidden_post_norm", "mtp_hidden_states_first", "mtp_local_layer_ids"),
    )
    aliases: ClassVar = {
        "embedding_multiplier": "logits_mup_width_multiplier",
        "sliding_window": "sliding_window_size",
        "num_local_experts": "n_routed_experts",
        "sconv_kernel_size": "conv_kernel_size",
        "model_max_length": "max_position_embeddings",
    }

    vocab_size: Size = 201024
    unpadded_vocab_size: Size | None = None
    hidden_size: Size = 6144
    num_hidden_layers: Count = 66
    num_attention_heads: Size = 64
    num_key_value_heads: Size = 8
    head_dim: Size = 128
    swa_num_attention_heads: Size = 64
    swa_num_key_value_heads: Size = 16
    swa_head_dim: Size = 128
    sliding_window_size: Size = 512
    d_rel: Size = 16
    rel_extent: Size = 1024
    log_scaling_n_floor: Size | None = None
    log_scaling_alpha: float = 0.1
    local_layer_ids: list[int] | None = None
    layer_types: list[str] | None = None
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-6
    conv_kernel_size: Size = 4
    mlp_layer_types: list[str] | None = None
    intermediate_size: Size = 24576
    hidden_act: str = "silu"
    moe_intermediate_size: Size = 3072
    n_routed_experts: Size = 256
    num_experts_per_tok: Size = 6
    n_shared_experts: Size = 2
    route_scale: float = 8.0
    shared_expert_sink: Literal[True] = True
    logits_mup_width_multiplier: float = 24.0
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    tie_word_embeddings: Literal[False] = False
    # Entries of the authors' files, which have no other value.
    q_bias: Literal[False] = False
    o_bias: Literal[False] = False
    use_embed_norm: Literal[True] = True
    use_sconv: Literal[True] = True
    use_gate_bias: Literal[True] = True
    use_global_scale: Literal[True] = True
    norm_after_topk: Literal[True] = True
    gate_activation: Literal["sigmoid"] = "sigmoid"
    final_logit_softcapping: None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the authors' counts of dense layers, and their names of both kinds' widths."""
        entries = dict(entries)
        dense, wide = entries.pop("dense_mlp_idx", None), entries.pop("dense_intermediate_size", None)
        if entries.get("mlp_layer_types") is None and dense is not None:
            count = entries.get("num_hidden_layers", cls.num_hidden_layers)
            entries["mlp_layer_types"] = [DENSE if i < dense else SPARSE for i in range(count)]
        if wide is not None:
            entries["moe_intermediate_size"] = entries.get("intermediate_size", cls.intermediate_size)
            entries["intermediate_size"] = wide
        return entries

    def check(self) -> None:
        for name, kinds, known in (
            ("layer_types", self.kinds, (GLOBAL, LOCAL)),
            ("mlp_layer_types", self.mixtures, (DENSE, SPARSE)),
        ):
            if len(kinds) != self.num_hidden_layers or set(kinds) - {*known}:
                raise UnsupportedConfig(f"{name} must hold {' or '.join(known)} for each layer, not {kinds}.")
        if self.num_experts_per_tok > self.n_routed_experts:
            raise UnsupportedConfig(
                f"num_experts_per_tok = {self.num_experts_per_tok} is more than n_routed_experts = "
                f"{self.n_routed_experts}."
            )

    @property
    def kinds(self) -> list[str]:
        """Whether each layer's attention sees the whole text or a window."""
        layers = range(self.num_hidden_layers)
        local = [i for i in layers if (i + 1) % 6] if self.local_layer_ids is None else self.local_layer_ids
        return [LOCAL if i in local else GLOBAL for i in layers] if self.layer_types is None else self.layer_types

    @property
    def mixtures(self) -> list[str]:
        """Whether each layer has experts."""
        return [SPARSE] * self.num_hidden_layers if self.mlp_layer_types is None else self.mlp_layer_types


def attention(config: InklingTextConfig, local: bool) -> ProfiledAttention:
    prefix = "swa_" if local else ""
    heads, key_heads, head = (
        getattr(config, prefix + name) for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    scaled = None if local else config.log_scaling_n_floor
    return ProfiledAttention(
        config.hidden_size,
        heads,
        key_heads=key_heads,
        head_width=head,
        scale=1.0 / head,
        window=config.sliding_window_size if local else None,
        q_norm=RMSNorm(head, config.rms_norm_eps),
        k_norm=RMSNorm(head, config.rms_norm_eps),
        dropout=config.attention_dropout,
        convolution=lambda: ResidualConvolution(key_heads * head, config.conv_kernel_size),
        profiles=config.d_rel,
        extent=config.sliding_window_size if local else config.rel_extent,
        log_scale=None if scaled is None else LogScale(config.log_scaling_alpha, scaled),
    )


def feed_forward(config: InklingTextConfig, kind: str) -> nn.Module:
    if kind == DENSE:
        return ScaledFeedForward(config.hidden_size, config.intermediate_size, config.hidden_act)
    routed, shared = (
        ExpertList([gated(config, config.moe_intermediate_size) for _ in range(count)])
        for count in (config.n_routed_experts, config.n_shared_experts)
    )
    rule = JointTopK(config.n_routed_experts, config.num_experts_per_tok, scale=config.route_scale)
    return JointExperts(config.hidden_size, routed, shared, rule)


def build(config: InklingTextConfig) -> Stack:
    def residual(step: nn.Module) -> Residual:
        return Residual(step, before=llama.norm(config))

    def convolution() -> ResidualConvolution:
        return ResidualConvolution(config.hidden_size, config.conv_kernel_size)

    def layer(i: int) -> TwoMixerLayer:
        mixer = ConvolvedMixer(attention(config, config.kinds[i] == LOCAL), convolution())
        ffn = ConvolvedFeedForward(feed_forward(config, config.mixtures[i]), convolution())
        return TwoMixerLayer(residual(mixer), residual(ffn))

    return llama.decoder(
        config, layer, token=NormedEmbedding(config.vocab_size, config.hidden_size, llama.norm(config))
    )


def convolution_row(key: str, kernel: int) -> Shaped:
    return Shaped(f"{key}.conv1d.weight", (-1, kernel), (-1, 1, kernel))


def expert_rows(config: InklingTextConfig, ours: str) -> dict[str, str | Source]:
    """Return the rows of routed and shared experts, which are stored in stacks."""
    count, inner, rows = config.n_routed_experts, config.moe_intermediate_size, dict[str, str | Source]()
    for index, part in enumerate(("gate", "up")):
        stack = SlicePart("layers.*.mlp.experts.gate_up_proj", count, sizes=(inner, inner), index=index)
        rows[f"{ours}.experts.*.{part}.weight"] = stack
    rows[f"{ours}.experts.*.down.weight"] = Slice("layers.*.mlp.experts.down_proj", count)
    for part in PARTS:
        key = f"layers.*.mlp.shared_experts.{part}_proj"
        rows[f"{ours}.shared.*.{part}.weight"] = Slice(key, config.n_shared_experts)
    return {
        **rows,
        f"{ours}.router": "layers.*.mlp.gate",
        f"{ours}.rule.correction": "layers.*.mlp.gate.e_score_correction_bias",
        f"{ours}.rule.strength": "layers.*.mlp.gate.global_scale",
    }


def keys(config: InklingTextConfig) -> KeyMap:
    mixer, ffn, kernel = "layers.*.attention.step.step", "layers.*.ffn.step.step", config.conv_kernel_size
    theirs = "layers.*.self_attn"
    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "mix": "r_proj", "out": "o_proj", "q_norm": "q_norm"}
    names |= {"k_norm": "k_norm", "profiles": "rel_logits_proj.proj"}
    rows: dict[str, str | Source] = {
        "embed.token": "embed_tokens",
        "embed.token.norm": "embed_tokens.embed_norm",
        **{f"{mixer}.{ours}": f"{theirs}.{name}" for ours, name in names.items()},
        **{f"{mixer}.{n}_convolution.weight": convolution_row(f"{theirs}.{n}_sconv", kernel) for n in ("k", "v")},
        "layers.*.attention.step.convolution.weight": convolution_row("layers.*.attn_sconv", kernel),
        "layers.*.ffn.step.convolution.weight": convolution_row("layers.*.mlp_sconv", kernel),
        "layers.*.attention.before": "layers.*.input_layernorm",
        "layers.*.ffn.before": "layers.*.post_attention_layernorm",
        **{f"{ffn}.{part}": f"layers.*.mlp.{part}_proj" for part in PARTS},
        f"{ffn}.strength": "layers.*.mlp.global_scale",
        **expert_rows(config, ffn),
        "norm": "norm",
    }
    return KeyMap(rows, "model.", ignored=(r"^(model\.)?mtp\.",))


def generate(config: InklingTextConfig, backbone: Stack) -> Head:
    table = Linear(config.hidden_size, config.vocab_size, bias=False)
    kept = min(config.unpadded_vocab_size or config.vocab_size, config.vocab_size)
    return Head(CutLanguageModel(table, kept, scale=1.0 / config.logits_mup_width_multiplier), {"table": "/lm_head"})


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "InklingText", InklingTextConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": generate}
)
