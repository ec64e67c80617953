"""RoCBert (Su et al., 2022, ACL): BERT for Chinese whose tokens also have a shape and a pronunciation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Size
from ..heads import losses
from ..heads.head_types import HeadType, pack_labels
from ..heads.outputs import ScoresOutput
from ..nn.embeddings import Embeddings, check_ids
from ..nn.forward_context import ForwardContext
from ..nn.ragged import Layout
from ..nn.stack import Stack
from ..nn.weights import Embedding, Linear
from . import bert

INPUTS = {"shape": "input_shape_ids", "pronunciation": "input_pronunciation_ids"}


@dataclass(kw_only=True)
class RoCBertConfig(bert.BertConfig):
    model_type = "roc_bert"

    enable_pronunciation: bool = True
    enable_shape: bool = True
    pronunciation_embed_dim: Size = 768
    pronunciation_vocab_size: Size = 910
    shape_embed_dim: Size = 512
    shape_vocab_size: Size = 24858
    concat_input: bool = True


class GlyphEmbeddings(Embeddings):
    """Embeddings of tokens, and of what they look and sound like.

    Args:
        shape, pronunciation: their tables. joined: maps the three vectors side by side to one; None for their mean
            after the norm. read: which of the two are read.
    """

    def __init__(
        self,
        token: nn.Embedding,
        *,
        shape: nn.Embedding,
        pronunciation: nn.Embedding,
        joined: Linear | None,
        read: tuple[str, ...],
        **options: Any,
    ) -> None:
        super().__init__(token, **options)
        self.shape, self.pronunciation, self.joined, self.read = shape, pronunciation, joined, read

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        given = {name: context.extra_inputs.get(INPUTS[name]) for name in self.read}
        if self.joined is not None:
            first = torch.zeros_like(context.positions)  # id 0 where none are given
            found = [self._vectors(name, first if ids is None else ids) for name, ids in given.items()]
            return super().forward(self.joined(torch.cat([words, *found], -1)), context)
        found = [self._vectors(name, ids) for name, ids in given.items() if ids is not None]
        x = super().forward(words, context)
        return torch.stack([x, *found]).sum(0) / (len(found) + 1) if found else x

    def _vectors(self, name: str, ids: Tensor) -> Tensor:
        table: nn.Embedding = getattr(self, name)
        check_ids(ids, table.num_embeddings, INPUTS[name], f"table of {name}s")
        return table(ids)


def build(config: RoCBertConfig) -> Stack:
    widths = {"shape": config.shape_embed_dim, "pronunciation": config.pronunciation_embed_dim}
    read = tuple(name for name in widths if getattr(config, f"enable_{name}"))
    width = config.hidden_size
    embed = bert.embeddings(
        config,
        kind=GlyphEmbeddings,
        shape=Embedding(config.shape_vocab_size, widths["shape"]),
        pronunciation=Embedding(config.pronunciation_vocab_size, widths["pronunciation"]),
        joined=Linear(width + sum(widths[name] for name in read), width) if config.concat_input else None,
        read=read,
    )
    return Stack(embed, [bert.layer(config) for _ in range(config.num_hidden_layers)])


def keys(config: RoCBertConfig) -> KeyMap:
    names = {"shape": "shape_embed", "pronunciation": "pronunciation_embed", "joined": "map_inputs_layer"}
    own = {f"embed.{ours}": f"embeddings.{theirs}" for ours, theirs in names.items()}
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "cls.predictions"))
    aliases = bert.aliases(config, "cls.predictions")
    return KeyMap({**bert.EMBEDDING_ROWS, **own, **bert.LAYER_ROWS}, "roc_bert.", ignored=ignored, aliases=aliases)


def restored(raw: Tensor, layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    """Return logits of words, with the loss of those that an attack replaced."""
    known = labels.get("labels_input_ids")
    loss = None if known is None else losses.words(raw, pack_labels(layout, known))
    return {"loss": loss, "logits": layout.unpack(raw)}


ENDS = ("ForSequenceClassification", "ForMultipleChoice", "ForTokenClassification", "ForQuestionAnswering")
ARCHITECTURE = bert.ARCHITECTURE.derive(
    "RoCBert",
    RoCBertConfig,
    build,
    keys=keys,
    heads={
        **{end: bert.ARCHITECTURE.heads[end] for end in ("Model", "ForMaskedLM", *ENDS)},
        "ForCausalLM": bert.word_head,
        "ForPreTraining": bert.beside_pooler(bert.word_head),
    },
    head_types={
        "ForPreTraining": HeadType("AutoModelForPreTraining", ScoresOutput, restored, labels=("labels_input_ids",))
    },
    inputs={name: lambda given, layout: layout.pack_tokens(given).long() for name in INPUTS.values()},
)
