"""LongT5 (Guo et al., 2021, arXiv:2112.07916): T5 whose encoder looks near, or also at sums of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Size
from ..nn.attention.local import LocalAttention, TransientGlobalAttention
from ..nn.attention.position_bias import BucketedBias
from ..nn.layer import Layer, Residual
from ..nn.norms import RMSNorm
from ..nn.stack import EncoderDecoder, Stack
from . import t5
from .common.architecture import Architecture
from .t5 import MODULES, Parts, T5Config


@dataclass(kw_only=True)
class LongT5Config(T5Config):
    model_type = "longt5"

    local_radius: Size = 127
    global_block_size: Size = 16
    encoder_attention_type: Literal["local", "transient-global"] = "local"

    @property
    def module(self) -> str:
        """Name of the encoder's attention in files."""
        return {"local": "LocalSelfAttention", "transient-global": "TransientGlobalSelfAttention"}[
            self.encoder_attention_type
        ]


def near(config: LongT5Config, positions: BucketedBias) -> Residual:
    return t5.attention(config, LocalAttention, positions=positions, window=config.local_radius + 1)


def near_and_sums(config: LongT5Config, positions: BucketedBias, sums: BucketedBias) -> Residual:
    norm, window = RMSNorm(config.d_model, config.layer_norm_epsilon), config.local_radius + 1
    more: dict[str, Any] = {"block": config.global_block_size, "sums": sums, "norm": norm}
    return t5.attention(config, TransientGlobalAttention, positions=positions, window=window, **more)


def parts(config: LongT5Config) -> Parts:
    if config.encoder_attention_type == "local":
        return Parts(source=lambda config, p, i: Layer(near(config, p), t5.feed_forward(config)))
    sums = t5.distances(config, causal=False)
    return Parts(source=lambda config, p, i: Layer(near_and_sums(config, p, sums), t5.feed_forward(config)))


def build(config: LongT5Config) -> EncoderDecoder:
    return t5.build(config, parts(config))


def build_encoder(config: LongT5Config) -> Stack:
    return t5.build_encoder(config, parts(config))


def source_rows(config: LongT5Config, ours: str) -> Rows:
    step, block = f"{ours}layers.*.attention.step", f"encoder.block.*.layer.0.{config.module}"
    more = {
        f"{step}.norm": f"{block}.global_input_layer_norm",
        f"{step}.sums.table": f"{block}.global_relative_attention_bias",
    }
    return {**t5.source_rows(config, ours, attention=config.module), **more}


def keys(config: LongT5Config) -> KeyMap:
    sides = {**source_rows(config, "encoder."), **t5.side_rows(config, "decoder.", "decoder.", MODULES)}
    return t5.table_of(config, sides)


ARCHITECTURE = Architecture(
    "LongT5",
    LongT5Config,
    build,
    keys,
    heads={"Model": None, "EncoderModel": None, "ForConditionalGeneration": t5.generate},
    backbone_variants={"EncoderModel": (build_encoder, partial(t5.encoder_keys, rows=source_rows))},
    untied_configs=t5.untied_configs,
    resolve_config=t5.RESOLVE_CONFIG,
    reads_positions=False,
)
