"""Speculative decoding: one pass verifies several draft tokens.

Greedy decoding accepts a draft token if it is the model's own argmax, so the text stays exactly the same. Sampling
accepts it with probability min(1, p / q) of the model's and the draft's distribution, else samples from the normalized
positive part of p - q, so the distribution stays the model's (Leviathan et al., 2022, arXiv:2211.17192).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...nn.encoder_output import EncoderOutput
from ...runtime.runner import DecoderModel
from ..engine.sequence import ForwardRequest, ForwardResult, GenerationSequence, Request, Strategy
from ..stopping import Continuation
from .base import GenerationJob

NUM_DRAFT_TOKENS = 20  # of a draft model at once, at first
MIN_CONFIDENCE = 0.4  # a draft model stops before a token with a smaller probability
MAX_NGRAM = 2  # of prompt lookup, where the config has none


@dataclass(frozen=True)
class DraftTokens:
    """Tokens that a draft model or prompt lookup proposes.

    Args:
        probabilities: (tokens, vocabulary), the distribution that each token was sampled from; None if not sampled.
    """

    tokens: list[int]
    probabilities: Tensor | None = None


class DraftChoice:
    """Tokens of one draft, chosen one after another until it ends.

    Args:
        draws: tokens are sampled; else the likeliest are taken. min_confidence: the draft stops before a token with a
            smaller probability. ends: tokens that are its last.
    """

    def __init__(self, job: GenerationJob, draws: bool, min_confidence: float, ends: Collection[int]) -> None:
        self.job, self.draws, self.min_confidence, self.ends = job, draws, min_confidence, ends
        self.tokens: list[int] = []
        self._probabilities: list[Tensor] = []

    def add(self, scores: Tensor) -> bool:
        """Choose the next token by its scores (1, vocabulary); return False where the draft ends before or with it."""
        if bool((scores == -torch.inf).all()):  # the draft's vocabulary has no token that may come
            return False
        p = scores.softmax(-1)  # (1, vocabulary)
        token = self.job.select_tokens(scores)[0] if self.draws else int(scores.argmax(-1))
        if self.tokens and p[0, token] < self.min_confidence:
            return False
        self.tokens.append(token)
        if self.draws:
            self._probabilities.append(p[0])  # (vocabulary,)
        return token not in self.ends

    @property
    def draft(self) -> DraftTokens:
        """The tokens, with the distributions that they were sampled from."""
        return DraftTokens(self.tokens, torch.stack(self._probabilities) if self._probabilities else None)


Drafting = Generator[list[ForwardRequest], list[ForwardResult], DraftTokens]


class Drafter(Protocol):
    """Source of draft tokens."""

    def begin(self, sequence: GenerationSequence) -> None:
        """Prepare for the drafts of a sequence, of which nothing is read yet."""

    def propose(self, tokens: Sequence[int], most: int) -> Drafting:
        """Return at most `most` tokens that may follow `tokens`; a generator, which may ask for forward passes."""

    def update(self, accepted: int, drafted: int) -> None:
        """Adapt to how many of the drafted tokens were accepted."""

    def close(self) -> None: ...


class PromptLookup:
    """Drafts the tokens after an earlier occurrence of the last n-gram (Saxena, 2023, prompt lookup decoding).

    Args:
        count: draft tokens. longest: tokens of the longest n-gram.
    """

    def __init__(self, count: int, longest: int = MAX_NGRAM) -> None:
        self.count, self.longest = count, longest

    def begin(self, sequence: GenerationSequence) -> None: ...

    def propose(self, tokens: Sequence[int], most: int) -> Drafting:
        yield from ()
        return DraftTokens(lookup_tokens(tokens, min(self.count, most), self.longest))

    def update(self, accepted: int, drafted: int) -> None: ...

    def close(self) -> None: ...


def lookup_tokens(tokens: Sequence[int], count: int, longest: int) -> list[int]:
    """Return the tokens after the first earlier occurrence of the last n-gram, for the largest n that has one."""
    known = list(tokens)
    for size in range(min(longest, len(known) - 1), 0, -1):
        tail = known[-size:]  # the last n-gram
        for begin in range(len(known) - size):
            if known[begin : begin + size] == tail:
                return known[begin + size : begin + size + count]
    return []


class DraftModel:
    """Drafts tokens with a smaller model.

    Args:
        encoder_output: the draft model's source.
        schedule: of the number of draft tokens: "constant", or "heuristic": two more after all were accepted, else one
            less.
        min_confidence: the draft stops before a token with a smaller probability. greedy: never sample.
    """

    def __init__(
        self, request: Request, job: GenerationJob, model: DecoderModel, *, encoder_output: EncoderOutput | None = None,
        count: int = NUM_DRAFT_TOKENS, schedule: str = "constant", min_confidence: float = MIN_CONFIDENCE,
        greedy: bool = False,
    ) -> None:  # fmt: skip
        self.request, self.job, self.model, self.encoder_output = request, job, model, encoder_output
        self.count, self.schedule, self.min_confidence = count, schedule, min_confidence
        self.draws = bool(job.config.do_sample) and not greedy
        self.ends = frozenset[int]() if greedy else job.config.ends  # another vocabulary has other end tokens
        self.sequence: GenerationSequence | None = None

    def begin(self, sequence: GenerationSequence) -> None: ...

    def propose(self, tokens: Sequence[int], most: int) -> Drafting:
        # the draft model may have fewer positions than the model itself
        if len(tokens) >= (self.model.max_positions or math.inf):
            return DraftTokens([])
        if self.sequence is None:
            self.sequence = self.request.open_sequence(tokens, self.encoder_output, self.model)
        sequence, choice = self.sequence, DraftChoice(self.job, self.draws, self.min_confidence, self.ends)
        sync_tokens(sequence, tokens)
        longest, goes_on = self.model.max_positions or math.inf, True
        while goes_on and len(sequence.tokens) < min(len(tokens) + min(self.count, most), longest):
            (result,) = yield [ForwardRequest(sequence)]
            # (1, vocabulary); sampling needs the processed distribution as q
            scores = self.job.process_logits([sequence.tokens], result.logits) if self.draws else result.logits
            goes_on = choice.add(scores)
            sequence.append(*choice.tokens[len(sequence.tokens) - len(tokens) :])
        return choice.draft

    def update(self, accepted: int, drafted: int) -> None:
        if self.schedule.startswith("heuristic"):
            self.count = self.count + 2 if accepted == drafted else max(1, self.count - 1)

    def close(self) -> None:
        if self.sequence is not None:
            self.sequence.close()


def sync_tokens(sequence: GenerationSequence, tokens: Sequence[int]) -> None:
    """Give a draft's sequence these tokens; the cache of their common prefix stays."""
    same = next((i for i, (a, b) in enumerate(zip(sequence.tokens, tokens, strict=False)) if a != b), None)
    # none differs: the shorter one is a prefix of the other
    same = min(len(sequence.tokens), len(tokens)) if same is None else same
    # at least one token is left to read, whose logits the next draft token needs
    sequence.crop(min(same, len(tokens) - 1))
    sequence.append(*tokens[len(sequence.tokens) :])


