"""Splinter (Ram et al., 2021, arXiv:2101.00438): BERT that answers questions at a question token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Config
from ..heads import losses
from ..heads.head_types import HeadType
from ..heads.heads import Head, Transform
from ..heads.outputs import SpanOutput
from ..nn.forward_context import ForwardContext
from ..nn.ragged import Layout, sequence_ids
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert

EPS = 1e-5  # of the head's norms
SIDES = ("start", "end")


@dataclass(kw_only=True)
class SplinterConfig(bert.BertConfig):
    model_type = "splinter"

    is_decoder: Literal[False] = False
    question_token_id: int = 104


class SpanSelection(nn.Module):
    """Logits (tokens, questions, 2) of each token as the start and end of the answer to each question token.

    Args:
        question: id of the question token. every: all of a text's question tokens, not the first alone.
    """

    def __init__(self, width: int, question: int, *, every: bool) -> None:
        super().__init__()
        self.question, self.every = question, every
        self.asked = nn.ModuleDict({side: Transform(width, width, "gelu", EPS) for side in SIDES})
        self.told = nn.ModuleDict({side: Transform(width, width, "gelu", EPS) for side in SIDES})
        self.match = nn.ModuleDict({side: Linear(width, width, bias=False) for side in SIDES})

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        rows, texts = self._rows(hidden, context), sequence_ids(context.runs, hidden.device)
        sides = []
        for side in SIDES:
            questions = self.match[side](self.asked[side](hidden[rows]))[texts]  # (tokens, questions, width)
            sides.append(torch.einsum("tqw,tw->tq", questions, self.told[side](hidden)))
        scores = torch.stack(sides, -1)
        return scores if self.every else scores[:, 0]

    def _rows(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        """Return packed rows (sequences, questions) of question tokens; the first token where there is none."""
        if "question_positions" in context.extra_inputs:
            return context.extra_inputs["question_positions"]
        spans = list(zip(context.runs.begins, context.runs.lengths, strict=True))
        ids = [] if context.ids is None else context.ids.tolist()
        found = [[row for row in range(b, b + n) if ids and ids[row] == self.question] for b, n in spans]
        count = max(map(len, found), default=1) if self.every else 1
        last = max(hidden.shape[0] - 1, 0)
        padded = [
            (rows + [min(begin, last)] * count)[: max(count, 1)] for rows, (begin, _) in zip(found, spans, strict=True)
        ]
        return torch.tensor(padded, dtype=torch.long, device=hidden.device)


def selection(config: SplinterConfig, backbone: Stack, *, every: bool = False) -> Head:
    rows = {}
    for side in SIDES:
        for ours, theirs in (("asked", f"query_{side}_transform"), ("told", f"{side}_transform")):
            rows[f"{ours}.{side}.dense"] = f"/splinter_qass.{theirs}.dense"
            rows[f"{ours}.{side}.norm"] = f"/splinter_qass.{theirs}.LayerNorm"
        rows[f"match.{side}"] = f"/splinter_qass.{side}_classifier"
    return Head(SpanSelection(config.hidden_size, config.question_token_id, every=every), rows)


def all_spans(raw: Tensor, layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    """Return logits (batch, questions, length); labels are (batch, questions), the padding id for none."""
    lowest = torch.finfo(raw.dtype).min
    hidden = (layout.unpack(raw.new_ones(raw.shape[0])) == 0)[:, None]
    start, end = (layout.unpack(raw[..., side]).transpose(1, 2).masked_fill(hidden, lowest) for side in (0, 1))
    loss = None
    if "start_positions" in labels and "end_positions" in labels:
        pairs = ((start, labels["start_positions"]), (end, labels["end_positions"]))
        ignored = -1 if config.pad_token_id is None else config.pad_token_id
        parts = [losses.words(x.flatten(0, 1), y.flatten().masked_fill(y.flatten() == ignored, losses.IGNORED))
                 for x, y in pairs]  # fmt: skip
        loss = (parts[0] + parts[1]) / 2
    return {"loss": loss, "start_logits": start, "end_logits": end}


def keys(config: SplinterConfig) -> KeyMap:
    return KeyMap(
        {**bert.EMBEDDING_ROWS, **bert.LAYER_ROWS},
        "splinter.",
        ignored=(r"embeddings\.position_ids$", r"^splinter\.pooler\."),
        renamed=bert.OLD_NORMS,
    )


ARCHITECTURE = replace(
    bert.ARCHITECTURE,
    layouts={},
    foreign_config={},
    name="Splinter",
    config=SplinterConfig,
    keys=keys,
    heads={
        "Model": None,
        "ForPreTraining": lambda config, backbone: selection(config, backbone, every=True),
        "ForQuestionAnswering": selection,
    },
    head_types={
        "ForPreTraining": HeadType(
            "AutoModelForPreTraining", SpanOutput, all_spans, labels=("start_positions", "end_positions")
        )
    },
    inputs={"question_positions": lambda columns, layout: layout.rows_at(columns)},
)
