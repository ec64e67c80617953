"""Phi 1 to 2 (Gunasekar et al., 2023, arXiv:2306.11644): parallel layers, half of each head turned, biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Count, Size
from ..nn.feedforward import FeedForward
from ..nn.layer import ParallelLayer
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import gptj, llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class PhiConfig(llama.LlamaConfig):
    model_type = "phi"
    rotary_factor: ClassVar[float | None] = 0.5

    vocab_size: Size = 51200
    hidden_size: Size = 2048
    intermediate_size: Size = 8192
    num_hidden_layers: Count = 24
    hidden_act: str = "gelu_new"
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    layer_norm_eps: float = 1e-5
    qk_layernorm: bool = False


def norm(config: Any) -> nn.Module:
    return LayerNorm(config.hidden_size, config.layer_norm_eps)


def build(config: PhiConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> ParallelLayer:
        names = ("q_norm", "k_norm") if config.qk_layernorm else ()
        norms = {name: LayerNorm(config.head_width, config.layer_norm_eps) for name in names}
        attention = llama.attention(config, positions, bias=True, **norms)
        ffn = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act)
        return ParallelLayer(attention, ffn, norm(config), dropout=config.resid_pdrop)

    return llama.decoder(config, layer, norm, dropout=config.embd_pdrop)


def keys(config: PhiConfig) -> KeyMap:
    rows: Rows = {
        "embed.token": "embed_tokens",
        **{f"layers.*.attention.{name}": f"layers.*.self_attn.{name}_proj" for name in ("q", "k", "v")},
        **{f"layers.*.attention.{name}_norm": f"layers.*.self_attn.{name}_layernorm" for name in ("q", "k")},
        "layers.*.attention.out": "layers.*.self_attn.dense",
        "layers.*.norm": "layers.*.input_layernorm",
        "layers.*.ffn.up": "layers.*.mlp.fc1",
        "layers.*.ffn.down": "layers.*.mlp.fc2",
        "norm": "final_layernorm",
    }
    return KeyMap(rows, "model.", ignored=(r"rotary_emb\.inv_freq$", *gptj.head_copies(config)))


def gguf_keys(config: PhiConfig) -> KeyMap:
    plain = gguf.llama_keys(config, without=("layers.*.ffn.step.gate",))
    rows: Rows = {ours.replace(".step.", "."): theirs for ours, theirs in plain.rows.items() if "before" not in ours}
    return replace(plain, rows={**rows, "layers.*.norm": "blk.*.attn_norm", "/bias": "output.bias"})


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = gguf.entries(metadata, (*llama.GGUF_NAMES, "layer_norm_eps"))
    return {**found, **gguf.rotary_factor(metadata, found["hidden_size"] // found["num_attention_heads"])}


HEADS = {end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Phi",
    PhiConfig,
    build,
    keys=keys,
    heads={**HEADS, "ForCausalLM": gptj.generate},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
