"""IQuest-Coder-V1 (IQuest Lab, 2026): Llama under another name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import Count, Size
from . import llama


@dataclass(kw_only=True)
class IQuestCoderConfig(llama.LlamaConfig):
    model_type = "iquestcoder"
    inert = ("sliding_window", "max_window_layers")  # of a window that no checkpoint uses

    vocab_size: Size = 76800
    hidden_size: Size = 5120
    intermediate_size: Size = 27648
    num_hidden_layers: Count = 80
    num_attention_heads: Size = 40
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    clip_qkv: Literal[None] = None
    use_sliding_window: Literal[False] = False


ARCHITECTURE = llama.ARCHITECTURE.derive("IQuestCoder", IQuestCoderConfig, llama.build)
