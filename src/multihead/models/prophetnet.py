"""ProphetNet (Qi et al., 2020, arXiv:2001.04063): an encoder-decoder that predicts several next tokens at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.head_types import HEAD_TYPES, HeadType, pack_labels, words
from ..heads.heads import Head, LanguageModel
from ..heads.losses import IGNORED
from ..heads.outputs import ScoresOutput, Seq2SeqScoresOutput
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.attention.ngram import ClampedPositions, NgramAttention, NgramLayer, NgramPositions, NgramStack
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.forward_context import ForwardContext
from ..nn.layer import Layer, Residual
from ..nn.ragged import Layout
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Embedding, LayerNorm
from . import bart
from .common.architecture import Architecture

PROJECTIONS = {"q": "query_proj", "k": "key_proj", "v": "value_proj", "out": "out_proj"}


@dataclass(kw_only=True)
class ProphetNetConfig(Config):
    model_type = "prophetnet"
    inert = (
        *("encoder_layerdrop", "decoder_layerdrop"),
        *("encoder_max_position_embeddings", "decoder_max_position_embeddings"),
    )
    aliases: ClassVar = {"num_attention_heads": "num_encoder_attention_heads", "d_model": "hidden_size"}

    vocab_size: Size = 30522
    hidden_size: Size = 1024
    encoder_ffn_dim: Size = 4096
    num_encoder_layers: Count = 12
    num_encoder_attention_heads: Size = 16
    decoder_ffn_dim: Size = 4096
    num_decoder_layers: Count = 12
    num_decoder_attention_heads: Size = 16
    activation_function: str = "gelu"
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    dropout: float = 0.1
    max_position_embeddings: Size = 512
    init_std: float = 0.02
    add_cross_attention: bool = True
    ngram: Size = 2
    num_buckets: Size = 32
    relative_max_distance: Size = 128
    disable_ngram_loss: bool = False
    eps: float = 0.0  # of the loss, spread over all words
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 0
    words_apart: bool | None = None  # whether each side has a table of words; None for as scores and words are tied

    @property
    def num_hidden_layers(self) -> int:
        return self.num_encoder_layers

    @property
    def shares_words(self) -> bool:
        """True if encoder and decoder share one embedding table."""
        return self.tie_word_embeddings if self.words_apart is None else not self.words_apart

    @property
    def target_size(self) -> int:
        """Number of tokens that the decoder scores."""
        return self.vocab_size

    @property
    def offset(self) -> int:
        """Rows of positions before the first."""
        return (self.pad_token_id or 0) + 1

    def check(self) -> None:
        if self.num_buckets < 4 or self.relative_max_distance <= self.num_buckets // 2:
            raise UnsupportedConfig(f"{self.num_buckets} num_buckets cannot reach {self.relative_max_distance} far.")


def residual(config: ProphetNetConfig, step: nn.Module) -> Residual:
    return Residual(step, after=LayerNorm(config.hidden_size, 1e-5), dropout=config.dropout)


def feed_forward(config: ProphetNetConfig, inner: int) -> Residual:
    act, dropout = config.activation_function, config.activation_dropout
    return residual(config, FeedForward(config.hidden_size, inner, act, dropout=dropout))


def embeddings(config: ProphetNetConfig, token: nn.Embedding, positions: Callable[..., nn.Module]) -> Embeddings:
    place = positions(config.max_position_embeddings, config.hidden_size, offset=config.offset)
    return Embeddings(token, position=place, norm=LayerNorm(config.hidden_size, 1e-5), dropout=config.dropout)


def table(config: ProphetNetConfig) -> Embedding:
    return Embedding(config.vocab_size, config.hidden_size)


def encoder(config: ProphetNetConfig, token: nn.Embedding) -> Stack:
    def layer() -> Layer:
        heads, dropout = config.num_encoder_attention_heads, config.attention_dropout
        attention = Attention(config.hidden_size, heads, dropout=dropout)
        return Layer(residual(config, attention), feed_forward(config, config.encoder_ffn_dim))

    return Stack(embeddings(config, token, ClampedPositions), [layer() for _ in range(config.num_encoder_layers)])


def decoder(config: ProphetNetConfig, token: nn.Embedding) -> NgramStack:
    def layer() -> NgramLayer:
        sizes: Any = (config.hidden_size, config.num_decoder_attention_heads)
        far: Any = {"buckets": config.num_buckets, "reach": config.relative_max_distance}
        attention = NgramAttention(*sizes, **far, dropout=config.attention_dropout)
        cross: nn.Module = nn.Identity()
        if config.add_cross_attention:
            cross = residual(config, CrossAttention(*sizes, dropout=config.attention_dropout))
        return NgramLayer(residual(config, attention), cross, feed_forward(config, config.decoder_ffn_dim))  # type: ignore[arg-type]

    layers = [layer() for _ in range(config.num_decoder_layers)]
    return NgramStack(embeddings(config, token, NgramPositions), layers, config.hidden_size, config.ngram)


def build(config: ProphetNetConfig) -> EncoderDecoder:
    if not config.add_cross_attention:
        raise UnsupportedConfig("An encoder-decoder needs add_cross_attention = true, through which it reads a source.")
    source = table(config)
    return EncoderDecoder(encoder(config, source), decoder(config, source if config.shares_words else table(config)))


def side_rows(ours: str, theirs: str, *, decodes: bool) -> dict[str, Any]:
    """Return the key map rows of a side."""
    rows = {
        f"{ours}embed.position.table": f"{theirs}position_embeddings",
        f"{ours}embed.norm": f"{theirs}embeddings_layer_norm",
    }
    for step, attention in {"attention": "self_attn", **({"cross": "cross_attn"} if decodes else {})}.items():
        for our, their in PROJECTIONS.items():
            rows[f"{ours}layers.*.{step}.step.{our}"] = f"{theirs}layers.*.{attention}.{their}"
        rows[f"{ours}layers.*.{step}.after"] = f"{theirs}layers.*.{attention}_layer_norm"
    for our, their in (("step.up", ".intermediate"), ("step.down", ".output"), ("after", "_layer_norm")):
        rows[f"{ours}layers.*.ffn.{our}"] = f"{theirs}layers.*.feed_forward{their}"
    if decodes:
        rows[f"{ours}ngrams"] = f"{theirs}ngram_embeddings"
        rows[f"{ours}layers.*.attention.step.distances"] = f"{theirs}layers.*.self_attn.relative_pos_embeddings"
    return rows


def copies(config: ProphetNetConfig) -> tuple[str, ...]:
    return (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()


def keys(config: ProphetNetConfig) -> KeyMap:
    rows: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        rows |= side_rows(f"{side}.", f"{side}.", decodes=side == "decoder")
    prefix, sides = "prophetnet.", ("encoder", "decoder")
    if config.shares_words:
        rows["encoder.embed.token"] = "word_embeddings"
        others = [(p, side) for p in (prefix, "") for side in sides if not config.tie_word_embeddings]
        aliases = tuple((f"{p}word_embeddings.weight", f"{p}{side}.word_embeddings.weight") for p, side in others)
        ignored = (r"(encoder|decoder)\.word_embeddings\.weight$", *copies(config))
        return KeyMap(rows, prefix, ignored=ignored, aliases=aliases)
    rows |= {f"{side}.embed.token": f"{side}.word_embeddings" for side in sides}
    # No pass reads the table of both.
    aliases = tuple((f"{p}encoder.word_embeddings.weight", f"{p}word_embeddings.weight") for p in (prefix, ""))
    return KeyMap(rows, prefix, ignored=copies(config), aliases=aliases)


def decoder_keys(config: ProphetNetConfig) -> KeyMap:
    """Return the key map of the decoder alone, whose words are stored beside it."""
    words, top = "word_embeddings", "prophetnet.word_embeddings"
    if config.tie_word_embeddings:
        words = f"/{top}"
    rows: Rows = {"embed.token": words, **side_rows("", "", decodes=True)}
    unread = (r"^(prophetnet\.)?encoder\.", r"^prophetnet\.(decoder\.)?word_embeddings\.weight$", *copies(config))
    aliases = () if config.tie_word_embeddings else ((f"prophetnet.decoder.{words}.weight", f"{top}.weight"),)
    return KeyMap(rows, "prophetnet.decoder.", ignored=unread, aliases=aliases)


def encoder_keys(config: ProphetNetConfig) -> KeyMap:
    rows = {"embed.token": "word_embeddings", **side_rows("", "", decodes=False)}
    ignored = (r"^(prophetnet\.)?decoder\.", r"^prophetnet\.word_embeddings\.weight$", r"^lm_head\.weight$")
    return KeyMap(rows, prefixes=("prophetnet.encoder.", "encoder."), ignored=ignored)


def generate(config: ProphetNetConfig, backbone: EncoderDecoder | NgramStack) -> Head:
    """Build the scores of the first prediction; `postprocess` has those of the others."""
    getattr(backbone, "decoder", backbone).predicts = True
    table, rows = bart.table(config, backbone)
    return Head(LanguageModel(table), rows)


def postprocess(
    self: Any, hidden: Tensor, context: ForwardContext, layout: Layout, labels: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return logits of the next token, of those after it (batch, ngram - 1, length, words), and the loss of all."""
    if self.head is None:
        return {}
    logits, config = self.head(hidden, context), self.config
    streams = context.shared(NgramStack) if NgramStack in context._shared else ()
    every = [logits, *(self.head(states, context) for states in streams[1:])]
    loss = None
    if "labels" in labels:
        known = pack_labels(layout, labels["labels"])
        rest = torch.full_like(known, IGNORED) if config.disable_ngram_loss else known
        wanted = torch.cat([known, *[rest] * (len(every) - 1)])
        scores = torch.cat(every).float()
        loss = nn.functional.cross_entropy(scores, wanted, ignore_index=IGNORED, label_smoothing=config.eps)
    further = torch.stack([layout.unpack(each) for each in every[1:]], 1) if len(every) > 1 else None
    return {"loss": loss, "logits": layout.unpack(logits), "logits_ngram": further}


