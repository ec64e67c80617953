"""StableLM (Bellagente et al., 2024, arXiv:2402.17834): layer norms, rotary positions on a quarter of each head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Stacked
from ..config import Count, Size
from ..nn.layer import ParallelLayer
from ..nn.norms import HeadNorm
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class StableLmConfig(llama.LlamaConfig):
    model_type = "stablelm"
    inert = ("rotary_scaling_factor",)
    rotary_factor: ClassVar[float | None] = 0.25

    vocab_size: Size = 50304
    hidden_size: Size = 2560
    intermediate_size: Size = 6912
    num_hidden_layers: Count = 32
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 4096
    layer_norm_eps: float = 1e-5
    use_qkv_bias: bool = False
    qk_layernorm: bool = False
    use_parallel_residual: bool = False
    hidden_dropout: float = 0.0
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0


def norm(config: Any) -> nn.Module:
    return LayerNorm(config.hidden_size, config.layer_norm_eps)


def build(config: StableLmConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    key_heads = config.num_key_value_heads or config.num_attention_heads

    def layer(i: int) -> nn.Module:
        heads = {"q_norm": config.num_attention_heads, "k_norm": key_heads} if config.qk_layernorm else {}
        norms = {name: HeadNorm(count, config.head_width, config.layer_norm_eps) for name, count in heads.items()}
        attention = llama.attention(config, positions, bias=config.use_qkv_bias, out_bias=False, **norms)
        ffn = llama.feed_forward(config)
        if config.use_parallel_residual:
            return ParallelLayer(attention, ffn, norm(config))
        return llama.layer(config, attention, ffn, norm)

    return llama.decoder(config, layer, norm)


def keys(config: StableLmConfig) -> KeyMap:
    key_heads = config.num_key_value_heads or config.num_attention_heads
    heads = {"q": config.num_attention_heads, "k": key_heads}
    norms = {
        f"layers.*.attention.step.{name}_norm": Stacked(f"layers.*.self_attn.{name}_layernorm.norms.#", count)
        for name, count in heads.items()
    }
    return with_one_norm(config, llama.keys(config, norms), "layers.*.input_layernorm")


def with_one_norm(config: StableLmConfig, plain: KeyMap, norm: str) -> KeyMap:
    """Return the key map of parallel layers, which have this norm alone, or of the usual ones."""
    if not config.use_parallel_residual:
        return plain
    rows = {ours.replace(".step.", "."): theirs for ours, theirs in plain.rows.items() if "before" not in ours}
    return replace(plain, rows={**rows, "layers.*.norm": norm})


def gguf_keys(config: StableLmConfig) -> KeyMap:
    norms = {f"layers.*.attention.step.{name}_norm": f"blk.*.attn_{name}_norm" for name in "qk"}
    return with_one_norm(config, gguf.llama_keys(config, norms), "blk.*.attn_norm")


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = gguf.entries(metadata, (*llama.GGUF_NAMES, "layer_norm_eps"))
    width = found["hidden_size"] // found["num_attention_heads"]
    return {
        **found,
        **gguf.rotary_factor(metadata, width),
        **gguf.named(metadata, use_parallel_residual="use_parallel_residual"),
        "use_qkv_bias": gguf.has(metadata, "blk.0.attn_q.bias"),
        "qk_layernorm": gguf.has(metadata, "blk.0.attn_q_norm.weight"),
    }


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "StableLm",
    StableLmConfig,
    build,
    keys=keys,
    heads={end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
