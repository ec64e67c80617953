"""Decoders that read in both directions, as encoders of sentences do: `is_causal` is false in their files."""

from __future__ import annotations

from typing import Any

from ...config import Config
from ...errors import UnsupportedConfig
from ...nn.attention.attention import Attention
from ...nn.experts import parts_without_experts


def read_both_ways(config: Config, backbone: Any) -> None:
    """Let all tokens of a decoder see each other, where its config has `is_causal` false.

    Raises:
        UnsupportedConfig: a layer is no full attention, so it has an order or a window.
    """
    if vars(config)["extra"].get("is_causal", True) or not getattr(backbone, "causal", False):
        return  # encoders see all tokens in any case
    for layer in getattr(backbone, "layers", [None]):
        parts = [part for part in parts_without_experts(layer) if hasattr(part, "causal")] if layer is not None else []
        if [type(part) for part in parts] != [Attention] or parts[0].window is not None:
            raise UnsupportedConfig(
                f"{type(config).__name__}.is_causal is false, which is computed only for decoders whose layers are "
                "full attention."
            )
        parts[0].causal = False