class RetokenizedDraft:
    """Drafts with a model of another tokenizer and tokenizes its text again (arXiv:2502.05202's string match).

    The draft is greedy, since the probabilities of the new tokens are not known.
    """

    def __init__(self, draft: DraftModel, own: Any, other: Any) -> None:
        self.draft, self.own, self.other = draft, own, other

    def begin(self, sequence: GenerationSequence) -> None: ...

    def propose(self, tokens: Sequence[int], most: int) -> Drafting:
        text = self.own.decode(tokens, skip_special_tokens=True)
        begin = self.other(text, add_special_tokens=False)["input_ids"]
        if not begin:
            return DraftTokens([])
        propose = yield from self.draft.propose(begin, most)
        said = self.other.decode([*begin, *propose.tokens], skip_special_tokens=True)
        again = list(self.own(text, add_special_tokens=False)["input_ids"])
        longer = list(self.own(said, add_special_tokens=False)["input_ids"])
        if longer[: len(again)] != again:  # the new text changes the tokens of the old text
            return DraftTokens([])
        return DraftTokens(longer[len(again) : len(again) + most])

    def update(self, accepted: int, drafted: int) -> None:
        self.draft.update(accepted, drafted)

    def close(self) -> None:
        self.draft.close()


def speculative_decoding(request: Request, job: GenerationJob, drafter: Drafter) -> Strategy:
    """Continue a prompt once, by verifying the drafter's tokens."""
    job.results = [Continuation()]
    sequence = job.begin(request)
    drafter.begin(sequence)
    yield from job.score_prompt(sequence)
    while True:
        begin = len(sequence.tokens)
        # one place fewer, since the model adds a token of its own to the accepted ones
        propose = yield from drafter.propose(sequence.tokens, sequence.max_pass_tokens(job.limit - begin - 1))
        spare = fork_state(sequence) if propose.tokens else None
        sequence.append(*propose.tokens)
        forwards = job.forward_requests([sequence], len(propose.tokens) + 1)
        results = yield forwards
        logits = job.logits(results)  # (draft tokens + 1, vocabulary)
        text, accepted = sequence.tokens[:begin], 0
        for place in range(len(propose.tokens) + 1):
            scores = job.process_logits([text], logits[place : place + 1])  # (1, vocabulary)
            token, right = accept_or_sample(job, scores[0], propose, place)
            job.record_step((0,), scores, logits[place : place + 1], [])
            text.append(token)
            job.results[0].append(token)
            job.emit(0, token, results[0], place)
            accepted, job.results[0].finish = accepted + right, job.finishes([text], scores)[0]
            if job.results[0].finish or not right:  # later rows follow a rejected token, so they say nothing
                break
        if spare is not None:
            sequence = choose_state(sequence, spare, begin, accepted, len(propose.tokens))
        if job.results[0].finish:
            drafter.close()
            sequence.close()
            return
        sequence.crop(begin + accepted)  # drops the cache of rejected tokens
        sequence.append(*text[len(sequence.tokens) :])
        if propose.tokens:
            drafter.update(accepted, len(propose.tokens))


