"""DeBERTa (He et al., 2020, arXiv:2006.03654): BERT that scores words and distances against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import PerHead, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Dense, Head, LanguageModel, Transform, first
from ..nn.attention.attention import Attention
from ..nn.attention.disentangled import DisentangledBias, Distances, disentangled_scale
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from . import bert
from .common.architecture import Architecture

KINDS = ("c2p", "p2c")  # words with distances, distances with words


@dataclass(kw_only=True)
class DebertaConfig(Config):
    model_type = "deberta"

    vocab_size: Size = 50265
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    cls_dropout: float | None = None
    max_position_embeddings: Size = 512
    type_vocab_size: int = 0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-7
    relative_attention: bool = False
    max_relative_positions: int = -1
    position_biased_input: bool = True
    pos_att_type: list[str] | None = None
    pooler_dropout: float = 0.0
    pooler_hidden_act: str = "gelu"
    pooler_hidden_size: Size | None = None
    embedding_size: Size | None = None
    talking_head: Literal[False] = False
    legacy: bool = True
    pad_token_id: int | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Split the kinds of scores, which older files write as one string, `c2p|p2c`."""
        kinds = entries.get("pos_att_type")
        if isinstance(kinds, str):
            entries = {**entries, "pos_att_type": [kind.strip() for kind in kinds.lower().split("|") if kind.strip()]}
        return entries

    def check(self) -> None:
        for name in ("pooler_hidden_size", "embedding_size"):
            if getattr(self, name) not in (None, self.hidden_size):
                raise UnsupportedConfig(f"{name} {getattr(self, name)} differs from hidden_size {self.hidden_size}.")
        if unknown := set(self.kinds) - set(KINDS):
            raise UnsupportedConfig(f"pos_att_type may hold {', '.join(KINDS)}, not {', '.join(sorted(unknown))}.")

    @property
    def kinds(self) -> Sequence[str]:
        return self.pos_att_type or ()

    @property
    def reach(self) -> int:
        return self.max_relative_positions if self.max_relative_positions >= 1 else self.max_position_embeddings


def embeddings(config: DebertaConfig) -> Embeddings:
    width = config.hidden_size
    return Embeddings(
        Embedding(config.vocab_size, width),
        position=LearnedPositions(config.max_position_embeddings, width) if config.position_biased_input else None,
        segment=Embedding(config.type_vocab_size, width) if config.type_vocab_size else None,
        typed=True,
        norm=LayerNorm(width, config.layer_norm_eps),
        dropout=config.hidden_dropout_prob,
    )


def layer(config: DebertaConfig, attention: Attention) -> Layer:
    def step(module: nn.Module) -> Residual:
        norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        return Residual(module, after=norm, dropout=config.hidden_dropout_prob)

    ffn = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act)
    return Layer(step(attention), step(ffn))


def build(config: DebertaConfig) -> Stack:
    width, heads, kinds = config.hidden_size, config.num_attention_heads, config.kinds
    scale = disentangled_scale(width // heads, len(kinds))
    distances = Distances(width, config.reach)

    def positions() -> Positions:
        key = Linear(width, width, bias=False) if "c2p" in kinds else None
        query = Linear(width, width) if "p2c" in kinds else None
        return DisentangledBias(distances, key, query, scale, config.hidden_dropout_prob)

    def attention() -> Attention:
        return Attention(
            width,
            heads,
            positions=positions() if config.relative_attention else None,
            scale=scale,
            projections={"k": Linear(width, width, bias=False)},
            dropout=config.attention_probs_dropout_prob,
        )

    return Stack(embeddings(config), [layer(config, attention()) for _ in range(config.num_hidden_layers)])


def ignored(config: DebertaConfig) -> tuple[str, ...]:
    """Return patterns of copies and of pre-training heads that no class has here."""
    unused = (
        ()
        if config.relative_attention
        else (r"encoder\.rel_embeddings\.weight$", r"encoder\.LayerNorm\.(weight|bias)$")
    )
    heads = (r"^lm_predictions\.", r"^mask_predictions\.", r"^cls\.predictions\.decoder\.bias$")
    positions = r"embeddings\.position_(ids|embeddings\.weight)$"
    return (positions, *heads, *unused, *bert.copies(config, "cls.predictions"))


def keys(config: DebertaConfig) -> KeyMap:
    stem, ours, heads = "encoder.layer.*.attention.self", "layers.*.attention.step", config.num_attention_heads
    rows: dict[str, str | Source] = {
        **bert.EMBEDDING_ROWS,
        **bert.LAYER_ROWS,
        **{f"{ours}.{n}.weight": PerHead(f"{stem}.in_proj.weight", heads, (1, 1, 1), i) for i, n in enumerate("qkv")},
        f"{ours}.q.bias": f"{stem}.q_bias",
        f"{ours}.v.bias": f"{stem}.v_bias",
        f"{ours}.positions.key": f"{stem}.pos_proj",
        f"{ours}.positions.query": f"{stem}.pos_q_proj",
        f"{ours}.positions.distances.table": "encoder.rel_embeddings",
    }
    for name in "qkv":
        rows.pop(f"{ours}.{name}")
    aliases = bert.aliases(config, "cls.predictions")
    return KeyMap(rows, "deberta.", ignored=ignored(config), renamed=bert.OLD_NORMS, aliases=aliases)


def word_head(config: DebertaConfig, backbone: Stack) -> Head:
    if config.legacy:
        return bert.word_head(config, backbone)  # type: ignore[arg-type]
    width = config.hidden_size
    transform = Transform(width, width, config.hidden_act, config.layer_norm_eps)
    names = {"transform.dense": "dense", "transform.norm": "LayerNorm", "bias": "bias"}
    head = LanguageModel(backbone.embed.token, transform=transform, bias=config.vocab_size)
    return Head(head, {ours: f"/lm_predictions.lm_head.{theirs}" for ours, theirs in names.items()})


def classifier(config: DebertaConfig, labels: int) -> Head:
    dropout = config.hidden_dropout_prob if config.cls_dropout is None else config.cls_dropout
    dense = Dense(config.hidden_size, config.pooler_hidden_act, dropout=config.pooler_dropout)
    head = Classifier(config.hidden_size, labels, pool=first, dense=dense, dropout=dropout)
    return Head(head, {"dense.linear": "/pooler.dense", "out": "/classifier"})


def token_classifier(config: DebertaConfig, backbone: Stack) -> Head:
    head = Classifier(config.hidden_size, config.num_labels, dropout=config.hidden_dropout_prob)
    return Head(head, {"out": "/classifier"})


def as_stored(config: DebertaConfig, stored: Mapping[str, Tensor]) -> DebertaConfig:
    """Set `legacy` by the tensors: Microsoft's checkpoints store the MLM head under other names."""
    legacy = any(name.startswith("cls.predictions.") for name in stored)
    own = any(name.startswith("lm_predictions.") for name in stored)
    return config.changed(legacy=False) if config.legacy and own and not legacy else config


ARCHITECTURE = Architecture(
    "Deberta",
    DebertaConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": lambda config, backbone: classifier(config, config.num_labels),
        "ForTokenClassification": token_classifier,
        "ForQuestionAnswering": bert.answer,
    },
    resolve_config=as_stored,
)
