"""MiniCPM (Hu et al., 2024, arXiv:2404.06395): Llama with scaled words, residuals and scores; the third has MLA.

MiniCPM's files name their own code, which is not run: the family is computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..config import Count, Size
from ..heads.heads import Head
from ..nn.layer import Layer
from ..nn.stack import Stack
from ..nn.weights import ScaledEmbedding
from . import deepseek, llama, youtu
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class MiniCPMConfig(llama.LlamaConfig):
    """Entries of MiniCPM 1B and 2B, MiniCPM 4 and 4.1.

    Args:
        scale_emb: of the word vectors. scale_depth: of what steps add, over the root of the number of layers.
        dim_model_base: states are divided by how often it fits in the width before they are scored.
    """

    model_type = "minicpm"
    inert = ("mup_denominator", "rope_scaling_type", "sparse_config", "use_sparse")  # sparse attention of long texts

    hidden_size: Size = 4096
    scale_emb: float = 1.0
    scale_depth: float | None = 1.0
    dim_model_base: Size | None = 1
    tie_word_embeddings: bool = True
    num_experts: Literal[0] = 0

    @property
    def residual_scale(self) -> float:
        return 1.0 if self.scale_depth is None else self.scale_depth / math.sqrt(self.num_hidden_layers)


@dataclass(kw_only=True)
class MiniCPM3Config(MiniCPMConfig):
    model_type = "minicpm3"

    vocab_size: Size = 73448
    hidden_size: Size = 2560
    intermediate_size: Size = 6400
    num_hidden_layers: Count = 62
    num_attention_heads: Size = 40
    num_key_value_heads: Size | None = 40
    max_position_embeddings: Size = 32768
    initializer_range: float = 0.1
    rms_norm_eps: float = 1e-5
    kv_lora_rank: Size = 256
    q_lora_rank: Size | None = 768
    qk_nope_head_dim: Size = 64
    qk_rope_head_dim: Size = 32
    v_head_dim: Size | None = None
    qk_head_dim: Size | None = None  # follows from its parts
    rope_interleave: ClassVar[bool] = False
    scale_emb: float = 12.0
    scale_depth: float | None = 1.4
    dim_model_base: Size | None = 256

    def check(self) -> None:
        if self.v_head_dim is None:
            self.v_head_dim = self.hidden_size // self.num_attention_heads


def words(config: MiniCPMConfig) -> ScaledEmbedding:
    return ScaledEmbedding(config.vocab_size, config.hidden_size, config.scale_emb)


def build(config: MiniCPMConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions)
        return llama.layer(config, attention, llama.feed_forward(config), scale=config.residual_scale)

    return llama.decoder(config, layer, token=words(config))


def build_latent(config: MiniCPM3Config) -> Stack:
    positions, width = rotary_of(config, config.qk_rope_head_dim), config.qk_nope_head_dim + config.qk_rope_head_dim

    def layer(i: int) -> Layer:
        attention = deepseek.attention(config, positions, width**-0.5)
        return llama.layer(config, attention, llama.feed_forward(config), scale=config.residual_scale)

    return llama.decoder(config, layer, token=words(config))


def generate(config: Any, backbone: Stack) -> Head:
    base = config.dim_model_base
    return llama.generate(config, backbone, scale=1.0 if base is None else base / config.hidden_size)


HEADS = {"Model": None, "ForCausalLM": generate, "ForSequenceClassification": llama.classify_text}
ARCHITECTURE = llama.ARCHITECTURE.derive("MiniCPM", MiniCPMConfig, build, heads=HEADS)
THIRD = llama.ARCHITECTURE.derive("MiniCPM3", MiniCPM3Config, build_latent, keys=youtu.keys, heads=HEADS)
