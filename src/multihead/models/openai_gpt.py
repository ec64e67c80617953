"""GPT (Radford et al., 2018): GPT-2's layers with the norm after each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import gpt2, llama
from .common import double_heads
from .common.architecture import Architecture

ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "swish": "silu"}  # what the config's names mean


@dataclass(kw_only=True)
class OpenAIGPTConfig(gpt2.GPTConfig):
    model_type = "openai-gpt"
    inert = ("n_ctx", "n_special", "predict_special_tokens")

    vocab_size: Size = 40478
    n_positions: Size = 512
    afn: Literal["gelu", "relu", "silu", "swish"] = "gelu"
    attn_pdrop: float = 0.1


def build(config: OpenAIGPTConfig) -> Stack:
    width = config.n_embd

    def step(module: nn.Module) -> Residual:
        return Residual(module, after=LayerNorm(width, config.layer_norm_epsilon), dropout=config.resid_pdrop)

    def layer() -> Layer:
        attention = Attention(width, config.n_head, causal=True, dropout=config.attn_pdrop)
        return Layer(step(attention), step(FeedForward(width, 4 * width, ACTIVATIONS[config.afn])))

    embed = Embeddings(
        Embedding(config.vocab_size, width),
        position=LearnedPositions(config.n_positions, width),
        dropout=config.embd_pdrop,
        worded=True,
    )
    return Stack(embed, [layer() for _ in range(config.n_layer)])


def keys(config: OpenAIGPTConfig) -> KeyMap:
    plain = gpt2.keys(gpt2.GPT2Config(n_embd=config.n_embd, tie_word_embeddings=config.tie_word_embeddings))
    rows = {ours.replace(".before", ".after"): theirs for ours, theirs in plain.rows.items() if ours != "norm"}
    rows |= {"embed.token": "tokens_embed", "embed.position.table": "positions_embed"}
    return replace(plain, rows=rows, ignored=(*plain.ignored, r"position_ids$"))


ARCHITECTURE = Architecture(
    "OpenAIGPT",
    OpenAIGPTConfig,
    build,
    keys,
    {
        "Model": None,
        "LMHeadModel": llama.generate,
        "ForSequenceClassification": llama.classify_text,
        "DoubleHeadsModel": double_heads.both,
    },
    head_types={"DoubleHeadsModel": double_heads.HEAD_TYPE},
    inputs={"mc_token_ids": double_heads.places},
)
