"""Baichuan 1 and 2 (Yang et al., 2023, arXiv:2309.10305): Llama with one matrix for queries, keys and values.

The 13B models have ALiBi for positions; the second version scores by the directions of its vectors alone. As others
tell them apart, the width says the first, and the vocabulary the second. The files name their own code, which is not
run: the family is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part
from ..config import Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head, LanguageModel
from ..nn.attention.alibi import Alibi, slopes
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import UnitRows
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class BaichuanConfig(llama.LlamaConfig):
    """Entries of both versions.

    Args:
        position_embedding: "ROPE" or "ALIBI"; None: ALiBi for widths other than the 7B models'.
        normalized_head: whether scores are those of unit vectors; None: for vocabularies other than the first's.
    """

    model_type = "baichuan"
    inert: ClassVar[tuple[str, ...]] = ("z_loss_weight", "_from_model_config")
    aliases: ClassVar = {"model_max_length": "max_position_embeddings"}

    vocab_size: Size = 125696
    max_position_embeddings: Size = 4096
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    num_key_value_heads: Literal[None] = None
    pad_token_id: int | None = 0
    position_embedding: Literal[None, "ROPE", "ALIBI"] = None
    normalized_head: bool | None = None

    def check(self) -> None:
        super().check()
        if self.normalized_head and self.tie_word_embeddings:
            raise UnsupportedConfig("A normalized head has vectors of its own: tie_word_embeddings must be false.")

    @property
    def linear_biases(self) -> bool:
        return self.hidden_size != 4096 if self.position_embedding is None else self.position_embedding == "ALIBI"

    @property
    def unit_head(self) -> bool:
        return self.vocab_size != 64000 if self.normalized_head is None else self.normalized_head


def build(config: BaichuanConfig) -> Stack:
    biases = config.linear_biases
    positions: Positions = Alibi(slopes(config.num_attention_heads)) if biases else rotary_of(config, config.head_width)
    return llama.decoder(
        config, lambda i: llama.layer(config, llama.attention(config, positions), llama.feed_forward(config))
    )


def keys(config: BaichuanConfig) -> KeyMap:
    sizes = (config.num_attention_heads * config.head_width,) * 3
    return llama.keys(
        config,
        {f"layers.*.attention.step.{n}": Part("layers.*.self_attn.W_pack", sizes, i) for i, n in enumerate("qkv")},
    )


def generate(config: BaichuanConfig, backbone: Stack) -> Head:
    if not config.unit_head or config.tie_word_embeddings:
        return llama.generate(config, backbone)
    return Head(LanguageModel(UnitRows(config.hidden_size, config.vocab_size)), {"table": "/lm_head"})


HEADS: dict[str, Any] = {"Model": None, "ForCausalLM": generate}
ARCHITECTURE = llama.ARCHITECTURE.derive("Baichuan", BaichuanConfig, build, keys=keys, heads=HEADS)
