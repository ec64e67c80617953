"""mT5 (Xue et al., 2020, arXiv:2010.11934) and UMT5 (Chung et al., 2023, arXiv:2304.09151): T5 of many languages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from ..config import Count, Size
from ..nn.attention.position_bias import BucketedBias
from . import t5
from .t5 import Parts, T5Config, distances


@dataclass(kw_only=True)
class MT5Config(T5Config):
    model_type = "mt5"

    vocab_size: Size = 250112
    d_ff: Size = 1024
    num_layers: Count = 8
    num_heads: Size = 6
    feed_forward_proj: str = "gated-gelu"
    scale_decoder_outputs: Literal[False] = False
    decoder_start_token_id: int | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return entries


@dataclass(kw_only=True)
class UMT5Config(MT5Config):
    model_type = "umt5"
    inert = ("scalable_attention",)

    scale_decoder_outputs: Literal[True] = True  # type: ignore[assignment]  # the reference scales, tied or not


def table_a_layer(config: T5Config, count: int, *, causal: bool) -> list[BucketedBias]:
    """Return a position bias table for each layer, as UMT5 has."""
    return [distances(config, causal=causal) for _ in range(count)]


ARCHITECTURE = replace(t5.ARCHITECTURE, name="MT5", config=MT5Config)
OWN_TABLES = Parts(biases=table_a_layer)
UMT5 = replace(
    ARCHITECTURE,
    name="UMT5",
    config=UMT5Config,
    build=partial(t5.build, parts=OWN_TABLES),
    backbone_variants=dict.fromkeys(
        ARCHITECTURE.backbone_variants, (partial(t5.build_encoder, parts=OWN_TABLES), t5.encoder_keys)
    ),
)
