"""GPT-J (Wang and Komatsuzaki, 2021): attention and feed-forward side by side, part of each head turned."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Interleaved, Source
from ..config import Config, Count, Size
from ..heads.heads import Head, LanguageModel
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import ParallelLayer
from ..nn.positions import Rotary, frequencies_of
from ..nn.stack import Stack
from ..nn.weights import Embedding, Linear
from . import llama
from .common.architecture import Architecture
from .gpt2 import GPTConfig, norm


@dataclass(kw_only=True)
class GPTJConfig(GPTConfig):
    model_type = "gptj"
    inert = ("n_ctx", "rotary", "scale_attn_weights")

    vocab_size: Size = 50400
    n_positions: Size = 2048
    n_embd: Size = 4096
    n_layer: Count = 28
    n_head: Size = 16
    rotary_dim: Size = 64
    n_inner: Size | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attn_pdrop: float = 0.0
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


def build(config: GPTJConfig) -> Stack:
    width, positions = config.n_embd, Rotary(1.0 / frequencies_of(config.rotary_dim, 10000.0))

    def layer() -> ParallelLayer:
        attention = Attention(
            width, config.n_head, bias=False, positions=positions, causal=True, dropout=config.attn_pdrop
        )
        ffn = FeedForward(width, config.n_inner or 4 * width, config.activation_function)
        return ParallelLayer(attention, ffn, norm(config), dropout=config.resid_pdrop)

    embed = Embeddings(Embedding(config.vocab_size, width), dropout=config.embd_pdrop, worded=True)
    return Stack(embed, [layer() for _ in range(config.n_layer)], norm(config))


def keys(config: GPTJConfig) -> KeyMap:
    rows: dict[str, str | Source] = {
        "embed.token": "wte",
        "layers.*.norm": "h.*.ln_1",
        "layers.*.attention.v": "h.*.attn.v_proj",
        "layers.*.attention.out": "h.*.attn.out_proj",
        "layers.*.ffn.up": "h.*.mlp.fc_in",
        "layers.*.ffn.down": "h.*.mlp.fc_out",
        "norm": "ln_f",
    }
    for name in ("q", "k"):
        rows[f"layers.*.attention.{name}"] = Interleaved(f"h.*.attn.{name}_proj", config.n_head, config.rotary_dim)
    return KeyMap(rows, "transformer.", ignored=(r"attn\.(masked_)?bias$", *head_copies(config)))


def head_copies(config: Config) -> tuple[str, ...]:
    return (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()


def generate(config: Config, backbone: Stack) -> Head:
    """Build the language model head, with a bias."""
    tied, width = config.tie_word_embeddings, config.hidden_size
    table: nn.Module = backbone.embed.token if tied else Linear(width, config.vocab_size, bias=False)
    rows = {"bias": "/lm_head.bias"} if tied else {"bias": "/lm_head.bias", "table": "/lm_head"}
    return Head(LanguageModel(table, bias=config.vocab_size), rows)


ARCHITECTURE = Architecture(
    "GPTJ",
    GPTJConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": generate,
        "ForSequenceClassification": llama.classify_text,
        "ForQuestionAnswering": llama.answer,
    },
)
