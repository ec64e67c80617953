"""Forward passes with a user's cache: sequences whose rotary frequencies have changed are recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..kernels.ragged import SequenceLayout
from ..nn.cache.store import CachedSequence
from ..nn.experts import collected_scores
from ..nn.forward_context import ForwardContext, OutputCapture
from ..nn.ragged import sequence_ends
from .pack_inputs import PackedInputs

History = tuple[Tensor, Tensor]  # ids and positions of all that a text has read, (tokens,) each


def run_with_cache(stack: Any, read: PackedInputs, context: ForwardContext) -> Tensor:
    """Run a stack over packed inputs and return the last hidden states (tokens, width).

    Where keys depend on how long their text is (rotary scaling `longrope`, `dynamic`), a text that has grown to
    other frequencies is read from its first token, and where a part remembers nothing every text is, so that the pass
    gives what one over the whole text gives.

    Raises:
        InvalidInput: a text has to be read again, and some of it came as vectors or with inputs in addition to ids.
    """
    words = stack.embed.scale_vectors(read.vectors) if read.ids is None else stack.embed.look_up(read.ids)
    if context.cache is None or not context.cache.store.varies:
        return _pass(stack, words, context)
    texts, new = context.cache.texts, context.runs.lengths
    grown = tuple(text.length + count for text, count in zip(texts, new, strict=True))
    totals = sequence_ends(read.positions, context.runs) if read.custom_positions else grown
    plain = read.ids is not None and read.segments is None and not context.extra_inputs
    ids = _split(read.ids, context.runs) if read.ids is not None and plain else [None] * len(texts)
    own = zip(texts, ids, _split(read.positions, context.runs), strict=True)
    known = [_history(text, tokens, positions) for text, tokens, positions in own]
    counts = zip(texts, new, totals, strict=True)
    again = [bool(text.length and count) and not text.is_valid_for(total) for text, count, total in counts]
    for number, whole in enumerate(again):
        if whole and known[number] is None:
            raise InvalidInput(
                f"Text {number} of past_key_values grows from {texts[number].length} to {grown[number]} tokens. It "
                "must be read again, since this model turns keys by how long a text is, or has a part without a "
                "memory(), and was not given as ids alone. Leave past_key_values out, and give the whole text."
            )
    for text, count, total, history in zip(texts, new, totals, known, strict=True):
        if count:
            text.set_total(total)
        text.history = history
    return _recompute(stack, context, again) if any(again) else _pass(stack, words, context)


def _pass(stack: Any, words: Tensor, context: ForwardContext) -> Tensor:
    """Run a stack, and collect router scores where the caller asked for them."""
    if context.capture.routers is None:
        return stack(words, context)
    with collected_scores(context.capture.routers):
        return stack(words, context)


def _history(text: CachedSequence, ids: Tensor | None, positions: Tensor) -> History | None:
    """Return the history of a sequence after a pass; None where parts of it were not given as ids."""
    if ids is None or (text.length and text.history is None):
        return None
    before = text.history or (ids[:0], positions[:0])
    return torch.cat([before[0], ids]), torch.cat([before[1], positions])


def _recompute(stack: Any, context: ForwardContext, again: Sequence[bool]) -> Tensor:
    """Run the pass with some sequences recomputed from their first token; return states of the new tokens."""
    assert context.cache is not None
    assert context.ids is not None
    own = zip(_split(context.ids, context.runs), _split(context.positions, context.runs), strict=True)
    parts = [
        text.history if whole and text.history is not None else part
        for text, whole, part in zip(context.cache.texts, again, own, strict=True)
    ]
    ids, positions = (torch.cat(each) for each in zip(*parts, strict=True))
    runs, outer = SequenceLayout.packed(tuple(len(part) for part, _ in parts)), context.capture
    collected = (outer.hidden, outer.attentions, outer.cross_attentions, outer.routers)
    seen = OutputCapture(*(None if x is None else [] for x in collected))
    whole = replace(context, ids=ids, positions=positions, runs=runs, capture=seen, _cached={})
    states = _pass(stack, stack.embed.look_up(ids), whole)
    new = context.runs.lengths
    lasts = zip(runs.begins, runs.lengths, new, strict=True)
    rows = torch.cat([torch.arange(begin + length - count, begin + length) for begin, length, count in lasts])
    rows = rows.to(states.device)
    for mine, found in ((outer.hidden, seen.hidden), (outer.routers, seen.routers)):
        if mine is not None and found is not None:
            mine += [x.index_select(0, rows) for x in found]
    for own_maps, maps in ((outer.attentions, seen.attentions), (outer.cross_attentions, seen.cross_attentions)):
        if own_maps is not None and maps is not None:
            own_maps += [[x[:, x.shape[1] - count :] for x, count in zip(layer, new, strict=True)] for layer in maps]
    return states.index_select(0, rows)


def _split(x: Tensor, runs: SequenceLayout) -> list[Tensor]:
    """Split x (tokens,) by sequence."""
    return [x[begin : begin + length] for begin, length in zip(runs.begins, runs.lengths, strict=True)]
