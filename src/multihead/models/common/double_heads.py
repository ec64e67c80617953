"""The double heads of GPT and GPT-2: next-token logits and multiple choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...config import Config
from ...errors import UnsupportedConfig
from ...heads import losses
from ...heads.head_types import HeadType, next_words
from ...heads.heads import Head, last
from ...heads.outputs import Output
from ...nn.forward_context import ForwardContext
from ...nn.ragged import Layout
from ...nn.stack import Stack
from ...nn.weights import Dropout, Linear
from .. import llama


@dataclass
class DoubleHeadsOutput(Output):
    """Token logits (batch, choices, length, vocabulary) and choice logits (batch, choices), with both losses."""

    loss: Tensor | None = None
    mc_loss: Tensor | None = None
    logits: Tensor | None = None
    mc_logits: Tensor | None = None
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class DoubleHeads(nn.Module):
    """Token logits, and a logit for each sequence at the token `mc_token_ids`, by default its last."""

    def __init__(self, width: int, words: nn.Module, dropout: float) -> None:
        super().__init__()
        self.words, self.choice, self.dropout = words, Linear(width, 1), Dropout(dropout)

    def forward(self, hidden: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        rows = context.extra_inputs.get("mc_token_ids")
        states = last(hidden, context) if rows is None else hidden[rows[:, 0]]
        return self.words(hidden, context), self.choice(self.dropout(states))


def both(config: Any, backbone: Stack) -> Head:
    """Build both heads. Raises UnsupportedConfig for another summary type."""
    usual = {"summary_type": "cls_index", "summary_use_proj": True, "summary_proj_to_labels": True}
    for name, value in {**usual, "summary_activation": None}.items():
        if config.extra.get(name, value) != value:
            raise UnsupportedConfig(f"Two heads are computed with {name} {value!r} only, not {config.extra[name]!r}.")
    words = llama.generate(config, backbone)
    head = DoubleHeads(config.n_embd, words.module, config.extra.get("summary_first_dropout", 0.1))
    rows = {f"words.{ours}": theirs for ours, theirs in words.rows.items()}
    return Head(head, {**rows, "choice": "/multiple_choice_head.summary"})


def postprocess(raw: Any, layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    words, choice = raw
    sides = int(labels["choices"])
    own = {"labels": labels["labels"].flatten(0, 1)} if "labels" in labels else {}
    found = next_words(words, layout, own, config)
    scores = choice.view(-1, sides)
    chosen = losses.words(scores, labels["mc_labels"].flatten()) if "mc_labels" in labels else None
    return {**found, "logits": found["logits"].unflatten(0, (-1, sides)), "mc_loss": chosen, "mc_logits": scores}


HEAD_TYPE = HeadType("", DoubleHeadsOutput, postprocess, labels=("labels", "mc_labels"), choices=True)


def places(columns: Tensor, layout: Layout) -> Tensor:
    """Return packed rows (sequences, 1) of one column for each sequence."""
    return layout.rows_at(columns[:, None])
