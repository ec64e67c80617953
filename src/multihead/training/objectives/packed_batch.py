"""Forward passes over packed batches: the sequences of a batch are concatenated, without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.ragged import SequenceLayout
from ...nn.forward_context import ForwardContext, SelectedTokens
from ...nn.ragged import positions_in_sequences
from ..data.features import Example


@dataclass(frozen=True)
class PackedSequences:
    """Sequences of a batch, concatenated without padding.

    Args:
        ids: (tokens,). runs: lengths of the sequences. segments: (tokens,), token types if the examples have them.
    """

    ids: Tensor
    runs: SequenceLayout
    segments: Tensor | None = None

    @classmethod
    def of(cls, examples: Sequence[Example], device: torch.device, ids: str = "input_ids") -> PackedSequences:
        """Pack a column of ids; the column `input_ids` includes the token types of the examples."""
        runs = SequenceLayout.packed(tuple(len(example[ids]) for example in examples))
        typed = ids == "input_ids" and all("token_type_ids" in example for example in examples)
        segments = concat_column(examples, "token_type_ids", device) if typed else None
        return cls(concat_column(examples, ids, device), runs, segments)

    def context(self, model: Any, **more: Any) -> ForwardContext:
        """Build the arguments of a forward pass of the backbone."""
        segments = self.segments if getattr(model.backbone, "typed", False) else None
        positions = positions_in_sequences(self.runs, self.ids.device)
        return ForwardContext(positions, self.runs, segments=segments, ids=self.ids, attend=model.attend, **more)


def token_count(ids: Any) -> int:
    """Return the number of tokens of an example, all choices together."""
    return sum(map(len, ids)) if len(ids) and np.ndim(ids[0]) else len(ids)


def concat_column(examples: Sequence[Example], column: str, device: torch.device) -> Tensor:
    """Concatenate a ragged column of all examples to one tensor (tokens,), int64."""
    flat = [np.asarray(example[column]) for example in examples]
    return torch.from_numpy(np.concatenate(flat).astype(np.int64, copy=False)).to(device)


def stack_column(examples: Sequence[Example], name: str, device: torch.device) -> Tensor:
    """Stack a column of numbers or vectors to one tensor (examples, ...)."""
    values = np.stack([np.asarray(example[name]) for example in examples])
    return torch.from_numpy(values).to(device)


def hidden_states(model: Any, tokens: PackedSequences) -> tuple[Tensor, ForwardContext]:
    """Run the backbone; returns the last hidden states (tokens, width) and the context."""
    context = tokens.context(model)
    return model.backbone(model.backbone.embed.look_up(tokens.ids), context), context


def hidden_states_at(model: Any, tokens: PackedSequences, selected: SelectedTokens) -> tuple[Tensor, ForwardContext]:
    """Return the last hidden states of selected tokens (selected, width), and a context of these tokens.

    A backbone with `supports_selected_tokens` computes only the selected tokens in its last layer.
    """
    context = tokens.context(model)
    words = model.backbone.embed.look_up(tokens.ids)
    if getattr(model.backbone, "supports_selected_tokens", False):
        hidden = model.backbone(words, replace(context, selected=selected))
    else:
        hidden = model.backbone(words, context).index_select(0, selected.rows)
    segments, ids = (None if x is None else x.index_select(0, selected.rows) for x in (context.segments, context.ids))
    return hidden, ForwardContext(
        context.positions[selected.rows], selected.runs, segments=segments, ids=ids, attend=model.attend
    )


def decoder_states(model: Any, source: PackedSequences, target: PackedSequences) -> tuple[Tensor, ForwardContext]:
    """Run an encoder-decoder; returns the last decoder states (target tokens, width) and the context."""
    encoder, decoder = model.backbone.encoder, model.backbone.decoder
    states = encoder(encoder.embed.look_up(source.ids), source.context(model))
    context = target.context(model, encoder_output=model.encoder_output(states, source.runs, source.ids))
    return decoder(decoder.embed.look_up(target.ids), context), context


def split_by_tokens(examples: Sequence[Example], sizes: Sequence[int], budget: int | None) -> Iterator[list[Example]]:
    """Yield examples in order, in groups of at most `budget` tokens; a longer example is a group of its own."""
    group: list[Example] = []
    total = 0
    for example, size in zip(examples, sizes, strict=True):
        if group and budget is not None and total + size > budget:
            yield group
            group, total = [], 0
        group.append(example)
        total += size
    if group:
        yield group
