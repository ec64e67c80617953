"""CTRL (Keskar et al., 2019, arXiv:1909.05858): a pre-norm decoder with sinusoidal positions and scaled words."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..heads.heads import Classifier, Head, last_word
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings, SinusoidalPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from .common.architecture import Architecture
from .gpt2 import GPTConfig
from .gptj import generate, head_copies

LAYER_EPS = 1e-6  # of the norms inside layers; the config's is the last one's


@dataclass(kw_only=True)
class CTRLConfig(GPTConfig):
    model_type = "ctrl"
    inert = ("attn_pdrop", "n_ctx")

    vocab_size: Size = 246534
    n_positions: Size = 256
    n_embd: Size = 1280
    dff: Size = 8192
    n_layer: Count = 48
    n_head: Size = 16
    layer_norm_epsilon: float = 1e-6


def build(config: CTRLConfig) -> Stack:
    width = config.n_embd

    def step(module: nn.Module) -> Residual:
        return Residual(module, before=LayerNorm(width, LAYER_EPS), dropout=config.resid_pdrop)

    def layer() -> Layer:
        return Layer(step(Attention(width, config.n_head, causal=True)), step(FeedForward(width, config.dff, "relu")))

    embed = Embeddings(
        Embedding(config.vocab_size, width),
        position=SinusoidalPositions(width),
        scale=width**0.5,
        rescales=True,
        dropout=config.embd_pdrop,
        worded=True,
    )
    norm = LayerNorm(width, config.layer_norm_epsilon)
    return Stack(embed, [layer() for _ in range(config.n_layer)], norm)


def keys(config: CTRLConfig) -> KeyMap:
    rows = {
        "embed.token": "w",
        **{f"layers.*.attention.step.{name}": f"h.*.multi_head_attention.W{name}" for name in ("q", "k", "v")},
        "layers.*.attention.step.out": "h.*.multi_head_attention.dense",
        "layers.*.attention.before": "h.*.layernorm1",
        "layers.*.ffn.step.up": "h.*.ffn.0",
        "layers.*.ffn.step.down": "h.*.ffn.2",
        "layers.*.ffn.before": "h.*.layernorm2",
        "norm": "layernorm",
    }
    return KeyMap(rows, "transformer.", ignored=head_copies(config))


def classify_text(config: CTRLConfig, backbone: Stack) -> Head:
    return Head(
        Classifier(config.n_embd, config.num_labels, pool=last_word(config), bias=False), {"out": "/classifier"}
    )


ARCHITECTURE = Architecture(
    "CTRL",
    CTRLConfig,
    build,
    keys,
    heads={"Model": None, "LMHeadModel": generate, "ForSequenceClassification": classify_text},
)
