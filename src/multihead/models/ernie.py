"""ERNIE (Sun et al., 2020, arXiv:1907.12412): BERT whose tokens also have a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..nn.embeddings import Embeddings, check_ids
from ..nn.forward_context import ForwardContext
from ..nn.stack import Stack
from ..nn.weights import Embedding
from . import bert
from .pre_norm_bert import BERT_HEADS


@dataclass(kw_only=True)
class ErnieConfig(bert.BertConfig):
    model_type = "ernie"

    task_type_vocab_size: Size = 3
    use_task_id: bool = False


class TaskEmbeddings(Embeddings):
    """Embeddings of tokens, positions, token types and tasks (`task_type_ids`, by default 0)."""

    def __init__(self, token: nn.Embedding, *, task: nn.Embedding, **options: Any) -> None:
        super().__init__(token, **options)
        self.task = task

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        tasks = context.extra_inputs.get("task_type_ids")
        if tasks is None:
            return super().forward(words + self.task.weight[0], context)
        check_ids(tasks, self.task.num_embeddings, "task_type_id", "table of tasks")
        return super().forward(words + self.task(tasks), context)


def build(config: ErnieConfig) -> Stack:
    own: dict[str, Any] = {}
    if config.use_task_id:
        own = {"kind": TaskEmbeddings, "task": Embedding(config.task_type_vocab_size, config.hidden_size)}
    return Stack(bert.embeddings(config, **own), [bert.layer(config) for _ in range(config.num_hidden_layers)])


def keys(config: ErnieConfig) -> KeyMap:
    rows = {**bert.EMBEDDING_ROWS, **bert.LAYER_ROWS, "embed.task": "embeddings.task_type_embeddings"}
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "cls.predictions"))
    aliases = bert.aliases(config, "cls.predictions")
    return KeyMap(rows, "ernie.", ignored=ignored, renamed=bert.OLD_NORMS, aliases=aliases)


ARCHITECTURE = bert.ARCHITECTURE.derive(
    "Ernie",
    ErnieConfig,
    build,
    keys=keys,
    heads=BERT_HEADS,
    inputs={"task_type_ids": lambda given, layout: layout.pack_tokens(given)},
)
