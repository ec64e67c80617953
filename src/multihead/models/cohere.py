"""Command R (Cohere, 2024): attention and feed-forward side by side, scaled scores. Cohere 2: windows too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Interleaved
from ..config import Count, Size
from ..heads.heads import Head
from ..nn.layer import ParallelLayer
from ..nn.norms import HeadNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import llama
from .common import gguf
from .common.patterns import SLIDING, every, layer_kinds, rotary_of


@dataclass(kw_only=True)
class CohereConfig(llama.LlamaConfig):
    model_type = "cohere"
    theta: ClassVar[float] = 500000.0

    vocab_size: Size = 256000
    hidden_size: Size = 8192
    intermediate_size: Size = 22528
    num_hidden_layers: Count = 40
    num_attention_heads: Size = 64
    max_position_embeddings: Size = 8192
    layer_norm_eps: float = 1e-5
    logit_scale: float = 0.0625
    use_qk_norm: bool = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 5
    eos_token_id: int | list[int] | None = 255001


@dataclass(kw_only=True)
class Cohere2Config(CohereConfig):
    model_type = "cohere2"
    inert = ("position_embedding_type", "rotary_pct")
    theta: ClassVar[float] = 10000.0

    sliding_window: Size | None = 4096
    sliding_window_pattern: Size = 4
    layer_types: list[str] | None = None


def norm(config: Any) -> nn.Module:
    return LayerNorm(config.hidden_size, config.layer_norm_eps, bias=False)


def layer(config: CohereConfig, positions: Positions | None, window: int | None = None) -> ParallelLayer:
    heads = {"q_norm": config.num_attention_heads, "k_norm": config.num_key_value_heads or config.num_attention_heads}
    norms = {name: HeadNorm(count, config.head_width, config.layer_norm_eps) for name, count in heads.items()}
    attention = llama.attention(
        config, positions or Positions(), window=window, **(norms if config.use_qk_norm else {})
    )
    return ParallelLayer(attention, llama.feed_forward(config), norm(config))


def build(config: CohereConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    return llama.decoder(config, lambda i: layer(config, positions), norm)


def build_mixed(config: Cohere2Config) -> Stack:
    """Build Cohere 2's stack: only sliding-window layers have rotary positions."""
    positions = rotary_of(config, config.head_width)
    kinds = layer_kinds(config, every(config.sliding_window_pattern, config.num_hidden_layers))
    rules = [(positions, config.sliding_window) if kind == SLIDING else (None, None) for kind in kinds]
    return llama.decoder(config, lambda i: layer(config, *rules[i]), norm)


def keys(config: CohereConfig) -> KeyMap:
    plain = llama.keys(config)
    rows: Rows = {ours.replace(".step.", "."): theirs for ours, theirs in plain.rows.items() if "before" not in ours}
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads or config.num_attention_heads}
    turned = {f"layers.*.attention.{n}": Interleaved(f"layers.*.self_attn.{n}_proj", c) for n, c in heads.items()}
    norms = {f"layers.*.attention.{n}_norm": Interleaved(f"layers.*.self_attn.{n}_norm", 1, axis=1) for n in heads}
    return replace(plain, rows={**rows, **turned, **norms, "layers.*.norm": "layers.*.input_layernorm"})


def gguf_keys(config: CohereConfig) -> KeyMap:
    """Return the key map of llama.cpp's names, with the rotary pairs side by side as in Cohere's own files."""
    plain = gguf.llama_keys(config, turned=True)
    rows: Rows = {ours.replace(".step.", "."): theirs for ours, theirs in plain.rows.items() if "before" not in ours}
    norms = {f"layers.*.attention.{n}_norm": Interleaved(f"blk.*.attn_{n}_norm", 1, axis=1) for n in "qk"}
    return replace(plain, rows={**rows, **norms, "layers.*.norm": "blk.*.attn_norm"})


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file. As in llama.cpp, the number of layers tells who norms queries and keys."""
    own = gguf.entries(metadata, (*llama.GGUF_NAMES, "layer_norm_eps", "sliding_window"))
    normed = {"use_qk_norm": own["num_hidden_layers"] >= 64} if metadata["general.architecture"] == "command-r" else {}
    return {**own, **gguf.named(metadata, logit_scale="logit_scale"), **normed}


def generate(config: CohereConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, scale=config.logit_scale)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Cohere",
    CohereConfig,
    build,
    keys=keys,
    heads={"Model": None, "ForCausalLM": generate},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
COHERE2 = replace(ARCHITECTURE, name="Cohere2", config=Cohere2Config, build=build_mixed)