def fork_state(sequence: GenerationSequence) -> GenerationSequence | None:
    """Return a copy of a sequence whose recurrent state cannot be cut back; None where that can, or nothing is read."""
    return sequence.fork() if sequence.cached.store.slots and sequence.cached.length else None


def choose_state(
    sequence: GenerationSequence, spare: GenerationSequence, begin: int, accepted: int, drafted: int
) -> GenerationSequence:
    """Return the sequence to go on with, and close the other: the copy of before the draft, if a token was rejected.

    The accepted tokens are then read once more, which costs less than the whole text.
    """
    if accepted == drafted:
        spare.close()
        return sequence
    spare.prefixes, sequence.prefixes = sequence.prefixes, None
    spare.append(*sequence.tokens[begin : begin + accepted])
    if sequence.states is not None:
        sequence.states.crop(begin + accepted)
    sequence.close()
    return spare


def accept_or_sample(job: GenerationJob, scores: Tensor, propose: DraftTokens, place: int) -> tuple[int, bool]:
    """Return the next token, and whether it is the draft token at this place. `scores`: (vocabulary,)."""
    drafted = propose.tokens[place] if place < len(propose.tokens) else None  # None after the last draft token
    if drafted is None or not job.config.do_sample:
        token = job.select_tokens(scores[None])[0]
        return token, token == drafted
    p = scores.softmax(-1)  # (vocabulary,)
    if propose.probabilities is None:
        # (vocabulary,): a draft without probabilities is certain of its token
        q = torch.zeros_like(p).index_fill(0, torch.tensor([drafted], device=p.device), 1.0)
    else:
        q = propose.probabilities[place]  # (vocabulary,)
    if job.uniform() * q[drafted] < p[drafted]:  # as min(1, p / q), without a division
        return drafted, True
    rest = (p - q).clamp(min=0)  # (vocabulary,); multinomial normalizes it
    rest = rest if bool(rest.sum() > 0) else p  # p and q differ by rounding alone
    return int(job.sample(rest)), False
