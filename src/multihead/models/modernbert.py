"""ModernBERT (Warner et al., 2024, arXiv:2412.13663): rotary, gated, most layers see only what is near."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, Source
from ..config import Count, Size
from ..heads.heads import Classifier, Head, LanguageModel, Transform, average, every, first
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from .common import gguf
from .common.architecture import Architecture
from .common.patterns import FULL, SLIDING, layer_kinds, layered_rope_entries, rotary_by_layer
from .common.rotary_config import RotaryConfig

BASES = {FULL: 160000.0, SLIDING: 10000.0}


@dataclass(kw_only=True)
class ModernBertConfig(RotaryConfig):
    model_type = "modernbert"
    inert: ClassVar[tuple[str, ...]] = ("layer_norm_eps", "position_embedding_type")

    vocab_size: Size = 50368
    hidden_size: Size = 768
    intermediate_size: Size = 1152
    num_hidden_layers: Count = 22
    num_attention_heads: Size = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: Size = 8192
    initializer_range: float = 0.02
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    attention_dropout: float = 0.0
    layer_types: list[str] | None = None
    global_attn_every_n_layers: Size = 3
    local_attention: Size = 128
    embedding_dropout: float = 0.0
    mlp_bias: bool = False
    mlp_dropout: float = 0.0
    decoder_bias: bool = True
    classifier_pooling: Literal["cls", "mean"] = "cls"
    classifier_dropout: float = 0.0
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    pad_token_id: int | None = 50283
    bos_token_id: int | None = 50281
    eos_token_id: int | list[int] | None = 50282

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read the rotary bases, which files before 2026 name global_rope_theta and local_rope_theta."""
        entries = dict(entries)
        old = {FULL: entries.pop("global_rope_theta", None), SLIDING: entries.pop("local_rope_theta", None)}
        thetas = {kind: base if old[kind] is None else old[kind] for kind, base in BASES.items()}
        return layered_rope_entries(entries, thetas, scaled=(FULL, SLIDING))

    @property
    def kinds(self) -> list[str]:
        usual = [SLIDING if i % self.global_attn_every_n_layers else FULL for i in range(self.num_hidden_layers)]
        return layer_kinds(self, usual)


def norm(config: ModernBertConfig) -> LayerNorm:
    return LayerNorm(config.hidden_size, config.norm_eps, bias=config.norm_bias)


def build(config: ModernBertConfig) -> Stack:
    width, heads = config.hidden_size, config.num_attention_heads
    positions = rotary_by_layer(config, width // heads)

    def layer(i: int, kind: str) -> Layer:
        attention = Attention(
            width,
            heads,
            bias=config.attention_bias,
            positions=positions[kind],
            window=config.local_attention // 2 + 1 if kind == SLIDING else None,
            dropout=config.attention_dropout,
        )
        ffn = GatedFeedForward(
            width,
            config.intermediate_size,
            config.hidden_activation,
            bias=config.mlp_bias,
            dropout=config.mlp_dropout,
        )
        first_norm = norm(config) if i else None  # the embeddings are normed already
        return Layer(
            Residual(attention, before=first_norm, dropout=config.attention_dropout),
            Residual(ffn, before=norm(config)),
        )

    embed = Embeddings(Embedding(config.vocab_size, width), norm=norm(config), dropout=config.embedding_dropout)
    return Stack(embed, [layer(i, kind) for i, kind in enumerate(config.kinds)], norm(config))


def keys(config: ModernBertConfig) -> KeyMap:
    width, inner = config.hidden_size, config.intermediate_size
    rows: dict[str, str | Source] = {
        "embed.token": "embeddings.tok_embeddings",
        "embed.norm": "embeddings.norm",
        "layers.*.attention.before": "layers.*.attn_norm",
        "layers.*.attention.step.out": "layers.*.attn.Wo",
        "layers.*.ffn.before": "layers.*.mlp_norm",
        "layers.*.ffn.step.down": "layers.*.mlp.Wo",
        "norm": "final_norm",
    }
    for index, name in enumerate("qkv"):
        rows[f"layers.*.attention.step.{name}"] = Part("layers.*.attn.Wqkv", (width,) * 3, index)
    for index, name in enumerate(("gate", "up")):
        rows[f"layers.*.ffn.step.{name}"] = Part("layers.*.mlp.Wi", (inner,) * 2, index)
    copies = (r"^decoder\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "model.", ignored=copies)


def gguf_keys(config: ModernBertConfig) -> KeyMap:
    """Return the key map of llama.cpp's names, without its head."""
    rows: dict[str, str | Source] = {
        "embed.token": "token_embd",
        "embed.norm": "token_embd_norm",
        "layers.*.attention.before": "blk.*.attn_norm",
        "layers.*.attention.step.out": "blk.*.attn_output",
        "layers.*.ffn.before": "blk.*.ffn_norm",
        "layers.*.ffn.step.down": "blk.*.ffn_down",
        "norm": "output_norm",
    }
    for index, name in enumerate("qkv"):
        rows[f"layers.*.attention.step.{name}"] = Part("blk.*.attn_qkv", (config.hidden_size,) * 3, index)
    for index, name in enumerate(("gate", "up")):
        rows[f"layers.*.ffn.step.{name}"] = Part("blk.*.ffn_up", (config.intermediate_size,) * 2, index)
    return KeyMap(rows, ignored=(r"^cls\.",))


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    found = gguf.entries(metadata, (*names, "vocab_size"))
    own = gguf.named(
        metadata, local_attention="attention.sliding_window", norm_eps="attention.layer_norm_epsilon",
        local_rope_theta="rope.freq_base_swa",
    )  # fmt: skip
    wide = {"global_rope_theta": found.pop("rope_theta")} if "rope_theta" in found else {}
    return {**found, **own, **wide}


def transform(config: ModernBertConfig) -> Transform:
    width = config.hidden_size
    biases = {"bias": config.classifier_bias, "norm_bias": config.norm_bias}
    return Transform(width, width, config.classifier_activation, config.norm_eps, **biases)


def word_head(config: ModernBertConfig, backbone: Stack) -> Head:
    tied = config.tie_word_embeddings
    table: nn.Module = backbone.embed.token if tied else Linear(config.hidden_size, config.vocab_size, bias=False)
    bias = config.vocab_size if config.decoder_bias else None
    rows = {"transform.dense": "/head.dense", "transform.norm": "/head.norm", "bias": "/decoder.bias"}
    rows = rows if tied else {**rows, "table": "/decoder"}
    return Head(LanguageModel(table, transform=transform(config), bias=bias), rows)


def classifier(config: ModernBertConfig, labels: int, *, texts: bool) -> Head:
    pool = {"cls": first, "mean": average}[config.classifier_pooling] if texts else every
    dense = transform(config)
    head = Classifier(config.hidden_size, labels, pool=pool, dense=dense, dropout=config.classifier_dropout)
    return Head(head, {"dense.dense": "/head.dense", "dense.norm": "/head.norm", "out": "/classifier"})


ARCHITECTURE = Architecture(
    "ModernBert",
    ModernBertConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": lambda config, backbone: classifier(config, config.num_labels, texts=True),
        "ForMultipleChoice": lambda config, backbone: classifier(config, 1, texts=True),
        "ForTokenClassification": lambda config, backbone: classifier(config, config.num_labels, texts=False),
        "ForQuestionAnswering": lambda config, backbone: classifier(config, 2, texts=False),
    },
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
