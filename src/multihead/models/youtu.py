"""Youtu-LLM (Tencent, 2025): DeepSeek-V3's latent attention in a dense Llama."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Interleaved, PerHead, Source
from ..config import Count, Size
from ..nn.stack import Stack
from . import llama
from .common.patterns import rotary_of
from .deepseek import attention, check_head_dim, score_scale


@dataclass(kw_only=True)
class YoutuConfig(llama.LlamaConfig):
    model_type = "youtu"
    inert: ClassVar[tuple[str, ...]] = ("rope_interleaved",)

    vocab_size: Size = 128256
    hidden_size: Size = 2048
    intermediate_size: Size = 6144
    num_attention_heads: Size = 16
    num_key_value_heads: Size | None = 16
    max_position_embeddings: Size = 131072
    kv_lora_rank: Size = 512
    q_lora_rank: Size | None = 1536
    qk_nope_head_dim: Size = 128
    qk_rope_head_dim: Size = 64
    v_head_dim: Size = 128
    qk_head_dim: Size | None = None  # follows from its parts
    rope_interleave: bool = True
    embedding_initializer_range: float | None = None  # of new weights
    initializer_range: float | None = None  # type: ignore[assignment]
    num_hidden_layers: Count = 32
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001

    def check(self) -> None:
        super().check()
        check_head_dim(self)
        if self.initializer_range is None:
            self.initializer_range = 2.0 / (5.0 * self.hidden_size) ** 0.5


def build(config: YoutuConfig) -> Stack:
    positions, scale = rotary_of(config, config.qk_rope_head_dim), score_scale(config)
    return llama.decoder(
        config, lambda i: llama.layer(config, attention(config, positions, scale), llama.feed_forward(config))
    )


def keys(config: Any) -> KeyMap:
    """Return the key map; rotated channels end a head's queries and the latent matrix, side by side where said."""
    ours, theirs, heads = "layers.*.attention.step", "layers.*.self_attn", config.num_attention_heads
    plain, turned, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank

    def sided(key: str, count: int, first: int) -> Source:
        return Interleaved(key, count, rotated=turned, first=first) if config.rope_interleave else Source(key)

    whole = config.q_lora_rank is None
    rows: dict[str, str | Source] = {
        f"{ours}.q" if whole else f"{ours}.q.up": sided(f"{theirs}.q_{'' if whole else 'b_'}proj", heads, plain),
        f"{ours}.q.down": f"{theirs}.q_a_proj",
        f"{ours}.q.norm": f"{theirs}.q_a_layernorm",
        f"{ours}.latent": sided(f"{theirs}.kv_a_proj_with_mqa", 1, rank),
        f"{ours}.latent_norm": f"{theirs}.kv_a_layernorm",
        f"{ours}.k": PerHead(f"{theirs}.kv_b_proj", heads, (plain, config.v_head_dim), 0),
        f"{ours}.v": PerHead(f"{theirs}.kv_b_proj", heads, (plain, config.v_head_dim), 1),
    }
    return llama.keys(config, rows)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive("Youtu", YoutuConfig, build, keys=keys, heads=HEADS)
