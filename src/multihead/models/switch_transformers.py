"""Switch Transformers (Fedus et al., 2021, arXiv:2101.03961): T5 with one of many feed-forwards for each token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Copies, Count, Size
from ..nn.attention.attention import CrossAttention
from ..nn.attention.position_bias import BucketedBias
from ..nn.feedforward import FeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.switch import SwitchCrossLayer, SwitchFeedForward, SwitchLayer
from . import bart, t5
from .common.architecture import Architecture
from .t5 import MODULES, Parts, T5Config


@dataclass(kw_only=True)
class SwitchTransformersConfig(T5Config):
    model_type = "switch_transformers"
    inert = tuple(  # what follows from the numbers of sparse layers, weights of losses, and what nobody computes
        """
        add_router_probs decoder_sparse_step encoder_sparse_step router_aux_loss_coef router_ignore_padding_tokens
        router_z_loss_coef batch_prioritized_routing capacity_factor eval_capacity_factor expert_dropout
        min_expert_capacity moe_hidden_dropout noisy_gate_policy normalize_router_prob_before_dropping
        router_eval_noise router_type
        """.split()
    )

    d_model: Size = 768
    num_layers: Count = 12
    num_decoder_layers: Count | None = 12
    num_heads: Size = 12
    expert_capacity: Size = 64
    num_experts: Copies = 8
    num_sparse_encoder_layers: Count = 3
    num_sparse_decoder_layers: Count = 3
    router_bias: bool = False
    router_jitter_noise: float = 0.01
    router_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    dense_act_fn: str = "relu"
    is_gated_act: Literal[False] = False
    scores_apart: bool | None = None  # whether scores have a table, which then are scaled as tied ones are

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return entries

    @property
    def shares_words(self) -> bool:
        return self.tie_word_embeddings if self.words_apart is None else not self.words_apart

    @property
    def ties_scores(self) -> bool:
        return self.tie_word_embeddings and not self.scores_apart


def feed_forward(config: SwitchTransformersConfig, *, routed: bool) -> Residual:
    def expert() -> FeedForward:
        dropout = config.dropout_rate
        return FeedForward(config.d_model, config.d_ff, config.activation, bias=False, dropout=dropout)

    if not routed:
        return t5.step(config, expert())
    step = SwitchFeedForward(
        config.d_model,
        config.num_experts,
        expert,
        capacity=config.expert_capacity,
        bias=config.router_bias,
        precision=getattr(torch, config.router_dtype),
        jitter=config.router_jitter_noise,
    )
    return t5.step(config, step)


def is_routed(number: int, layers: int, sparse: int) -> bool:
    """True if a layer has routed experts, when about `sparse` of `layers` have."""
    every = layers // sparse if sparse else layers
    return every == 1 or (every > 0 and number % every == 1)


def encoder_layer(config: SwitchTransformersConfig, positions: BucketedBias, number: int) -> Layer:
    routed = is_routed(number, config.num_layers, config.num_sparse_encoder_layers)
    kind = SwitchLayer if routed else Layer
    return kind(t5.attention(config, positions=positions), feed_forward(config, routed=routed))


def decoder_layer(config: SwitchTransformersConfig, positions: BucketedBias, number: int) -> CrossLayer:
    layers = config.num_layers if config.num_decoder_layers is None else config.num_decoder_layers
    routed = is_routed(number, layers, config.num_sparse_decoder_layers)
    own, cross = t5.attention(config, positions=positions, causal=True), t5.attention(config, CrossAttention)
    return (SwitchCrossLayer if routed else CrossLayer)(own, cross, feed_forward(config, routed=routed))


def expert_rows(ours: str, block: str) -> Rows:
    step, mlp = f"{ours}layers.*.ffn.step", f"{block}.mlp"
    names = {"up": "wi", "down": "wo"}
    experts = {f"{step}.experts.*.{our}": f"{mlp}.experts.expert_*.{their}" for our, their in names.items()}
    return {f"{step}.router": f"{mlp}.router.classifier", **experts}


def source_rows(config: Any, ours: str) -> Rows:
    return {**t5.source_rows(config, ours, ffn="mlp"), **expert_rows(ours, "encoder.block.*.layer.1")}


def keys(config: SwitchTransformersConfig) -> KeyMap:
    target = t5.side_rows(config, "decoder.", "decoder.", {**MODULES, "ffn": "mlp"})
    sides = {**source_rows(config, "encoder."), **target, **expert_rows("decoder.", "decoder.block.*.layer.2")}
    table = t5.table_of(config, sides)
    return replace(table, aliases=bart.shared_aliases(config)) if config.shares_words else table


def untied_configs(config: SwitchTransformersConfig) -> Sequence[SwitchTransformersConfig]:
    """Return configs as BART's; `tie_word_embeddings` stays set, since it also means that logits are scaled."""
    if not config.shares_words:
        return (config.changed(scores_apart=True),) if config.ties_scores else ()
    return tuple(config.changed(scores_apart=True, words_apart=apart) for apart in (False, True))


def resolve_config(config: SwitchTransformersConfig, stored: Mapping[str, Tensor]) -> SwitchTransformersConfig:
    """Resolve untied embeddings: both sides still share a table where a file has none for each."""
    if config.tie_word_embeddings or "encoder.embed_tokens.weight" in stored:
        return config
    return t5.RESOLVE_CONFIG(config.changed(words_apart=False), stored)


PARTS = Parts(source=encoder_layer, target=decoder_layer)
ARCHITECTURE: Architecture = replace(
    t5.ARCHITECTURE,
    name="SwitchTransformers",
    config=SwitchTransformersConfig,
    build=partial(t5.build, parts=PARTS),
    keys=keys,
    heads={"Model": None, "EncoderModel": None, "ForConditionalGeneration": t5.generate},
    backbone_variants={
        "EncoderModel": (partial(t5.build_encoder, parts=PARTS), partial(t5.encoder_keys, rows=source_rows))
    },
    untied_configs=untied_configs,
    resolve_config=resolve_config,
)
