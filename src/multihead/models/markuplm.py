"""MarkupLM (Li et al., 2022, arXiv:2110.08518): RoBERTa whose tokens also have a path in a tree of markup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import InvalidInput
from ..nn.embeddings import Embeddings, check_ids
from ..nn.feedforward import FeedForward
from ..nn.forward_context import ForwardContext
from ..nn.ragged import Layout
from ..nn.stack import Stack
from ..nn.weights import Embedding, Linear
from . import bert
from .common.architecture import Architecture

TAGS, SUBSCRIPTS = "xpath_tags_seq", "xpath_subs_seq"


@dataclass(kw_only=True)
class MarkupLMConfig(bert.BertConfig):
    model_type = "markuplm"

    max_xpath_tag_unit_embeddings: Size = 256
    max_xpath_subs_unit_embeddings: Size = 1024
    tag_pad_id: int = 216
    subs_pad_id: int = 1001
    xpath_unit_hidden_size: Size = 32
    max_depth: Size = 50
    is_decoder: Literal[False] = False
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


class PathEmbeddings(Embeddings):
    """Embeddings of tokens, positions, token types and paths.

    Args:
        tags, subscripts: tables of each step of a path. inner: from the path's vectors to the tokens' width.
        pads: the ids of a step that is not there, of tags and of subscripts.
        carried: a layer that checkpoints store and no pass reads.
    """

    def __init__(
        self,
        token: nn.Embedding,
        *,
        tags: list[nn.Embedding],
        subscripts: list[nn.Embedding],
        inner: FeedForward,
        carried: Linear,
        pads: tuple[int, int],
        **options: Any,
    ) -> None:
        super().__init__(token, **options)
        self.tags, self.subscripts, self.inner, self.pads = nn.ModuleList(tags), nn.ModuleList(subscripts), inner, pads
        self.carried = carried.requires_grad_(False)

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        parts = []
        for name, tables, pad in ((TAGS, self.tags, self.pads[0]), (SUBSCRIPTS, self.subscripts, self.pads[1])):
            ids = context.extra_inputs.get(name)
            if ids is None:
                ids = torch.full((len(context.positions), len(tables)), pad, device=context.positions.device)
            check_ids(ids, tables[0].num_embeddings, name, "table")  # type: ignore[arg-type]
            parts.append(torch.cat([table(ids[:, step]) for step, table in enumerate(tables)], -1))
        return super().forward(words + self.inner(parts[0] + parts[1]), context)


def build(config: MarkupLMConfig) -> Stack:
    unit, width = config.xpath_unit_hidden_size, config.hidden_size

    def tables(count: int) -> list[nn.Embedding]:
        return [Embedding(count, unit) for _ in range(config.max_depth)]

    inner = FeedForward(unit * config.max_depth, 4 * width, "relu", dropout=config.hidden_dropout_prob,
                        down=Linear(4 * width, width))  # fmt: skip
    embed = bert.embeddings(
        config,
        padding=config.pad_token_id or 0,
        kind=PathEmbeddings,
        tags=tables(config.max_xpath_tag_unit_embeddings),
        subscripts=tables(config.max_xpath_subs_unit_embeddings),
        inner=inner,
        carried=Linear(unit * config.max_depth, width),
        pads=(config.tag_pad_id, config.subs_pad_id),
    )
    return Stack(embed, [bert.layer(config) for _ in range(config.num_hidden_layers)])


def keys(config: MarkupLMConfig) -> KeyMap:
    paths = "embeddings.xpath_embeddings"
    rows = {
        **bert.EMBEDDING_ROWS,
        "embed.tags.*": f"{paths}.xpath_tag_sub_embeddings.*",
        "embed.subscripts.*": f"{paths}.xpath_subs_sub_embeddings.*",
        "embed.carried": f"{paths}.xpath_unitseq2_embeddings",
        "embed.inner.up": f"{paths}.xpath_unitseq2_inner",
        "embed.inner.down": f"{paths}.inner2emb",
        **bert.LAYER_ROWS,
    }
    ignored = (r"embeddings\.position_ids$", r"^cls\.")
    return KeyMap(rows, "markuplm.", ignored=ignored, renamed=bert.OLD_NORMS)


def pack_path(given: Tensor, layout: Layout) -> Tensor:
    """Pack one path a token, (batch, length, depth). Raises InvalidInput for another shape."""
    if given.ndim != 3 or tuple(given.shape[:2]) != layout.shape:
        raise InvalidInput(f"One path a token is needed, {[*layout.shape, 'depth']}, not {list(given.shape)}.")
    return layout.pack(given).long()


ENDS = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
ARCHITECTURE = Architecture(
    "MarkupLM",
    MarkupLMConfig,
    build,
    keys,
    heads={end: bert.ARCHITECTURE.heads[end] for end in ENDS},
    inputs={TAGS: pack_path, SUBSCRIPTS: pack_path},
)
