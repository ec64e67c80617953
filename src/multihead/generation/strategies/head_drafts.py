"""Drafts of heads that read the model's hidden states: multi-token prediction (arXiv:2412.19437), EAGLE.

The state of token i and the embedding of token i + 1 predict token i + 2. A head of the next depth reads the states of
the head before it, and embeddings one token further on. Past the last head, the last one goes on with its own states
(Li et al., 2024, arXiv:2401.15077).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..draft_heads import DraftHead
from ..engine.sequence import ForwardRequest, GenerationSequence, Request
from ..engine.state_buffer import StateBuffer
from .base import GenerationJob
from .speculative import DraftChoice, Drafting, DraftTokens


class HeadStream:
    """Sequence that one head has read: a token a row, and the state beside it.

    Args:
        depth: how many tokens further on than the states its embeddings are, less one.
    """

    def __init__(self, request: Request, head: DraftHead, depth: int) -> None:
        self.request, self.head, self.depth = request, head, depth
        self.sequence: GenerationSequence | None = None
        self.exact = 0  # first rows whose states are not the head's own guesses

    def align(self, tokens: Sequence[int], source: StateBuffer) -> GenerationSequence:
        """Give the head these tokens, a row each, and the states `source`; the cache of equal first rows stays."""
        if self.sequence is None:
            self.sequence = self.request.open_sequence([], model=self.head)
            self.sequence.states, self.sequence.features = StateBuffer(), StateBuffer()
        sequence = self.sequence
        pairs = enumerate(zip(sequence.tokens, tokens, strict=False))
        same = next((i for i, (a, b) in pairs if a != b), min(len(sequence.tokens), len(tokens)))
        same = min(same, self.exact, len(tokens) - 1)  # one row at least is read, whose scores the draft needs
        sequence.crop(same)
        sequence.append(*tokens[same:])
        states = source.states[same : len(tokens)]  # (rows, width)
        sequence.features.write(same, self.head.project(states) if not self.depth else states)  # type: ignore[union-attr]
        self.exact = len(tokens)
        return sequence

    def extend(self, token: int) -> GenerationSequence:
        """Add a draft token with the head's own last state."""
        sequence = self.sequence
        assert sequence is not None
        assert sequence.states is not None
        assert sequence.features is not None
        sequence.features.write(len(sequence.tokens), sequence.states.states[-1:])
        sequence.append(token)
        return sequence


class HeadDrafts:
    """Drafts tokens with the heads of a model.

    Args:
        count: draft tokens; None for as many as there are heads. min_confidence: the draft stops before a token with a
            smaller probability.
    """

    def __init__(
        self, request: Request, job: GenerationJob, heads: Sequence[DraftHead], count: int | None, min_confidence: float
    ) -> None:
        self.job, self.count, self.min_confidence = job, count or sum(head.drafts for head in heads), min_confidence
        self.streams = [HeadStream(request, head, depth) for depth, head in enumerate(heads)]
        self.states = StateBuffer(heads[0].layers)
        self.draws = bool(job.config.do_sample)

    def begin(self, sequence: GenerationSequence) -> None:
        """Keep the states of the model's sequence."""
        sequence.states = self.states

    @torch.inference_mode()
    def _scores(self, tokens: list[int], logits: Tensor) -> Tensor:
        """Return the scores (1, vocabulary) that a draft token is chosen by."""
        return self.job.process_logits([tokens], logits) if self.job.processors else logits

    def propose(self, tokens: Sequence[int], most: int) -> Drafting:
        if self.states.length < max(len(tokens) - 1, 1):  # the prompt is not read yet
            return DraftTokens([])
        choice = DraftChoice(self.job, self.draws, self.min_confidence, self.job.config.ends)
        source = self.states
        for number in range(min(self.count, most)):
            if number < len(self.streams):
                stream = self.streams[number]
                sequence = stream.align([*tokens[1 + number :], *choice.tokens], source)
            else:
                sequence = stream.extend(choice.tokens[-1])
            (result,) = yield [ForwardRequest(sequence)]
            assert sequence.states is not None
            source = sequence.states
            if not choice.add(self._scores([*tokens, *choice.tokens], result.logits)):
                break
        return choice.draft

    def update(self, accepted: int, drafted: int) -> None: ...

    def close(self) -> None:
        for stream in self.streams:
            if stream.sequence is not None:
                stream.sequence.close()
