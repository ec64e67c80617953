"""FNet (Lee-Thorp et al., 2021, arXiv:2105.03824): BERT whose attention is a Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..nn.feedforward import FeedForward
from ..nn.fourier import FourierMixing
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import LayerNorm, Linear
from . import bert


@dataclass(kw_only=True)
class FNetConfig(Config):
    model_type = "fnet"
    inert = ("num_attention_heads", "tpu_short_seq_length")

    vocab_size: Size = 32000
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    intermediate_size: Size = 3072
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: Size = 512
    type_vocab_size: Size = 4
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    use_tpu_fourier_optimizations: Literal[False] = False
    pad_token_id: int | None = 3
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


def build(config: FNetConfig) -> Stack:
    width = config.hidden_size

    def step(module: nn.Module, dropout: float) -> Residual:
        return Residual(module, after=LayerNorm(width, config.layer_norm_eps), dropout=dropout)

    def layer() -> Layer:
        ffn = FeedForward(width, config.intermediate_size, config.hidden_act)
        return Layer(step(FourierMixing(), 0.0), step(ffn, config.hidden_dropout_prob))

    embed = bert.embeddings(config, project=Linear(width, width))
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)])


def keys(config: FNetConfig) -> KeyMap:
    rows = {
        **bert.EMBEDDING_ROWS,
        "embed.project": "embeddings.projection",
        "layers.*.attention.after": "encoder.layer.*.fourier.output.LayerNorm",
        "layers.*.ffn.step.up": "encoder.layer.*.intermediate.dense",
        "layers.*.ffn.step.down": "encoder.layer.*.output.dense",
        "layers.*.ffn.after": "encoder.layer.*.output.LayerNorm",
    }
    ignored = (r"embeddings\.(position|token_type)_ids$", *bert.copies(config, "cls.predictions"))
    return KeyMap(rows, "fnet.", ignored=ignored, aliases=bert.aliases(config, "cls.predictions"))


HEADS = {end: make for end, make in bert.ARCHITECTURE.heads.items() if end != "LMHeadModel"}
HEADS |= {end: bert.beside_pooler(HEADS[end]) for end in bert.WITHOUT_POOLER}
ARCHITECTURE = bert.ARCHITECTURE.derive("FNet", FNetConfig, build, keys=keys, heads=HEADS)
