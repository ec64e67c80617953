"""BART (Lewis et al., 2019, arXiv:1910.13461), and the parts that its many relatives put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import FlatOrZero
from ..config import Config, Count, Size
from ..heads.head_types import HeadType, words
from ..heads.heads import Classifier, Dense, Head, LanguageModel, at_token, end_token
from ..heads.outputs import ScoresOutput
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.embeddings import Embeddings, LearnedPositions, SinusoidalPositions, sinusoids
from ..nn.feedforward import FeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Embedding, LayerNorm, Linear, ScaledEmbedding
from .common.architecture import Architecture, MakeHead, untied_config


@dataclass(kw_only=True)
class BartConfig(Config):
    model_type = "bart"
    norm_eps: ClassVar[float] = 1e-5
    aliases = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: Size = 50265
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
    classifier_dropout: float = 0.0
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    num_labels: Size = 3
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2
    forced_eos_token_id: int | list[int] | None = 2
    words_apart: bool | None = None  # whether each side has a table of words; None for as scores and words are tied

    @property
    def shares_words(self) -> bool:
        """True if encoder and decoder share one embedding table."""
        return self.tie_word_embeddings if self.words_apart is None else not self.words_apart

    @property
    def target_size(self) -> int:
        """Number of tokens that the decoder scores."""
        return self.vocab_size


Scaled = Literal["table", "id", "all"] | None


@dataclass(frozen=True)
class Style:
    """Differences between BART and its relatives.

    Args:
        positions: config -> position embeddings. norm: where the steps' norms stand, as `Residual` calls it; with
            norms before them, each side ends with one more.
        source_norm, target_norm: where embeddings are normed, as `Embeddings` calls it; None for nowhere.
        source_scale, target_scale: what `scale_embedding` multiplies: the "table"'s own vectors, those that are looked
            up by "id", "all" that are read, those given as vectors too; None for nothing.
    """

    positions: Callable[[Any], nn.Module]
    norm: str = "after"
    source_norm: str | None = "norm"
    target_norm: str | None = "norm"
    source_scale: Scaled = "table"
    target_scale: Scaled = "table"

    def step(self, config: Any, module: nn.Module) -> Residual:
        where: dict[str, Any] = {self.norm: LayerNorm(config.d_model, config.norm_eps)}
        return Residual(module, dropout=config.dropout, **where)

    def last(self, config: Any) -> nn.Module | None:
        return LayerNorm(config.d_model, config.norm_eps) if self.norm == "before" else None

    def words(self, config: Any, count: int, scaled: Scaled) -> Embedding:
        """Build an embedding table."""
        if scaled != "table" or not config.scale_embedding:
            return Embedding(count, config.d_model)
        return ScaledEmbedding(count, config.d_model, config.d_model**0.5, rounded=False)

    def embeddings(self, config: Any, token: nn.Embedding, norm: str | None, scaled: Scaled) -> Embeddings:
        where: dict[str, Any] = {norm: LayerNorm(config.d_model, config.norm_eps)} if norm else {}
        if scaled in ("id", "all") and config.scale_embedding:
            where |= {"scale": config.d_model**0.5, "rescales": scaled == "all"}
        return Embeddings(token, position=self.positions(config), dropout=config.dropout, **where)


def learned(config: BartConfig, offset: int = 0) -> LearnedPositions:
    return LearnedPositions(config.max_position_embeddings + offset, config.d_model, offset=offset)


BART = Style(partial(learned, offset=2))


def feed_forward(config: Any, style: Style, inner: int) -> Residual:
    act, dropout = config.activation_function, config.activation_dropout
    return style.step(config, FeedForward(config.d_model, inner, act, dropout=dropout))


def encoder(config: Any, style: Style, token: nn.Embedding) -> Stack:
    def layer() -> Layer:
        attention = Attention(config.d_model, config.encoder_attention_heads, dropout=config.attention_dropout)
        return Layer(style.step(config, attention), feed_forward(config, style, config.encoder_ffn_dim))

    layers = [layer() for _ in range(config.encoder_layers)]
    embed = style.embeddings(config, token, style.source_norm, style.source_scale)
    return Stack(embed, layers, style.last(config), drop=config.encoder_layerdrop)


def self_attention(config: Any) -> nn.Module:
    heads, dropout = config.decoder_attention_heads, config.attention_dropout
    return Attention(config.d_model, heads, causal=True, dropout=dropout)


def decoder(
    config: Any, style: Style, token: nn.Embedding, mixer: Callable[[Any], nn.Module] = self_attention
) -> Stack:
    """Build a decoder; `mixer` makes its self-attention or what replaces it."""

    def layer() -> CrossLayer:
        cross = CrossAttention(config.d_model, config.decoder_attention_heads, dropout=config.attention_dropout)
        ffn = feed_forward(config, style, config.decoder_ffn_dim)
        return CrossLayer(style.step(config, mixer(config)), style.step(config, cross), ffn)

    layers = [layer() for _ in range(config.decoder_layers)]
    embed = style.embeddings(config, token, style.target_norm, style.target_scale)
    return Stack(embed, layers, style.last(config), drop=config.decoder_layerdrop)


def build(config: Any, style: Style = BART, mixer: Callable[[Any], nn.Module] = self_attention) -> EncoderDecoder:
    source = style.words(config, config.vocab_size, style.source_scale)
    target = source if config.shares_words else style.words(config, config.target_size, style.target_scale)
    return EncoderDecoder(encoder(config, style, source), decoder(config, style, target, mixer))


def build_decoder(config: Any, style: Style = BART) -> Stack:
    return decoder(config, style, style.words(config, config.target_size, style.target_scale))


def side_rows(ours: str, theirs: str, style: Style, *, cross: bool) -> Rows:
    """Return the key map rows of the encoder or the decoder."""
    rows = {f"{ours}embed.position.table": f"{theirs}embed_positions", f"{ours}norm": f"{theirs}layer_norm"}
    rows[f"{ours}embed.{style.target_norm if cross else style.source_norm}"] = f"{theirs}layernorm_embedding"
    for step, attention in {"attention": "self_attn", **({"cross": "encoder_attn"} if cross else {})}.items():
        for our, their in {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}.items():
            rows[f"{ours}layers.*.{step}.step.{our}"] = f"{theirs}layers.*.{attention}.{their}"
        rows[f"{ours}layers.*.{step}.{style.norm}"] = f"{theirs}layers.*.{attention}_layer_norm"
    rows[f"{ours}layers.*.ffn.step.up"] = f"{theirs}layers.*.fc1"
    rows[f"{ours}layers.*.ffn.step.down"] = f"{theirs}layers.*.fc2"
    rows[f"{ours}layers.*.ffn.{style.norm}"] = f"{theirs}layers.*.final_layer_norm"
    return rows


def unused(config: Any) -> tuple[str, ...]:
    """Return patterns of unused tensors: computed position tables, tied copies, fairseq's version numbers."""
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    return (r"embed_positions\.weights?$", r"(encoder|decoder)\.version$", *copies)


