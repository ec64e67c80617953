"""LayoutLM (Xu et al., 2020, arXiv:1912.13318) and LiLT (Wang et al., 2022, arXiv:2202.13669): words with places.

The input `bbox` (batch, length, 4) holds each token's left, upper, right and lower place on a page, from 0 to 1000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import InvalidInput, UnsupportedConfig
from ..nn.attention.layout import LayoutAttention, Streams, StreamStack
from ..nn.embeddings import Embeddings, LearnedPositions, check_ids, places_in
from ..nn.feedforward import FeedForward
from ..nn.forward_context import ForwardContext
from ..nn.layer import Layer, Residual
from ..nn.ragged import Layout
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from . import bert, roberta
from .common.architecture import Architecture

SIDES = ("x", "y", "h", "w")


@dataclass(kw_only=True)
class LayoutLMConfig(bert.BertConfig):
    model_type = "layoutlm"

    max_2d_position_embeddings: Size = 1024
    is_decoder: Literal[False] = False


@dataclass(kw_only=True)
class LiltConfig(LayoutLMConfig):
    model_type = "lilt"
    inert: ClassVar[tuple[str, ...]] = ("channel_shrink",)

    channel_shrink_ratio: Size = 4

    def check(self) -> None:
        super().check()
        if self.hidden_size % 6:
            raise UnsupportedConfig(f"hidden_size {self.hidden_size} cannot be shared by six places.")


class Places(nn.Module):
    """Vectors of boxes (tokens, 4), in the order of the reference: left, upper, right, lower, height, width."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.tables, self.count = nn.ModuleDict({side: Embedding(count, width) for side in SIDES}), count

    def forward(self, boxes: Tensor) -> list[Tensor]:
        left, upper, right, lower = boxes.unbind(-1)
        rows = (("x", left), ("y", upper), ("x", right), ("y", lower), ("h", lower - upper), ("w", right - left))
        for _, numbers in rows:
            check_ids(numbers, self.count, "place in bbox", "table of places")
        return [self.tables[side](numbers) for side, numbers in rows]


def boxes_of(context: ForwardContext) -> Tensor:
    """Return the box of each token, (tokens, 4), zeros where none are given."""
    boxes: Tensor | None = context.extra_inputs.get("bbox")
    return context.positions.new_zeros(len(context.positions), 4) if boxes is None else boxes


class PlaceEmbeddings(Embeddings):
    """Embeddings of tokens, positions, token types and places."""

    def __init__(self, token: nn.Embedding, *, places: Places, **options: Any) -> None:
        super().__init__(token, **options)
        self.places = places

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        return super().forward(words + sum(self.places(boxes_of(context))), context)


class LayoutStreamEmbeddings(Embeddings):
    """Embeddings of tokens, and beside them narrower ones of their places: (tokens, width + layout width)."""

    def __init__(
        self,
        token: nn.Embedding,
        *,
        places: Places,
        narrow: Linear,
        layout_order: LearnedPositions,
        layout_norm: nn.Module,
        **options: Any,
    ) -> None:
        super().__init__(token, **options)
        self.places, self.narrow, self.layout_order, self.layout_norm = places, narrow, layout_order, layout_norm

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        text = super().forward(words, context)
        numbers = places_in(self.layout_order, context)
        layout = self.narrow(torch.cat(self.places(boxes_of(context)), -1)) + self.layout_order(numbers)
        return torch.cat([text, self.dropout(self.layout_norm(layout))], -1)


def build(config: LayoutLMConfig) -> Stack:
    places = Places(config.max_2d_position_embeddings, config.hidden_size)
    embed = bert.embeddings(config, kind=PlaceEmbeddings, places=places)
    return Stack(embed, [bert.layer(config) for _ in range(config.num_hidden_layers)])


