"""Gemma (Mesnard et al., 2024, arXiv:2403.08295): Llama with scaled words; norms store their distance from 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from torch import nn

from ..config import Count, Size
from ..nn.layer import Layer
from ..nn.norms import WideRMSNorm
from ..nn.stack import Stack
from ..nn.weights import ScaledEmbedding
from . import llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class GemmaConfig(llama.LlamaConfig):
    model_type = "gemma"

    vocab_size: Size = 256000
    hidden_size: Size = 3072
    intermediate_size: Size = 24576
    num_hidden_layers: Count = 28
    num_attention_heads: Size = 16
    num_key_value_heads: Size | None = 16
    head_dim: Size | None = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: Size = 8192
    tie_word_embeddings: bool = True
    use_bidirectional_attention: Literal[None, False] = None
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read `hidden_activation`; early files write `hidden_act: gelu` for its tanh form."""
        entries = super().normalized(entries)
        named = entries.pop("hidden_activation", None)
        if named is None and entries.get("hidden_act") == "gelu":
            named = "gelu_pytorch_tanh"
        return {**entries, "hidden_act": named} if named else entries


def norm(config: Any) -> nn.Module:
    return WideRMSNorm(config.hidden_size, config.rms_norm_eps, centre=1.0)


def words(config: Any) -> ScaledEmbedding:
    return ScaledEmbedding(config.vocab_size, config.hidden_size, config.hidden_size**0.5)


def build(config: GemmaConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        return llama.layer(config, llama.attention(config, positions), llama.feed_forward(config), norm)

    return llama.decoder(config, layer, norm, words(config))


HEADS = {end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"}
ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="Gemma",
    config=GemmaConfig,
    build=build,
    heads=HEADS,
    layouts={"gguf": partial(gguf.llama_keys, norms=gguf.Shifted)},
)
