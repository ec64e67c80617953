"""ChatGLM 2 and 3, and GLM-4-9B's first files (Zeng et al., 2024, arXiv:2406.12793): GLM under older names.

The files name their own code, which is not run: the family is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Chained, Interleaved, Part, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer, Residual
from ..nn.norms import RMSNorm
from ..nn.positions import Rotary, frequencies_of
from ..nn.stack import Stack
from ..nn.weights import Embedding
from . import llama
from .common.architecture import Architecture


@dataclass(kw_only=True)
class ChatGLMConfig(Config):
    model_type = "chatglm"
    aliases: ClassVar[Mapping[str, str]] = {
        "num_hidden_layers": "num_layers",
        "vocab_size": "padded_vocab_size",
        "max_position_embeddings": "seq_length",
        "intermediate_size": "ffn_hidden_size",
    }
    inert = (
        "apply_query_key_layer_scaling", "attention_softmax_in_fp32", "fp32_residual_connection", "interleaved_qkv",
        "original_rope", "quantization_bit", "pre_seq_len", "prefix_projection",
    )  # fmt: skip

    padded_vocab_size: Size = 65024
    hidden_size: Size = 4096
    num_layers: Count = 28
    num_attention_heads: Size = 32
    ffn_hidden_size: Size = 13696
    kv_channels: Size = 128
    seq_length: Size = 2048
    multi_query_attention: bool = False
    multi_query_group_num: Size = 1
    add_bias_linear: bool = False
    add_qkv_bias: bool = False
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    classifier_dropout: float | None = None
    layernorm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    rope_ratio: float = 1.0
    rmsnorm: Literal[True] = True
    post_layer_norm: Literal[True] = True
    apply_residual_connection_post_layernorm: Literal[False] = False
    position_encoding_2d: Literal[False] = False  # of the first ChatGLM
    tie_word_embeddings: bool = False

    def check(self) -> None:
        if self.kv_channels % 4:
            raise UnsupportedConfig(
                f"kv_channels is {self.kv_channels}; pairs of half of a head's channels are turned."
            )

    @property
    def key_heads(self) -> int:
        return self.multi_query_group_num if self.multi_query_attention else self.num_attention_heads


def build(config: ChatGLMConfig) -> Stack:
    width, turned = config.hidden_size, config.kv_channels // 2
    positions = Rotary(1.0 / frequencies_of(turned, 10000.0 * config.rope_ratio))

    def norm() -> RMSNorm:
        return RMSNorm(width, config.layernorm_epsilon)

    def layer() -> Layer:
        attention = Attention(
            width,
            config.num_attention_heads,
            head_width=config.kv_channels,
            key_heads=config.key_heads,
            bias=config.add_bias_linear or config.add_qkv_bias,
            out_bias=config.add_bias_linear,
            positions=positions,
            causal=True,
            dropout=config.attention_dropout,
        )
        ffn = GatedFeedForward(width, config.ffn_hidden_size, "silu", bias=config.add_bias_linear)
        first, second = (Residual(step, before=norm(), dropout=config.hidden_dropout) for step in (attention, ffn))
        return Layer(first, second)

    embed = Embeddings(Embedding(config.padded_vocab_size, width))
    return Stack(embed, [layer() for _ in range(config.num_layers)], norm())


def keys(config: ChatGLMConfig) -> KeyMap:
    ours, theirs = "layers.*.attention.step", "encoder.layers.*.self_attention"
    counts = {"q": config.num_attention_heads, "k": config.key_heads, "v": config.key_heads}
    sizes = tuple(count * config.kv_channels for count in counts.values())
    rows: dict[str, str | Source] = {
        "embed.token": "embedding.word_embeddings",
        f"{ours}.out": f"{theirs}.dense",
        "layers.*.attention.before": "encoder.layers.*.input_layernorm",
        "layers.*.ffn.before": "encoder.layers.*.post_attention_layernorm",
        "layers.*.ffn.step.down": "encoder.layers.*.mlp.dense_4h_to_h",
        "norm": "encoder.final_layernorm",
    }
    for index, (name, count) in enumerate(counts.items()):
        part = Part(f"{theirs}.query_key_value", sizes, index)
        turned = Interleaved(part.key, count, config.kv_channels // 2)
        rows[f"{ours}.{name}"] = part if name == "v" else Chained(part.key, part, turned)
    for index, name in enumerate(("gate", "up")):
        inner = (config.ffn_hidden_size,) * 2
        rows[f"layers.*.ffn.step.{name}"] = Part("encoder.layers.*.mlp.dense_h_to_4h", inner, index)
    copies = (r"output_layer\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "transformer.", ignored=(r"rotary_pos_emb\.inv_freq$", *copies))


def generate(config: Any, backbone: Stack) -> Head:
    head = llama.generate(config, backbone)
    return Head(head.module, dict.fromkeys(head.rows, "/transformer.output_layer"))


ARCHITECTURE = Architecture("ChatGLM", ChatGLMConfig, build, keys, heads={"Model": None, "ForCausalLM": generate})
