"""NLLB-MoE (NLLB Team, 2022, arXiv:2207.04672): M2M-100 with two of many feed-forwards a token in some layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.experts import DroppedExperts, RoutedExperts, softmax_top_k
from ..nn.feedforward import FeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import LayerNorm
from . import bart
from .bart import family, generate_plain
from .m2m_100 import STYLE, M2M100Config

CHOSEN = 2  # experts of a token


@dataclass(kw_only=True)
class NllbMoeConfig(M2M100Config):
    model_type = "nllb-moe"
    inert: ClassVar[tuple[str, ...]] = (  # of training and of experts that are full, which they never are here
        *("expert_capacity", "batch_prioritized_routing", "normalize_router_prob_before_dropping"),
        *("router_ignore_padding_tokens", "router_z_loss_coef", "router_aux_loss_coef"),
    )

    router_bias: bool = False
    router_dtype: Literal["float32"] = "float32"
    num_experts: Copies = 128
    encoder_sparse_step: Count = 4
    decoder_sparse_step: Count = 4
    second_expert_policy: Literal["all"] = "all"
    moe_eval_capacity_token_fraction: float = 1.0
    moe_token_dropout: float = 0.2
    output_router_logits: Literal[False] = False

    def check(self) -> None:
        super().check()
        if self.num_experts < CHOSEN:
            raise UnsupportedConfig(f"num_experts = {self.num_experts} must be at least {CHOSEN}, which a token has.")
        if not self.moe_eval_capacity_token_fraction >= 1.0:
            raise UnsupportedConfig(
                f"moe_eval_capacity_token_fraction = {self.moe_eval_capacity_token_fraction} lets experts leave out "
                "tokens by what else is in the batch; 1.0 or more is computed here."
            )


def feed_forward(config: NllbMoeConfig, inner: int, number: int, every: int) -> Residual:
    """Build the feed-forward of a layer, counted from 0: `every` such layer has experts."""

    def one() -> FeedForward:
        return FeedForward(config.d_model, inner, config.activation_function, dropout=config.activation_dropout)

    step: nn.Module = one()
    if every and (number + 1) % every == 0:
        each = DroppedExperts([one() for _ in range(config.num_experts)], config.moe_token_dropout)
        rule = softmax_top_k(CHOSEN, normalized=True)
        step = RoutedExperts(config.d_model, each, config.num_experts, rule, bias=config.router_bias, wide=True)
    norm = LayerNorm(config.d_model, config.norm_eps)
    return Residual(step, before=norm, dropout=config.activation_dropout)


def encoder(config: NllbMoeConfig, token: nn.Embedding) -> Stack:
    def layer(number: int) -> Layer:
        own = Attention(config.d_model, config.encoder_attention_heads, dropout=config.attention_dropout)
        ffn = feed_forward(config, config.encoder_ffn_dim, number, config.encoder_sparse_step)
        return Layer(STYLE.step(config, own), ffn)

    layers = [layer(number) for number in range(config.encoder_layers)]
    embed = STYLE.embeddings(config, token, None, STYLE.source_scale)
    return Stack(embed, layers, STYLE.last(config), drop=config.encoder_layerdrop)


def decoder(config: NllbMoeConfig, token: nn.Embedding) -> Stack:
    def layer(number: int) -> CrossLayer:
        sizes: Any = (config.d_model, config.decoder_attention_heads)
        cross = CrossAttention(*sizes, dropout=config.attention_dropout)
        ffn = feed_forward(config, config.decoder_ffn_dim, number, config.decoder_sparse_step)
        return CrossLayer(STYLE.step(config, bart.self_attention(config)), STYLE.step(config, cross), ffn)

    layers = [layer(number) for number in range(config.decoder_layers)]
    embed = STYLE.embeddings(config, token, None, STYLE.target_scale)
    return Stack(embed, layers, STYLE.last(config), drop=config.decoder_layerdrop)


def build(config: NllbMoeConfig) -> EncoderDecoder:
    source = STYLE.words(config, config.vocab_size, STYLE.source_scale)
    target = source if config.shares_words else STYLE.words(config, config.vocab_size, STYLE.target_scale)
    return EncoderDecoder(encoder(config, source), decoder(config, target))


def keys(config: NllbMoeConfig) -> KeyMap:
    """Return M2M-100's table, with the names of cross-attention, feed-forwards and experts."""
    table, rows = bart.keys(config, STYLE), {}
    names = {"fc1": "ffn.fc1", "fc2": "ffn.fc2", "final_layer_norm": "ff_layer_norm", "encoder_attn": "cross_attention"}
    for ours, theirs in table.rows.items():
        name = str(theirs)
        for old, new in names.items():
            name = name.replace(f".*.{old}", f".*.{new}")
        rows[ours] = name
    for side in ("encoder", "decoder"):
        ffn = f"{side}.layers.*.ffn"
        rows[f"{ffn}.step.router"] = f"{ffn}.router.classifier"
        for ours, theirs in (("up", "fc1"), ("down", "fc2")):
            rows[f"{ffn}.step.experts.*.{ours}"] = f"{ffn}.experts.expert_*.{theirs}"
    return replace(table, rows=rows)


ARCHITECTURE = replace(
    family("NllbMoe", NllbMoeConfig, STYLE, {"Model": None, "ForConditionalGeneration": generate_plain}),
    build=build,
    keys=keys,
    head_types={},
    backbone_variants={},
)
