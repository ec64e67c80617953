"""Phi-3 and Phi-4 (Abdin et al., 2024, arXiv:2404.14219): Llama with fused matrices and a factor a rotary channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part
from ..config import Size
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class Phi3Config(llama.LlamaConfig):
    model_type = "phi3"
    rotary_factor: ClassVar[float | None] = 1.0

    vocab_size: Size = 32064
    hidden_size: Size = 3072
    intermediate_size: Size = 8192
    max_position_embeddings: Size = 4096
    original_max_position_embeddings: Size | None = 4096
    rms_norm_eps: float = 1e-5
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    sliding_window: Size | None = None
    pad_token_id: int | None = 32000
    eos_token_id: int | list[int] | None = 32000

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the factors for each frequency under their older names `su` and `yarn`, as the reference does."""
        entries = super().normalized(entries)
        rope = entries["rope_parameters"]
        if rope["rope_type"] in ("su", "yarn") and "long_factor" in rope:
            entries["rope_parameters"] = {**rope, "rope_type": "longrope"}
        return entries


def build(config: Phi3Config) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, window=config.sliding_window)
        return llama.layer(config, attention, llama.feed_forward(config), dropout=config.resid_pdrop)

    return llama.decoder(config, layer)


def keys(config: Phi3Config) -> KeyMap:
    key_heads = config.num_key_value_heads or config.num_attention_heads
    sizes = tuple(heads * config.head_width for heads in (config.num_attention_heads, key_heads, key_heads))
    fused = {
        f"layers.*.attention.step.{name}": Part("layers.*.self_attn.qkv_proj", sizes, i)
        for i, name in enumerate(("q", "k", "v"))
    }
    halves = (config.intermediate_size,) * 2
    gated = {
        f"layers.*.ffn.step.{name}": Part("layers.*.mlp.gate_up_proj", halves, i)
        for i, name in enumerate(("gate", "up"))
    }
    return llama.keys(config, {**fused, **gated})


def gguf_keys(config: Phi3Config) -> KeyMap:
    names = {"layers.*.self_attn.qkv_proj": "blk.*.attn_qkv", "layers.*.mlp.gate_up_proj": "blk.*.ffn_up"}
    fused = {ours: replace(row, key=names[row.key]) for ours, row in keys(config).rows.items() if isinstance(row, Part)}
    return gguf.llama_keys(config, fused)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file; only the first channels are rotated where it names their number."""
    found = gguf.entries(metadata, (*llama.GGUF_NAMES, "sliding_window"))
    width = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
    turned = metadata.get("phi3.rope.dimension_count")
    return {**found, **({} if turned in (None, width) else {"partial_rotary_factor": turned / width})}


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="Phi3",
    config=Phi3Config,
    build=build,
    keys=keys,
    heads={end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
