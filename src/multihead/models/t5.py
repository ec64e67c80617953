"""T5 (Raffel et al., 2019, arXiv:1910.10683) with T5 v1.1 and Flan-T5, and the parts that related families reuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Dense, Head, LanguageModel, at_token, end_token
from ..nn.activations import ACTIVATIONS
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.attention.position_bias import BucketedBias
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.norms import ClampInfinities, RMSNorm
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Dropout, Embedding, Linear
from .common.architecture import Architecture, MakeHead, tie_if_stored_equal, untied_config


@dataclass(kw_only=True)
class T5Config(Config):
    model_type = "t5"
    aliases = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }

    vocab_size: Size = 32128
    d_model: Size = 512
    d_kv: Size = 64
    d_ff: Size = 2048
    num_layers: Count = 6
    num_decoder_layers: Count | None = None
    num_heads: Size = 8
    relative_attention_num_buckets: Size = 32
    relative_attention_max_distance: Size = 128
    dropout_rate: float = 0.1
    classifier_dropout: float = 0.0
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    dense_act_fn: str | None = None
    is_gated_act: bool | None = None
    scale_decoder_outputs: bool | None = None
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    words_apart: bool | None = None  # whether each side has a table of words

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read whether logits are scaled, which files before 2026 express by untied embeddings."""
        return {"scale_decoder_outputs": entries.get("tie_word_embeddings") is not False, **entries}

    def check(self) -> None:
        if self.feed_forward_proj.removeprefix("gated-") not in ACTIVATIONS:
            raise UnsupportedConfig(
                f"feed_forward_proj {self.feed_forward_proj!r} is no activation's name, nor one after 'gated-'."
            )

    @property
    def shares_words(self) -> bool:
        """True if both sides share one embedding table, as T5's files do, whatever the output embeddings are."""
        return not self.words_apart

    @property
    def ties_scores(self) -> bool:
        """True if the output embeddings are the decoder's input embeddings."""
        return self.tie_word_embeddings

    @property
    def scale(self) -> float:
        """Scale of hidden states before the output embeddings."""
        scaled = self.tie_word_embeddings if self.scale_decoder_outputs is None else self.scale_decoder_outputs
        return self.d_model**-0.5 if scaled else 1.0

    @property
    def gated(self) -> bool:
        return self.feed_forward_proj.startswith("gated-") if self.is_gated_act is None else self.is_gated_act

    @property
    def activation(self) -> str:
        if self.dense_act_fn is not None:
            return self.dense_act_fn
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else self.feed_forward_proj.removeprefix("gated-")


def step(config: T5Config, module: nn.Module) -> Residual:
    norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
    return Residual(module, before=norm, after=ClampInfinities(), dropout=config.dropout_rate)


def attention(config: T5Config, kind: type[Attention] = Attention, **options: Any) -> Residual:
    usual = {"head_width": config.d_kv, "bias": False, "scale": 1.0, "dropout": config.dropout_rate}
    return step(config, kind(config.d_model, config.num_heads, **{**usual, **options}))


def feed_forward(config: T5Config) -> Residual:
    """Build a feed-forward; its last product overflows float16, so it and later sums stay in float32."""
    kind = GatedFeedForward if config.gated else FeedForward
    module = kind(config.d_model, config.d_ff, config.activation, bias=False, dropout=config.dropout_rate)
    module.down.widened = (torch.float16,)  # type: ignore[assignment]
    return step(config, module)


def distances(config: T5Config, *, causal: bool) -> BucketedBias:
    buckets, reach = config.relative_attention_num_buckets, config.relative_attention_max_distance
    return BucketedBias(config.num_heads, buckets=buckets, reach=reach, causal=causal)


def stack(config: T5Config, token: nn.Embedding, layers: list[nn.Module]) -> Stack:
    dropout, norm = config.dropout_rate, RMSNorm(config.d_model, config.layer_norm_epsilon)
    return Stack(Embeddings(token, dropout=dropout), layers, norm, Dropout(dropout))


def one_table(config: T5Config, count: int, *, causal: bool) -> list[BucketedBias]:
    """Return T5's position biases: all layers of a side share one table."""
    return [distances(config, causal=causal)] * count


def encoder_layer(config: T5Config, positions: BucketedBias, number: int) -> Layer:
    return Layer(attention(config, positions=positions), feed_forward(config))


def decoder_layer(config: T5Config, positions: BucketedBias, number: int) -> CrossLayer:
    own = attention(config, positions=positions, causal=True)
    return CrossLayer(own, attention(config, CrossAttention), feed_forward(config))