@dataclass
class NgramOutput(ScoresOutput):
    """Logits of a decoder; `logits_ngram` (batch, ngram - 1, length, words) are those of further predictions."""

    logits_ngram: Tensor | None = None


@dataclass
class Seq2SeqNgramOutput(Seq2SeqScoresOutput):
    """Logits of an encoder-decoder; `logits_ngram` (batch, ngram - 1, length, words) are those of further ones."""

    logits_ngram: Tensor | None = None


ARCHITECTURE = Architecture(
    "ProphetNet",
    ProphetNetConfig,
    build,
    keys,
    heads={"Model": None, "Encoder": None, "ForConditionalGeneration": generate, "ForCausalLM": generate},
    head_types={
        "Encoder": replace(HEAD_TYPES["EncoderModel"], auto=""),
        "ForCausalLM": HeadType("AutoModelForCausalLM", NgramOutput, words),
        "ForConditionalGeneration": HeadType("AutoModelForSeq2SeqLM", Seq2SeqNgramOutput, words),
    },
    backbone_variants={
        "Encoder": (lambda config: encoder(config, table(config)), encoder_keys),
        "ForCausalLM": (lambda config: decoder(config, table(config)), decoder_keys),
    },
    methods={"_postprocess": postprocess},
    untied_configs=bart.untied_configs,
)
