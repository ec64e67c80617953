"""table-question-answering by a model that chooses cells and what is done with them (TAPAS, arXiv:2004.02349)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import MultiheadError
from ..base import ForwardPipeline, PipelineOptions
from ..streaming_batcher import ModelInput, Preprocessed
from .pipeline import TableQuery, TableQuestionPipeline

COLUMN, ROW, EARLIER = 1, 2, 3  # among a token's types


@dataclass(frozen=True, kw_only=True)
class ChosenCellsOptions(PipelineOptions):
    """Options of table-question-answering by chosen cells.

    Args:
        truncation: leaves out rows that do not fit. sequential: questions follow each other, and each one's model input
            marks the cells that answer the one before, as models of conversations need (SQA).
        threshold: least probability of a cell that answers.
    """

    truncation: bool = True
    sequential: bool = False
    threshold: float = 0.5


class ChosenCells(TableQuestionPipeline, ForwardPipeline):
    """Answers with cells: `{"answer", "coordinates", "cells"}`, and "aggregator" where the model has aggregations."""

    auto = "AutoModelForTableQuestionAnswering"
    Options: ClassVar[type[PipelineOptions]] = ChosenCellsOptions

    def preprocess(self, items: Sequence[TableQuery], o: ChosenCellsOptions) -> list[Preprocessed]:
        found: list[Preprocessed] = []
        for item in items:
            try:
                encoded = self.tokenizer.encode_table(
                    item.columns, item.rows, item.query, max_length=None, fit=o.truncation
                )
            except MultiheadError as error:
                found.append(error)
                continue
            found.append([ModelInput(encoded.ids, encoded.types, (item.columns, item.rows))])
        return found

    def forward(self, inputs: Sequence[ModelInput], o: ChosenCellsOptions) -> list[Any]:
        if not o.sequential:
            return super().forward(inputs, o)
        outputs: list[Any] = []
        for number, each in enumerate(inputs):
            if number and each.note == inputs[number - 1].note and isinstance(outputs[-1], Tensor):
                chosen = set(cells_of(inputs[number - 1], outputs[-1], o.threshold))
                for types in each.token_types or ():
                    types[EARLIER] = int((types[ROW] - 1, types[COLUMN] - 1) in chosen)  # type: ignore[index]
            outputs += super().forward([each], o)
        return outputs

    def forward_batch(self, inputs: Sequence[ModelInput], o: Any) -> Sequence[Any]:
        """Return for each question the logits of its tokens, then those of the aggregations; float32."""
        result = self.model.run([each.ids for each in inputs], [each.token_types or () for each in inputs])
        logits = result.scores["logits"].float().cpu().split(result.runs.lengths)
        actions = result.scores["logits_aggregation"]
        if actions is None:
            return logits
        return [torch.cat(pair) for pair in zip(logits, actions.float().cpu(), strict=True)]

    def postprocess(
        self, item: TableQuery, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: ChosenCellsOptions
    ) -> Any:
        config, scores = self.model.config, outputs[0]
        coordinates = cells_of(inputs[0], scores, o.threshold)
        cells = [item.rows[row][column] for row, column in coordinates]
        record: dict[str, Any] = {"answer": ", ".join(cells), "coordinates": coordinates, "cells": cells}
        if not (config.aggregation_labels and config.num_aggregation_labels):
            return record
        action = int(scores[len(inputs[0].ids) :].argmax())
        names = {int(number): name for number, name in config.aggregation_labels.items()}
        lead = "" if action == config.no_aggregation_label_index else f"{names[action]} > "
        record = {**record, "answer": lead + record["answer"]}
        return {**record, "aggregator": names[action]} if names[action] else record


def cells_of(question: Any, scores: Tensor, threshold: float) -> list[tuple[int, int]]:
    """Return (row, column), from 0, of the cells whose tokens' mean probability is above a threshold."""
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    chances = scores[: len(question.ids)].clamp(min=-88.7).sigmoid().tolist()
    for types, chance in zip(question.token_types or (), chances, strict=True):
        if types[0] == 1 and types[COLUMN] > 0 and types[ROW] > 0:
            found[types[ROW] - 1, types[COLUMN] - 1].append(chance)
    return sorted(place for place, each in found.items() if sum(each) / len(each) > threshold)