def computed(config: Any, style: Style) -> tuple[tuple[str, Callable[[int, int], Tensor]], ...]:
    """Return position tables that the family computes and its files may hold."""
    sines = isinstance(style.positions(config), SinusoidalPositions)
    return ((r"embed_positions\.weight$", sinusoids),) if sines else ()


def keys(config: Any, style: Style = BART, prefix: str = "model.") -> KeyMap:
    table = side_keys(config, style, prefix)
    return replace(table, computed=computed(config, style))


def side_keys(config: Any, style: Style, prefix: str) -> KeyMap:
    """Return the key map without computed tables."""
    sides = {side: side_rows(f"{side}.", f"{side}.", style, cross=side == "decoder") for side in ("encoder", "decoder")}
    rows = {**sides["encoder"], **sides["decoder"]}
    if config.shares_words:
        copies = (r"(encoder|decoder)\.embed_tokens\.weight$",)
        rows = {"encoder.embed.token": "shared", **rows}
        return KeyMap(rows, prefix, ignored=(*copies, *unused(config)), aliases=shared_aliases(config, prefix))
    tokens = {f"{side}.embed.token": f"{side}.embed_tokens" for side in ("encoder", "decoder")}
    aliases = tuple(
        (f"{p}encoder.embed_tokens.weight", f"{p}shared.weight") for p in (prefix, "")
    )  # no forward pass reads these
    return KeyMap({**tokens, **rows}, prefix, ignored=unused(config), aliases=aliases)


