"""OPT (Zhang et al., 2022, arXiv:2205.01068): GPT-2's layers with relu; the 350M model's norms come after each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Head, LanguageModel, last_word
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from .common.architecture import Architecture
from .gptj import head_copies


@dataclass(kw_only=True)
class OPTConfig(Config):
    model_type = "opt"
    inert = ("activation_dropout",)

    vocab_size: Size = 50272
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    ffn_dim: Size = 3072
    max_position_embeddings: Size = 2048
    do_layer_norm_before: bool = True
    _remove_final_layer_norm: bool = False
    word_embed_proj_dim: Size | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    num_attention_heads: Size = 12
    activation_function: str = "relu"
    layerdrop: float = 0.0
    init_std: float = 0.02
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 2

    def check(self) -> None:
        if self.layerdrop:
            raise UnsupportedConfig("layerdrop above 0 is not computed here.")

    @property
    def word_width(self) -> int:
        """Width of input and output embeddings."""
        return self.word_embed_proj_dim or self.hidden_size


def build(config: OPTConfig) -> Stack:
    width, narrow = config.hidden_size, config.word_width
    ended = config.do_layer_norm_before and not config._remove_final_layer_norm

    def norm() -> LayerNorm:
        return LayerNorm(width, elementwise_affine=config.layer_norm_elementwise_affine)

    def step(module: nn.Module) -> Residual:
        place: dict[str, Any] = {"before" if config.do_layer_norm_before else "after": norm()}
        return Residual(module, dropout=config.dropout, **place)

    def layer() -> Layer:
        bias, heads = config.enable_bias, config.num_attention_heads
        attention = Attention(width, heads, bias=bias, causal=True, dropout=config.attention_dropout)
        return Layer(step(attention), step(FeedForward(width, config.ffn_dim, config.activation_function, bias=bias)))

    embed = Embeddings(
        Embedding(config.vocab_size, narrow),
        position=LearnedPositions(config.max_position_embeddings + 2, width, offset=2),
        widen=None if narrow == width else Linear(narrow, width, bias=False),
    )
    layers = [layer() for _ in range(config.num_hidden_layers)]
    out = None if narrow == width else Linear(width, narrow, bias=False)
    return Stack(embed, layers, norm() if ended else None, out)


def keys(config: OPTConfig) -> KeyMap:
    place = "before" if config.do_layer_norm_before else "after"
    attention = {f"layers.*.attention.step.{n}": f"layers.*.self_attn.{n}_proj" for n in ("q", "k", "v", "out")}
    rows = {
        "embed.token": "embed_tokens",
        "embed.position.table": "embed_positions",
        "embed.widen": "project_in",
        "out": "project_out",
        f"layers.*.attention.{place}": "layers.*.self_attn_layer_norm",
        f"layers.*.ffn.{place}": "layers.*.final_layer_norm",
        "layers.*.ffn.step.up": "layers.*.fc1",
        "layers.*.ffn.step.down": "layers.*.fc2",
        "norm": "final_layer_norm",
        **attention,
    }
    inside = {ours: f"decoder.{theirs}" for ours, theirs in rows.items()}
    return KeyMap(inside, "model.", ignored=(r"decoder\.version$", *head_copies(config)))


def generate(config: OPTConfig, backbone: Stack) -> Head:
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token))
    return Head(LanguageModel(Linear(config.word_width, config.vocab_size, bias=False)), {"table": "/lm_head"})


def classify_text(config: OPTConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.word_width, config.num_labels, pool=last_word(config), bias=False), {"out": "/score"})


def answer(config: OPTConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.word_width, 2), {"out": "/qa_outputs"})


ARCHITECTURE = Architecture(
    "OPT",
    OPTConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": generate,
        "ForSequenceClassification": classify_text,
        "ForQuestionAnswering": answer,
    },
)
