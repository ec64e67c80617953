"""The question answering head of XLNet and XLM: beam search over start and end tokens, and answerability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import Config
from ...heads.head_types import HeadType
from ...heads.heads import Head
from ...heads.outputs import Output
from ...nn.forward_context import ForwardContext
from ...nn.ragged import Layout
from ...nn.weights import LayerNorm, Linear
from .architecture import MakeHead

LABELS = ("start_positions", "end_positions", "is_impossible", "cls_index", "p_mask")


@dataclass
class SpanSearchOutput(Output):
    """The best spans of each sequence, or with labels only the loss.

    Args:
        start_top_log_probs, start_top_index: (batch, starts), probabilities (the name is the reference's) and columns.
        end_top_log_probs, end_top_index: (batch, starts * ends).
        cls_logits: (batch,), the higher, the less an answer is there.
    """

    loss: Tensor | None = None
    start_top_log_probs: Tensor | None = None
    start_top_index: Tensor | None = None
    end_top_log_probs: Tensor | None = None
    end_top_index: Tensor | None = None
    cls_logits: Tensor | None = None
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class SpanSearch(nn.Module):
    """Logits of a span's start and end, and of no answer.

    Args:
        starts, ends: how many of the likeliest are kept.
    """

    def __init__(self, width: int, eps: float, *, starts: int, ends: int) -> None:
        super().__init__()
        self.start, self.starts, self.ends = Linear(width, 1), starts, ends
        self.end_states, self.end_norm, self.end = Linear(2 * width, width), LayerNorm(width, eps), Linear(width, 1)
        self.none_states, self.none = Linear(2 * width, width), Linear(width, 1, bias=False)

    def forward(self, hidden: Tensor, context: ForwardContext) -> tuple[SpanSearch, Tensor]:
        """Return the module and the states; the search needs padded sequences and the labels."""
        return self, hidden

    def loss(self, hidden: Tensor, closed: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of padded states (batch, length, width).

        Args:
            closed: (batch, length), True where no span may begin or end.
        """
        first, last = labels["start_positions"].flatten(), labels["end_positions"].flatten()
        state = hidden[torch.arange(hidden.shape[0], device=hidden.device), first]
        start = self._start(hidden, closed)
        end = self._end(hidden, state[:, None].expand_as(hidden)).masked_fill(closed, -1e30)
        loss = (F.cross_entropy(start.float(), first) + F.cross_entropy(end.float(), last)) / 2
        if "cls_index" in labels and "is_impossible" in labels:
            wrong = labels["is_impossible"].flatten().float()
            none = self._none(hidden, closed, state, labels.get("cls_index"))
            loss = loss + 0.5 * F.binary_cross_entropy_with_logits(none.float(), wrong)
        return loss

    def best(self, hidden: Tensor, closed: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        starts = self._start(hidden, closed).softmax(-1)
        likely, first = starts.topk(min(self.starts, hidden.shape[1]), -1)
        states = hidden.gather(1, first[..., None].expand(-1, -1, hidden.shape[2]))  # (batch, starts, width)
        shape = (-1, hidden.shape[1], states.shape[1], -1)
        ends = self._end(hidden[:, :, None].expand(shape), states[:, None].expand(shape))
        ends = ends.masked_fill(closed[..., None], -1e30).softmax(1)
        likely_ends, last = ends.topk(min(self.ends, hidden.shape[1]), 1)
        mixed = torch.einsum("blh,bl->bh", hidden, starts)
        return {
            "start_top_log_probs": likely,
            "start_top_index": first,
            "end_top_log_probs": likely_ends.flatten(1),
            "end_top_index": last.flatten(1),
            "cls_logits": self._none(hidden, closed, mixed, labels.get("cls_index")),
        }

    def _start(self, hidden: Tensor, closed: Tensor) -> Tensor:
        return self.start(hidden).squeeze(-1).masked_fill(closed, -1e30)

    def _end(self, hidden: Tensor, first: Tensor) -> Tensor:
        return self.end(self.end_norm(torch.tanh(self.end_states(torch.cat([hidden, first], -1))))).squeeze(-1)

    def _none(self, hidden: Tensor, closed: Tensor, first: Tensor, place: Tensor | None) -> Tensor:
        """Return no-answer logits (batch,) of the state at `place` (batch,), by default each sequence's last token."""
        texts = torch.arange(hidden.shape[0], device=hidden.device)
        columns = torch.arange(hidden.shape[1], device=hidden.device)
        last = torch.where(hidden.abs().sum(-1) > 0, columns, 0).argmax(-1) if place is None else place.flatten()
        return self.none(torch.tanh(self.none_states(torch.cat([first, hidden[texts, last]], -1)))).squeeze(-1)


def postprocess(raw: Any, layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    search, states = raw
    hidden = layout.unpack(states)
    closed = layout.unpack(states.new_ones(states.shape[0])) == 0
    if "p_mask" in labels:
        closed = closed | (labels["p_mask"] > 0)
    if "start_positions" in labels and "end_positions" in labels:
        return {"loss": search.loss(hidden, closed, labels)}
    return search.best(hidden, closed, labels)


def searcher(stem: str) -> MakeHead:
    """Return a maker of the head, whose tensors are stored under `stem`."""

    def make(config: Any, backbone: Any) -> Head:
        search = SpanSearch(config.hidden_size, config.layer_norm_eps, starts=config.start_n_top, ends=config.end_n_top)
        names = {
            "start": "start_logits.dense",
            "end_states": "end_logits.dense_0",
            "end_norm": "end_logits.LayerNorm",
            "end": "end_logits.dense_1",
            "none_states": "answer_class.dense_0",
            "none": "answer_class.dense_1",
        }
        return Head(search, {ours: f"/{stem}{theirs}" for ours, theirs in names.items()})

    return make


HEAD_TYPE = HeadType("", SpanSearchOutput, postprocess, labels=LABELS)