def shared_aliases(config: Any, *prefixes: str) -> tuple[tuple[str, str], ...]:
    """Return copies of the shared table, which other readers expect where the output embeddings are separate."""
    if config.tie_word_embeddings:
        return ()
    sides = ("encoder", "decoder")
    return tuple((f"{p}shared.weight", f"{p}{side}.embed_tokens.weight") for p in (*prefixes, "") for side in sides)


def untied_configs(config: Any) -> Sequence[Any]:
    """Return configs with separate output embeddings, and then with separate encoder and decoder embeddings too."""
    if config.shares_words:
        sides = config.changed(tie_word_embeddings=False, words_apart=True)
        return (config.changed(tie_word_embeddings=False, words_apart=False), sides)
    return untied_config(config)


def decoder_keys(config: Any, style: Style = BART) -> KeyMap:
    rows = {"embed.token": "embed_tokens", **side_rows("", "", style, cross=True)}
    ignored = (r"^(model\.)?(encoder\.|shared\.)", r"^final_logits_bias$", *unused(config))
    return KeyMap(rows, "model.decoder.", ignored=ignored, computed=computed(config, style))


def table(config: Any, backbone: EncoderDecoder | Stack) -> tuple[nn.Module, Rows]:
    """Return the output embeddings, the decoder's input embeddings when tied, and their key map row."""
    if config.tie_word_embeddings:
        return backbone.embed.token, {}
    return Linear(config.d_model, config.target_size, bias=False), {"table": "/lm_head"}


def generate(config: Any, backbone: EncoderDecoder) -> Head:
    """Build the language model head, with a bias that training does not change."""
    scores, rows = table(config, backbone)
    module = LanguageModel(scores, bias=config.target_size)
    module.bias.requires_grad_(False)  # type: ignore[union-attr]
    return Head(module, {"bias": FlatOrZero("/final_logits_bias"), **rows})


def generate_plain(config: Any, backbone: EncoderDecoder | Stack) -> Head:
    scores, rows = table(config, backbone)
    return Head(LanguageModel(scores), rows)


def classify_text(config: Any, backbone: EncoderDecoder) -> Head:
    """Build a classifier of the decoder's state at the source's end token."""
    width, dropout = config.d_model, config.classifier_dropout
    dense = Dense(width, "tanh", dropout=dropout)
    head = Classifier(width, config.num_labels, pool=at_token(end_token(config)), dense=dense, dropout=dropout)
    return Head(head, {"dense.linear": "/classification_head.dense", "out": "/classification_head.out_proj"})


def answer(config: Any, backbone: EncoderDecoder) -> Head:
    return Head(Classifier(config.d_model, 2), {"out": "/qa_outputs"})


def family(
    name: str, config: type[Config], style: Style, heads: dict[str, MakeHead | None], **more: Any
) -> Architecture:
    """Build the `Architecture` of a relative of BART; the reference's decoder-only class does not shift its labels."""
    return Architecture(
        name,
        config,
        partial(build, style=style),
        partial(keys, style=style),
        heads=heads,
        head_types={"ForCausalLM": HeadType("AutoModelForCausalLM", ScoresOutput, words)},
        backbone_variants={"ForCausalLM": (partial(build_decoder, style=style), partial(decoder_keys, style=style))},
        untied_configs=untied_configs,
        **more,
    )


GENERATION_HEADS: dict[str, MakeHead | None] = {
    "Model": None,
    "ForConditionalGeneration": generate,
    "ForCausalLM": generate_plain,
}
LABEL_HEADS: dict[str, MakeHead | None] = {"ForSequenceClassification": classify_text, "ForQuestionAnswering": answer}
ARCHITECTURE = family(
    "Bart", BartConfig, BART, {**GENERATION_HEADS, **LABEL_HEADS}, source_as_target=(*GENERATION_HEADS, *LABEL_HEADS)
)
