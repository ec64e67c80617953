"""TAPAS (Herzig et al., 2020, arXiv:2004.02349): BERT over a question and a table, which chooses cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Copies, Size
from ..errors import InvalidInput, UnsupportedConfig
from ..heads.head_types import HeadType, pack_labels
from ..heads.heads import Dense, Head
from ..heads.outputs import Output
from ..nn.embeddings import LearnedPositions
from ..nn.ragged import Layout
from ..nn.stack import Stack
from ..nn.table_cells import CellChoice, TableEmbeddings, choice_loss
from ..nn.weights import Embedding, LayerNorm
from . import bert
from .common.architecture import Architecture

SEVEN = (3, 256, 256, 2, 256, 256, 10)


@dataclass(kw_only=True)
class TapasConfig(bert.BertConfig):
    model_type = "tapas"
    inert = (  # of training by answers alone, and of labels' cells
        *("positive_label_weight", "answer_loss_importance", "use_normalized_answer_loss", "huber_loss_delta"),
        *("aggregation_temperature", "use_gumbel_for_cells", "use_gumbel_for_aggregation", "answer_loss_cutoff"),
        *("average_approximation_function", "cell_selection_preference", "average_logits_per_cell"),
        *("init_cell_selection_weights_to_zero", "type_vocab_size", "softmax_temperature"),
    )
    classifier_dropout: ClassVar[None] = None  # type: ignore[misc]

    max_position_embeddings: Size = 1024
    type_vocab_sizes: list[int] | tuple[int, ...] = SEVEN
    num_aggregation_labels: int = 0
    aggregation_loss_weight: float = 1.0
    use_answer_as_supervision: bool | None = None
    temperature: float = 1.0
    max_num_rows: Copies = 64
    max_num_columns: Copies = 32
    select_one_column: Literal[True] = True
    allow_empty_column_selection: bool = False
    reset_position_index_per_cell: bool = True
    disable_per_token_loss: bool = False
    aggregation_labels: dict[Any, Any] | None = None
    no_aggregation_label_index: int | None = None
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Drop the older name of the sizes of types, which files have beside the current one."""
        old = entries.get("type_vocab_size")
        entries = {name: value for name, value in super().normalized(entries).items() if name != "type_vocab_size"}
        return {**({"type_vocab_sizes": old} if isinstance(old, list) else {}), **entries}

    def check(self) -> None:
        super().check()
        if len(self.type_vocab_sizes) != len(SEVEN) or not all(0 < size < 2**20 for size in self.type_vocab_sizes):
            raise UnsupportedConfig(f"type_vocab_sizes = {self.type_vocab_sizes} must be the sizes of seven types.")


def build(config: TapasConfig) -> Stack:
    width = config.hidden_size
    embed = TableEmbeddings(
        Embedding(config.vocab_size, width),
        config.type_vocab_sizes,
        width,
        by_cell=config.reset_position_index_per_cell,
        position=LearnedPositions(config.max_position_embeddings, width),
        norm=LayerNorm(width, config.layer_norm_eps),
        dropout=config.hidden_dropout_prob,
    )
    return Stack(embed, [bert.layer(config) for _ in range(config.num_hidden_layers)])


def keys(config: TapasConfig) -> KeyMap:
    table = bert.keys(config)
    rows = {ours: theirs for ours, theirs in table.rows.items() if ours != "embed.segment"}
    return replace(table, rows={**rows, "embed.kinds.*": "embeddings.token_type_embeddings_*"}, prefix="tapas.")


def choose(config: TapasConfig, backbone: Stack) -> Head:
    """Build the scores of cells and aggregations."""
    module = CellChoice(
        config.hidden_size,
        rows=config.max_num_rows,
        columns=config.max_num_columns,
        kinds=len(config.type_vocab_sizes),
        temperature=config.temperature,
        empty=config.allow_empty_column_selection,
        dense=Dense(config.hidden_size, "tanh"),
        aggregations=config.num_aggregation_labels,
        dropout=config.hidden_dropout_prob,
    )
    rows = {"cell": "/output_weights", "cell_bias": "/output_bias", "aggregate": "/aggregation_classifier"}
    rows |= {"column": "/column_output_weights", "column_bias": "/column_output_bias"}
    return Head(module, {**rows, "dense.linear": "pooler.dense"})


@dataclass
class TableOutput(Output):
    """Logits of tokens (batch, length), lowest outside the chosen column, and of aggregations (batch, aggregations)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    logits_aggregation: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def chosen(raw: dict[str, Any], layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    """Return logits, with the loss of labeled cells and aggregations. Raises InvalidInput for what is not labeled."""
    loss = None
    if "labels" in labels:
        if config.use_answer_as_supervision and config.num_aggregation_labels:
            raise InvalidInput("use_answer_as_supervision: a loss of answers alone is not computed here.")
        each = choice_loss(raw, pack_labels(layout, labels["labels"]))
        loss = each.mean() * (0.0 if config.disable_per_token_loss else 1.0)
        if config.num_aggregation_labels:
            if "aggregation_labels" not in labels:
                raise InvalidInput("A model of aggregations needs aggregation_labels beside labels.")
            known = labels["aggregation_labels"].flatten()
            own = nn.functional.cross_entropy(raw["logits_aggregation"].float(), known)
            loss = loss + config.aggregation_loss_weight * own
    logits = layout.unpack(raw["logits"])
    return {"loss": loss, "logits": logits, "logits_aggregation": raw["logits_aggregation"]}


def pack_types(given: Tensor, layout: Layout) -> Tensor:
    """Pack types (batch, length, kinds) to (tokens, kinds). Raises InvalidInput for another shape."""
    if given.ndim != 3 or tuple(given.shape[:2]) != layout.shape:
        raise InvalidInput(f"token_type_ids have shape {list(given.shape)}; the inputs have {list(layout.shape)}.")
    return layout.pack(given).long()


ARCHITECTURE = Architecture(
    "Tapas",
    TapasConfig,
    build,
    keys,
    heads={
        "Model": bert.pooler,
        "ForMaskedLM": bert.word_head,
        "ForSequenceClassification": lambda config, backbone: bert.classifier(config, config.num_labels, "/classifier"),
        "ForQuestionAnswering": choose,
    },
    head_types={
        "ForQuestionAnswering": HeadType(
            "AutoModelForTableQuestionAnswering", TableOutput, chosen, labels=("labels", "aggregation_labels")
        )
    },
    inputs={"token_type_ids": pack_types},
)
