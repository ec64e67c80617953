"""One pass in training: examples laid end to end, read without any padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.ragged import SequenceLayout
from ...nn.forward_context import ForwardContext, SelectedTokens
from ...nn.ragged import positions_in_sequences

Example = Mapping[str, Any]  # one row's features: numpy arrays of ids and labels, numbers


@dataclass(frozen=True)
class Tokens:
    """Texts end to end.

    Args:
        ids: (tokens,). segments: (tokens,), token types where examples have them.
    """

    ids: Tensor
    runs: SequenceLayout
    segments: Tensor | None = None

    @classmethod
    def of(cls, examples: Sequence[Example], device: torch.device, ids: str = "input_ids") -> Tokens:
        """The texts of a column of ids, and their token types where that is the usual one."""
        runs = SequenceLayout.packed(tuple(len(example[ids]) for example in examples))
        typed = ids == "input_ids" and all("token_type_ids" in example for example in examples)
        segments = joined(examples, "token_type_ids", device) if typed else None
        return cls(joined(examples, ids, device), runs, segments)

    def context(self, model: Any, **more: Any) -> ForwardContext:
        segments = self.segments if getattr(model.backbone, "typed", False) else None
        where = positions_in_sequences(self.runs, self.ids.device)
        return ForwardContext(where, self.runs, segments=segments, ids=self.ids, attend=model.attend, **more)


def length(ids: Any) -> int:
    """Tokens of an example's ids, those of all its choices together."""
    return sum(map(len, ids)) if len(ids) and np.ndim(ids[0]) else len(ids)


def joined(examples: Sequence[Example], column: str, device: torch.device) -> Tensor:
    """A ragged column of all examples as one tensor (tokens,), int64."""
    flat = [np.asarray(example[column]) for example in examples]
    return torch.from_numpy(np.concatenate(flat).astype(np.int64, copy=False)).to(device)


def column(examples: Sequence[Example], name: str, device: torch.device) -> Tensor:
    """A number (or a row of numbers) an example: (examples, ...)."""
    values = np.stack([np.asarray(example[name]) for example in examples])
    return torch.from_numpy(values).to(device)


def states(model: Any, tokens: Tokens) -> tuple[Tensor, ForwardContext]:
    """Last states (tokens, width) of a model's backbone."""
    context = tokens.context(model)
    return model.backbone(model.backbone.embed.look_up(tokens.ids), context), context


def states_at(model: Any, tokens: Tokens, selected: SelectedTokens) -> tuple[Tensor, ForwardContext]:
    """Return the last states of selected tokens, (selected tokens, width), and a context of these tokens alone.

    A backbone that `supports_selected_tokens` computes no others in its last layer.
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


def target_states(model: Any, source: Tokens, target: Tokens) -> tuple[Tensor, ForwardContext]:
    """Last states (target tokens, width) of an encoder-decoder's decoder."""
    encoder, decoder = model.backbone.encoder, model.backbone.decoder
    read = encoder(encoder.embed.look_up(source.ids), source.context(model))
    context = target.context(model, encoder_output=model.encoder_output(read, source.runs, source.ids))
    return decoder(decoder.embed.look_up(target.ids), context), context


def pieces(examples: Sequence[Example], sizes: Sequence[int], budget: int | None) -> Iterator[list[Example]]:
    """Examples in their order, in groups of at most `budget` tokens; a longer one is a group of its own."""
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
