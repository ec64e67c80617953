"""Marian (Junczys-Dowmunt et al., 2018, arXiv:1804.00344): a post-norm encoder-decoder with sinusoidal positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from ..checkpoints.keys import KeyMap, Rows
from ..checkpoints.sources import Flat
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads import Head, LanguageModel
from ..kinds import Kind, words
from ..nn.attention import Attention, CrossAttention
from ..nn.embeddings import Embeddings, SinusoidalPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from ..outputs import ScoresOutput
from .architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class MarianConfig(Config):
    model_type = "marian"
    norm_eps: ClassVar[float] = 1e-5
    aliases = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: Size = 58101
    decoder_vocab_size: Size | None = None
    d_model: Size = 1024
    encoder_layers: Count = 12
    encoder_attention_heads: Size = 16
    encoder_ffn_dim: Size = 4096
    decoder_layers: Count = 12
    decoder_attention_heads: Size = 16
    decoder_ffn_dim: Size = 4096
    max_position_embeddings: Size = 1024
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    share_encoder_decoder_embeddings: bool = True
    normalize_before: Literal[False] = False
    normalize_embedding: Literal[False] = False
    add_final_layer_norm: Literal[False] = False
    add_bias_logits: Literal[False] = False
    static_position_embeddings: Literal[True] = True
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 58100
    eos_token_id: int | list[int] | None = 0
    decoder_start_token_id: int | None = 58100
    forced_eos_token_id: int | list[int] | None = 0

    def check(self) -> None:
        if self.encoder_layerdrop or self.decoder_layerdrop:
            raise UnsupportedConfig("encoder_layerdrop and decoder_layerdrop above 0 are not computed here.")

    @property
    def target_size(self) -> int:
        """Words of the target language."""
        return self.decoder_vocab_size or self.vocab_size


def step(config: MarianConfig, module: nn.Module) -> Residual:
    return Residual(module, after=LayerNorm(config.d_model, config.norm_eps), dropout=config.dropout)


def feed_forward(config: MarianConfig, inner: int) -> Residual:
    act, dropout = config.activation_function, config.activation_dropout
    return step(config, FeedForward(config.d_model, inner, act, dropout=dropout))


def embeddings(config: MarianConfig, token: nn.Embedding) -> Embeddings:
    scale = config.d_model**0.5 if config.scale_embedding else 1.0
    return Embeddings(token, position=SinusoidalPositions(config.d_model), scale=scale, dropout=config.dropout)


def encoder(config: MarianConfig, token: nn.Embedding) -> Stack:
    def layer() -> Layer:
        heads, dropout = config.encoder_attention_heads, config.attention_dropout
        attention = Attention(config.d_model, heads, dropout=dropout)
        return Layer(step(config, attention), feed_forward(config, config.encoder_ffn_dim))

    return Stack(embeddings(config, token), [layer() for _ in range(config.encoder_layers)])


def decoder(config: MarianConfig, token: nn.Embedding) -> Stack:
    def layer() -> CrossLayer:
        heads, dropout = config.decoder_attention_heads, config.attention_dropout
        attention = Attention(config.d_model, heads, causal=True, dropout=dropout)
        cross = CrossAttention(config.d_model, heads, dropout=dropout)
        return CrossLayer(step(config, attention), step(config, cross), feed_forward(config, config.decoder_ffn_dim))

    return Stack(embeddings(config, token), [layer() for _ in range(config.decoder_layers)])


def build(
    config: MarianConfig, encoder: Callable[..., Stack] = encoder, decoder: Callable[..., Stack] = decoder
) -> EncoderDecoder:
    source = Embedding(config.vocab_size, config.d_model)
    shared = config.share_encoder_decoder_embeddings
    target = source if shared else Embedding(config.target_size, config.d_model)
    return EncoderDecoder(encoder(config, source), decoder(config, target))


def build_decoder(config: MarianConfig) -> Stack:
    return decoder(config, Embedding(config.target_size, config.d_model))


def layer_rows(ours: str, theirs: str, *, cross: bool) -> Rows:
    """Rows of one side's layers."""
    rows = {}
    for name, stored in {"attention": "self_attn", **({"cross": "encoder_attn"} if cross else {})}.items():
        for part in ("q", "k", "v", "out"):
            rows[f"{ours}layers.*.{name}.step.{part}"] = f"{theirs}layers.*.{stored}.{part}_proj"
        rows[f"{ours}layers.*.{name}.after"] = f"{theirs}layers.*.{stored}_layer_norm"
    rows[f"{ours}layers.*.ffn.step.up"] = f"{theirs}layers.*.fc1"
    rows[f"{ours}layers.*.ffn.step.down"] = f"{theirs}layers.*.fc2"
    rows[f"{ours}layers.*.ffn.after"] = f"{theirs}layers.*.final_layer_norm"
    return rows


def keys(config: MarianConfig) -> KeyMap:
    sides = {**layer_rows("encoder.", "encoder.", cross=False), **layer_rows("decoder.", "decoder.", cross=True)}
    if config.share_encoder_decoder_embeddings:
        tokens, copies = {"encoder.embed.token": "shared"}, r"(encoder|decoder)\.embed_tokens\.weight$"
    else:
        tokens = {f"{side}.embed.token": f"{side}.embed_tokens" for side in ("encoder", "decoder")}
        copies = r"^model\.shared\.weight$"
    heads = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap({**tokens, **sides}, "model.", ignored=(copies, r"embed_positions\.weight$", *heads))


def decoder_keys(config: MarianConfig) -> KeyMap:
    rows = {"embed.token": "embed_tokens", **layer_rows("", "", cross=True)}
    heads = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    ignored = (r"embed_positions\.weight$", r"^model\.(encoder\.|shared\.)", r"^final_logits_bias$", *heads)
    return KeyMap(rows, "model.decoder.", ignored=ignored)


def table(config: MarianConfig, backbone: EncoderDecoder | Stack) -> tuple[nn.Module, Rows]:
    """The scoring matrix, the decoder's embedding when tied, and its row."""
    if config.tie_word_embeddings:
        return backbone.embed.token, {}
    return Linear(config.d_model, config.target_size, bias=False), {"table": "/lm_head"}


def translate(config: MarianConfig, backbone: EncoderDecoder) -> Head:
    scores, rows = table(config, backbone)
    return Head(LanguageModel(scores, bias=config.target_size), {"bias": Flat("/final_logits_bias"), **rows})


def generate(config: MarianConfig, backbone: Stack) -> Head:
    scores, rows = table(config, backbone)
    return Head(LanguageModel(scores), rows)


ARCHITECTURE = Architecture(
    "Marian",
    MarianConfig,
    build,
    keys,
    heads={"Model": None, "MTModel": translate, "ForCausalLM": generate},
    kinds={"ForCausalLM": Kind("AutoModelForCausalLM", ScoresOutput, words)},  # the reference does not shift its labels
    bare={"ForCausalLM": (build_decoder, decoder_keys)},
)