@dataclass(frozen=True)
class Parts:
    """Parts that relatives of T5 build in other ways.

    Args:
        biases: (config, layers, causal) -> each layer's. source, target: (config, its bias, its number) -> a layer.
    """

    biases: Callable[..., list[BucketedBias]] = one_table
    source: Callable[..., nn.Module] = encoder_layer
    target: Callable[..., nn.Module] = decoder_layer


def encoder(config: Any, token: nn.Embedding, parts: Parts) -> Stack:
    positions = parts.biases(config, config.num_layers, causal=False)
    return stack(config, token, [parts.source(config, p, i) for i, p in enumerate(positions)])


def build(config: Any, parts: Parts = Parts()) -> EncoderDecoder:
    source = Embedding(config.vocab_size, config.d_model)
    target = source if config.shares_words else Embedding(config.vocab_size, config.d_model)
    count = config.num_layers if config.num_decoder_layers is None else config.num_decoder_layers
    positions = parts.biases(config, count, causal=True)
    decoder = stack(config, target, [parts.target(config, p, i) for i, p in enumerate(positions)])
    return EncoderDecoder(encoder(config, source, parts), decoder)


def build_encoder(config: Any, parts: Parts = Parts()) -> Stack:
    return encoder(config, Embedding(config.vocab_size, config.d_model), parts)


MODULES = {"attention": "SelfAttention", "cross": "EncDecAttention", "ffn": "DenseReluDense"}  # as files name them


def side_rows(config: Any, ours: str, theirs: str, modules: Mapping[str, str]) -> Rows:
    """Return the key map rows of one side, whose layers have these modules in this order."""
    rows = {f"{ours}norm": f"{theirs}final_layer_norm"}
    up = {"gate": "wi_0", "up": "wi_1"} if config.gated else {"up": "wi"}
    for place, (step, module) in enumerate(modules.items()):
        names = {**up, "down": "wo"} if step == "ffn" else {"q": "q", "k": "k", "v": "v", "out": "o"}
        block = f"{theirs}block.*.layer.{place}"
        rows |= {f"{ours}layers.*.{step}.step.{our}": f"{block}.{module}.{their}" for our, their in names.items()}
        rows[f"{ours}layers.*.{step}.before"] = f"{block}.layer_norm"
    table = f"{theirs}block.*.layer.0.{modules['attention']}.relative_attention_bias"
    return {**rows, f"{ours}layers.*.attention.step.positions.table": table}


def source_rows(config: Any, ours: str, **renamed: str) -> Rows:
    return side_rows(config, ours, "encoder.", {k: renamed.get(k, v) for k, v in MODULES.items() if k != "cross"})


def unused(config: Any) -> tuple[str, ...]:
    """Return patterns of copies of the shared embeddings, and of a bias table that cross-attention never reads."""
    heads = (r"^lm_head\.weight$",) if config.ties_scores else ()
    sides = (r"(encoder|decoder)\.embed_tokens\.weight$",) if config.shares_words else ()
    return (*sides, r"EncDecAttention\.relative_attention_bias\.weight$", *heads)


def table_of(config: Any, sides: Rows, prefixes: tuple[str, ...] = ()) -> KeyMap:
    """Return the key map of both sides: one embedding table, or one for each side beside an unused shared one."""
    if config.shares_words:
        return KeyMap({"encoder.embed.token": "shared", **sides}, prefixes=prefixes, ignored=unused(config))
    tokens = {f"{side}.embed.token": f"{side}.embed_tokens" for side in ("encoder", "decoder")}
    return KeyMap({**tokens, **sides}, prefixes=prefixes, ignored=unused(config), aliases=unread(*prefixes))


def unread(*prefixes: str) -> tuple[tuple[str, str], ...]:
    """Return aliases of a shared table in addition to those of the sides, a copy of the encoder's."""
    return tuple((f"{p}encoder.embed_tokens.weight", f"{p}shared.weight") for p in (*prefixes, ""))


def keys(config: Any) -> KeyMap:
    sides = {**source_rows(config, "encoder."), **side_rows(config, "decoder.", "decoder.", MODULES)}
    return table_of(config, sides, ("transformer.",))


def encoder_keys(config: Any, rows: Callable[[Any, str], Rows] = source_rows) -> KeyMap:
    ignored = (r"^(transformer\.)?decoder\.", r"^lm_head\.weight$", *unused(config))
    words, aliases = ("shared", ()) if config.shares_words else ("encoder.embed_tokens", unread("transformer."))
    return KeyMap(
        {"embed.token": words, **rows(config, "")}, prefixes=("transformer.",), ignored=ignored, aliases=aliases
    )