def build_lilt(config: LiltConfig) -> StreamStack:
    width, ratio, eps, dropout = (
        config.hidden_size,
        config.channel_shrink_ratio,
        config.layer_norm_eps,
        config.hidden_dropout_prob,
    )
    narrow, inner = width // ratio, config.intermediate_size

    def step(module: nn.Module) -> Residual:
        return Residual(module, after=Streams(LayerNorm(width, eps), LayerNorm(narrow, eps), width), dropout=dropout)

    def layer() -> Layer:
        heads, act = config.num_attention_heads, config.hidden_act
        attention = LayoutAttention(width, narrow, heads, dropout=config.attention_probs_dropout_prob)
        steps = FeedForward(width, inner, act), FeedForward(narrow, inner // ratio, act)
        return Layer(step(attention), step(Streams(*steps, width)))

    pad = config.pad_token_id or 0
    embed = bert.embeddings(
        config,
        padding=pad,
        kind=LayoutStreamEmbeddings,
        places=Places(config.max_2d_position_embeddings, width // 6),
        narrow=Linear(width, narrow),
        layout_order=LearnedPositions(config.max_position_embeddings, narrow, offset=pad + 1, padding=pad),
        layout_norm=LayerNorm(narrow, eps),
    )
    return StreamStack(embed, [layer() for _ in range(config.num_hidden_layers)], width)


def keys(config: LayoutLMConfig) -> KeyMap:
    places = {f"embed.places.tables.{side}": f"embeddings.{side}_position_embeddings" for side in SIDES}
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "cls.predictions"))
    aliases = bert.aliases(config, "cls.predictions")
    rows = {**bert.EMBEDDING_ROWS, **places, **bert.LAYER_ROWS}
    return KeyMap(rows, "layoutlm.", ignored=ignored, renamed=bert.OLD_NORMS, aliases=aliases)


def lilt_keys(config: LiltConfig) -> KeyMap:
    layer = "encoder.layer.*."
    rows: dict[str, Any] = {
        **bert.EMBEDDING_ROWS,
        **{f"embed.places.tables.{side}": f"layout_embeddings.{side}_position_embeddings" for side in SIDES},
        "embed.narrow": "layout_embeddings.box_linear_embeddings",
        "embed.layout_order.table": "layout_embeddings.box_position_embeddings",
        "embed.layout_norm": "layout_embeddings.LayerNorm",
    }
    for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value")):
        rows[f"layers.*.attention.step.{ours}"] = f"{layer}attention.self.{theirs}"
        rows[f"layers.*.attention.step.layout_{ours}"] = f"{layer}attention.self.layout_{theirs}"
    for part, stem in (("first", ""), ("second", "layout_")):
        rows |= {
            f"layers.*.attention.step.out.{part}": f"{layer}attention.{stem}output.dense",
            f"layers.*.attention.after.{part}": f"{layer}attention.{stem}output.LayerNorm",
            f"layers.*.ffn.step.{part}.up": f"{layer}{stem}intermediate.dense",
            f"layers.*.ffn.step.{part}.down": f"{layer}{stem}output.dense",
            f"layers.*.ffn.after.{part}": f"{layer}{stem}output.LayerNorm",
        }
    return KeyMap(rows, "lilt.", ignored=(r"embeddings\.position_ids$",))


def pack_boxes(given: Tensor, layout: Layout) -> Tensor:
    """Pack boxes (batch, length, 4). Raises InvalidInput for another shape."""
    if tuple(given.shape) != (*layout.shape, 4):
        raise InvalidInput(f"bbox needs four places a token, {[*layout.shape, 4]}, not {list(given.shape)}.")
    return layout.pack(given).long()


HEADS = {
    "Model": bert.pooler,
    "ForSequenceClassification": bert.ARCHITECTURE.heads["ForSequenceClassification"],
    "ForMaskedLM": bert.beside_pooler(bert.word_head),
    "ForTokenClassification": bert.beside_pooler(bert.token_classifier),
    "ForQuestionAnswering": bert.beside_pooler(bert.answer),
}
ARCHITECTURE = Architecture("LayoutLM", LayoutLMConfig, build, keys, heads=HEADS, inputs={"bbox": pack_boxes})
LILT = Architecture(
    "Lilt",
    LiltConfig,
    build_lilt,
    lilt_keys,
    heads={
        **{end: roberta.HEADS[end] for end in ("Model", "ForSequenceClassification")},
        **{end: roberta.HEADS[end] for end in ("ForTokenClassification", "ForQuestionAnswering")},
    },
    inputs={"bbox": pack_boxes},
)
