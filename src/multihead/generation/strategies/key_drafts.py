"""Drafts of an assistant that reads the model's cached keys and values, from the place of the last token read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...kernels.ragged import BLOCK, SequenceLayout
from ...nn.cache.cache_rows import slot_rows
from ...nn.cache.layer_cache import KVLayerCache
from ..draft_heads import GemmaAssistant
from ..engine.sequence import GenerationSequence
from ..engine.state_buffer import StateBuffer
from .base import GenerationJob
from .speculative import DraftChoice, Drafting, DraftTokens


class KeyDrafts:
    """Drafts tokens from the keys and values of the model's own sequence, which stays as it is.

    Args:
        count: draft tokens. min_confidence: the draft stops before a token with a smaller probability.
    """

    def __init__(self, job: GenerationJob, head: GemmaAssistant, count: int | None, min_confidence: float) -> None:
        self.job, self.head, self.count, self.min_confidence = job, head, count or head.drafts, min_confidence
        self.states, self.draws = StateBuffer(), bool(job.config.do_sample)
        self.sequence: GenerationSequence | None = None

    def begin(self, sequence: GenerationSequence) -> None:
        """Keep the states of the model's sequence."""
        sequence.states, self.sequence = self.states, sequence

    def propose(self, tokens: Sequence[int], most: int) -> Drafting:
        yield from ()
        read = len(tokens) - 1
        assert self.sequence is not None
        if not read or self.sequence.cached.length != read or self.states.length < read:
            return DraftTokens([])
        choice = DraftChoice(self.job, self.draws, self.min_confidence, self.job.config.ends)
        with torch.inference_mode():
            keys, state = self._keys(read), self.states.states[-1:]  # (1, width)
            for _ in range(min(self.count, most)):
                last = (choice.tokens or tokens)[-1]
                logits, state = self.head.step(last, state, read, keys)
                # (1, vocabulary)
                if not choice.add(self.job.process_logits([[*tokens, *choice.tokens]], logits.float())):
                    break
        return choice.draft

    def _keys(self, length: int) -> dict[str, tuple[Tensor, Tensor, SequenceLayout]]:
        """Return the cached keys and values of each type of layer, and how many there are."""
        assert self.sequence is not None
        cached, out = self.sequence.cached, {}
        for kind, number in self.head.sources.items():
            (leaf,) = cached.store.layers[number].leaves()
            assert isinstance(leaf, KVLayerCache)
            table = cached.tables[leaf.window]
            first = table.num_released * BLOCK  # the first position that the cache still has
            rows = slot_rows([table], [(first, length)], self.head.device)
            rows = torch.arange(rows.start, rows.stop, device=self.head.device) if isinstance(rows, slice) else rows
            # (rows, key heads, head width) each
            out[kind] = (*leaf.read_rows(rows), SequenceLayout.packed((length - first,)))
        return out

    def update(self, accepted: int, drafted: int) -> None: ...

    def close(self) -> None: ...