def untied_configs(config: Any) -> Sequence[Any]:
    """Return configs with separate output embeddings, and then with separate encoder and decoder embeddings too."""
    sides = () if config.words_apart else (config.changed(tie_word_embeddings=False, words_apart=True),)
    return (*untied_config(config), *sides)


def gguf_keys(config: Any) -> KeyMap:
    """Return the key map of llama.cpp's names."""
    rows: dict[str, str | Source] = {"encoder.embed.token": "token_embd", "/table": "output"}
    for ours, theirs, steps in (("encoder", "enc", ("attn",)), ("decoder", "dec", ("attn", "cross_attn"))):
        rows[f"{ours}.norm"] = f"{theirs}.output_norm"
        for step, name in zip(("attention", "cross"), steps, strict=False):
            for our, their in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "o")):
                rows[f"{ours}.layers.*.{step}.step.{our}"] = f"{theirs}.blk.*.{name}_{their}"
            rows[f"{ours}.layers.*.{step}.before"] = f"{theirs}.blk.*.{name}_norm"
        table = Shaped(f"{theirs}.blk.*.attn_rel_b.weight", (-1, config.num_heads), (-1, config.num_heads))
        rows[f"{ours}.layers.*.attention.step.positions.table.weight"] = table
        for name in ("gate", "up", "down"):
            rows[f"{ours}.layers.*.ffn.step.{name}"] = f"{theirs}.blk.*.ffn_{name}"
        rows[f"{ours}.layers.*.ffn.before"] = f"{theirs}.blk.*.ffn_norm"
    copies = (r"^output\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, ignored=(r"cross_attn_rel_b", *copies))


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "d_model": "embedding_length",
        "d_kv": "attention.key_length",
        "d_ff": "feed_forward_length",
        "num_layers": "block_count",
        "num_decoder_layers": "decoder_block_count",
        "num_heads": "attention.head_count",
        "relative_attention_num_buckets": "attention.relative_buckets_count",
        "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
        "decoder_start_token_id": "decoder_start_token_id",
    }
    return {ours: metadata[f"t5.{theirs}"] for ours, theirs in names.items() if f"t5.{theirs}" in metadata}


def as_written(config: Any, stored: Mapping[str, Tensor]) -> Any:
    """Resolve a GGUF file's feed-forwards by its tensors: gated ones are T5 v1.1's."""
    if "enc.blk.0.ffn_gate.weight" in stored and not config.gated:
        return config.changed(feed_forward_proj="gated-gelu", is_gated_act=None, dense_act_fn=None)
    return config


def generate(config: Any, backbone: EncoderDecoder) -> Head:
    if config.ties_scores:
        return Head(LanguageModel(backbone.embed.token, scale=config.scale))
    table = Linear(config.d_model, config.vocab_size, bias=False)
    return Head(LanguageModel(table, scale=config.scale), {"table": "/lm_head"})


def classify_text(config: T5Config, backbone: EncoderDecoder) -> Head:
    """Build a classifier of the decoder's state at the source's end token."""
    dense, end = Dense(config.d_model, "tanh", dropout=config.classifier_dropout), end_token(config)
    head = Classifier(
        config.d_model, config.num_labels, pool=at_token(end), dense=dense, dropout=config.classifier_dropout
    )
    rows = {"dense.linear": "/classification_head.dense", "out": "/classification_head.out_proj"}
    return Head(head, rows, prefix="transformer.")


def classify_tokens(config: T5Config, backbone: Stack) -> Head:
    head = Classifier(config.d_model, config.num_labels, dropout=config.classifier_dropout)
    return Head(head, {"out": "/classifier"}, prefix="transformer.")


def answer(config: T5Config, backbone: EncoderDecoder) -> Head:
    return Head(Classifier(config.d_model, 2), {"out": "/qa_outputs"})


RESOLVE_CONFIG = tie_if_stored_equal("lm_head.weight", "shared.weight")
HEADS: Mapping[str, MakeHead | None] = {
    "Model": None,
    "EncoderModel": None,
    "ForConditionalGeneration": generate,
    "ForSequenceClassification": classify_text,
    "ForTokenClassification": classify_tokens,
    "ForQuestionAnswering": answer,
}
ARCHITECTURE = Architecture(
    "T5",
    T5Config,
    build,
    keys,
    heads=HEADS,
    backbone_variants=dict.fromkeys(("EncoderModel", "ForTokenClassification"), (build_encoder, encoder_keys)),
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
    source_as_target=("ForSequenceClassification", "ForQuestionAnswering"),
    untied_configs=untied_configs,
    resolve_config=lambda config, stored: as_written(RESOLVE_CONFIG(config, stored), stored),
    reads_positions=False,
)
