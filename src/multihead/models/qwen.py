"""Qwen (Bai et al., 2023, arXiv:2309.16609): Llama with biases in front of attention, and long texts by NTK and logn.

The files name their own code, which is not run: the family is computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer, Residual
from ..nn.norms import RMSNorm
from ..nn.positions import LogScaledRotary, Rotary, RotaryByLength, frequencies_of
from ..nn.stack import Stack
from ..nn.weights import Embedding
from . import llama
from .common.architecture import Architecture
from .gptj import head_copies


@dataclass(kw_only=True)
class QWenConfig(Config):
    """Entries of Qwen 1.

    Args:
        intermediate_size: of gates and up values together. seq_length: trained length.
        use_dynamic_ntk: the rotary base grows with texts longer than that. use_logn_attn: their queries are scaled.
    """

    model_type = "qwen"
    inert: ClassVar[tuple[str, ...]] = (
        "bf16", "fp16", "fp32", "onnx_safe", "softmax_in_fp32", "use_cache_kernel", "use_cache_quantization",
        "use_flash_attn",
    )  # fmt: skip

    vocab_size: Size = 151936
    hidden_size: Size = 4096
    num_hidden_layers: Count = 32
    num_attention_heads: Size = 32
    emb_dropout_prob: float = 0.0
    attn_dropout_prob: float = 0.0
    layer_norm_epsilon: float = 1e-6
    initializer_range: float = 0.02
    max_position_embeddings: Size = 8192
    seq_length: Size | None = None
    scale_attn_weights: Literal[True] = True
    kv_channels: Size = 128
    rotary_pct: float = 1.0
    rotary_emb_base: float = 10000.0
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    intermediate_size: Size = 22016
    no_bias: bool = True
    tie_word_embeddings: bool = False

    def check(self) -> None:
        if self.rotary_pct != 1.0:
            raise UnsupportedConfig(f"rotary_pct is {self.rotary_pct}; all channels of a head are turned.")
        if self.intermediate_size % 2:
            raise UnsupportedConfig(f"intermediate_size = {self.intermediate_size} is not two equal parts.")

    @property
    def trained(self) -> int:
        return self.seq_length or self.max_position_embeddings


def positions(config: QWenConfig) -> Rotary:
    """Return rotary positions; past the trained length the base grows in steps, one for each doubling."""
    width, base, trained = config.kv_channels, config.rotary_emb_base, config.trained

    def steps(length: int) -> int:
        grown = math.ceil(math.log2(length / trained) + 1) if config.use_dynamic_ntk and length > trained else 1
        return 2**grown - 1

    def by_length(length: int) -> Tensor:
        return 1.0 / frequencies_of(width, base * steps(length) ** (width / (width - 2)))

    if config.use_logn_attn:
        return LogScaledRotary(by_length, steps, trained=trained)
    if config.use_dynamic_ntk:
        return RotaryByLength(by_length, steps)
    return Rotary(1.0 / frequencies_of(width, base))


def build(config: QWenConfig) -> Stack:
    width, heads, turned = config.hidden_size, config.num_attention_heads, positions(config)

    def norm() -> RMSNorm:
        return RMSNorm(width, config.layer_norm_epsilon)

    def layer() -> Layer:
        attention = Attention(
            width, heads, head_width=config.kv_channels, out_bias=not config.no_bias, positions=turned, causal=True,
            dropout=config.attn_dropout_prob,
        )  # fmt: skip
        ffn = GatedFeedForward(width, config.intermediate_size // 2, "silu", bias=not config.no_bias)
        return Layer(Residual(attention, before=norm()), Residual(ffn, before=norm()))

    embed = Embeddings(Embedding(config.vocab_size, width), dropout=config.emb_dropout_prob)
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)], norm())


def keys(config: QWenConfig) -> KeyMap:
    sizes = (config.num_attention_heads * config.kv_channels,) * 3
    rows: dict[str, str | Source] = {
        "embed.token": "wte",
        "layers.*.attention.before": "h.*.ln_1",
        **{f"layers.*.attention.step.{n}": Part("h.*.attn.c_attn", sizes, i) for i, n in enumerate("qkv")},
        "layers.*.attention.step.out": "h.*.attn.c_proj",
        "layers.*.ffn.before": "h.*.ln_2",
        "layers.*.ffn.step.up": "h.*.mlp.w1",
        "layers.*.ffn.step.gate": "h.*.mlp.w2",
        "layers.*.ffn.step.down": "h.*.mlp.c_proj",
        "norm": "ln_f",
    }
    ignored = (r"rotary_emb\.inv_freq$", r"logn_tensor$", r"attn\.(masked_)?bias$", *head_copies(config))
    return KeyMap(rows, "transformer.", ignored=ignored)


HEADS = {"Model": None, "ForCausalLM": llama.generate}
ARCHITECTURE = Architecture("QWen", QWenConfig, build, keys, heads=HEADS)
