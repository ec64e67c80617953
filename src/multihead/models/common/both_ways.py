"""Decoders that read in both directions, as encoders of sentences do.

Their files say so by `is_causal`, or by the name of the class whose code comes with them: LLM2Vec's
`modeling_llama_encoder.LlamaEncoderModel`, or `Qwen2BidirectionalModel`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...config import Config
from ...errors import UnsupportedConfig
from ...nn.attention.attention import Attention
from ...nn.experts import parts_without_experts

CLASSES = re.compile(r"bidirec|bi_?dir(?![a-z])|non_?causal|_encoder\.|EncoderModel$", re.IGNORECASE)


def sees_later_words(config: Any) -> str:
    """Return what in a decoder's file says that tokens see later ones; empty where nothing does."""
    extra: Mapping[str, Any] = vars(config).get("extra", {})
    if "is_causal" in extra:
        return "" if extra["is_causal"] else "is_causal is false"
    classes = extra.get("auto_map")
    for auto, name in classes.items() if isinstance(classes, Mapping) else ():
        if str(auto).startswith("AutoModel") and CLASSES.search(str(name)):
            return f"auto_map names {name}, which reads in both directions"
    return ""


def read_both_ways(config: Config, backbone: Any) -> None:
    """Let all tokens of a decoder see each other, where its file says so.

    Raises:
        UnsupportedConfig: a layer is no full attention, so it has an order or a window.
    """
    said = sees_later_words(config)
    if not said or not getattr(backbone, "causal", False):
        return  # encoders see all tokens in any case
    for layer in getattr(backbone, "layers", [None]):
        parts = [part for part in parts_without_experts(layer) if hasattr(part, "causal")] if layer is not None else []
        if [type(part) for part in parts] != [Attention] or parts[0].window is not None:
            raise UnsupportedConfig(
                f"{type(config).__name__}: {said}, which is computed only for decoders whose layers are full attention."
            )
        parts[0].causal = False
