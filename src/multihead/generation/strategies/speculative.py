"""Several tokens a pass: guesses are read together, and kept as far as the model itself would have said them.

Without draws the text is exactly the one without guesses. With draws a guess is kept with the probability min(1, p / q)
of the model's and the guesser's own, else drawn anew from what p has more than q, so that the distribution is the
model's (Leviathan et al., 2022, arXiv:2211.17192).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...nn.forward_context import EncoderOutput
from ...runtime.runner import DecoderModel
from ..engine.sequence import ForwardRequest, ForwardResult, GenerationSequence, Request, Strategy
from .base import Job

GUESSES = 20  # tokens that a draft guesses at once, at first
SURE = 0.4  # a draft goes on while its tokens are at least so likely
RUN = 2  # tokens of the longest run that is looked up


@dataclass(frozen=True)
class Guess:
    """Tokens that may come next.

    Args:
        chances: (tokens, vocabulary), the distribution that each was drawn from; None where they were not drawn.
    """

    tokens: list[int]
    chances: Tensor | None = None


Guessing = Generator[list[ForwardRequest], list[ForwardResult], Guess]


class Guesser(Protocol):
    """Where guesses come from."""

    def guess(self, tokens: Sequence[int], most: int) -> Guessing:
        """At most so many tokens that may follow."""

    def learn(self, kept: int, guessed: int) -> None:
        """Told how many of its guesses were kept."""

    def close(self) -> None: ...


class Lookup:
    """What followed an earlier occurrence of the text's last tokens (Saxena, 2023, prompt lookup decoding).

    Args:
        count: tokens guessed. longest: tokens of the longest run looked for.
    """

    def __init__(self, count: int, longest: int = RUN) -> None:
        self.count, self.longest = count, longest

    def guess(self, tokens: Sequence[int], most: int) -> Guessing:
        yield from ()
        return Guess(looked_up(tokens, min(self.count, most), self.longest))

    def learn(self, kept: int, guessed: int) -> None: ...

    def close(self) -> None: ...


def looked_up(tokens: Sequence[int], count: int, longest: int) -> list[int]:
    """What follows the first earlier run that equals the last tokens, the longest run that has one."""
    known = list(tokens)
    for size in range(min(longest, len(known) - 1), 0, -1):
        tail = known[-size:]
        for begin in range(len(known) - size):
            if known[begin : begin + size] == tail:
                return known[begin + size : begin + size + count]
    return []


class Draft:
    """A smaller model's own continuation.

    Args:
        encoder_output: its source. schedule: "constant", or "heuristic": two more after all were kept, else one less.
        sure: it stops before a token that it thinks less likely. likeliest: it never draws.
    """

    def __init__(
        self, request: Request, job: Job, model: DecoderModel, *, encoder_output: EncoderOutput | None = None,
        count: int = GUESSES, schedule: str = "constant", sure: float = SURE, likeliest: bool = False,
    ) -> None:  # fmt: skip
        self.request, self.job, self.model, self.encoder_output = request, job, model, encoder_output
        self.count, self.schedule, self.sure = count, schedule, sure
        self.draws = bool(job.config.do_sample) and not likeliest
        self.ends = frozenset[int]() if likeliest else job.config.ends  # another vocabulary's are not known
        self.branch: GenerationSequence | None = None

    def guess(self, tokens: Sequence[int], most: int) -> Guessing:
        if len(tokens) >= (self.model.max_positions or math.inf):
            return Guess([])
        if self.branch is None:
            self.branch = self.request.open_sequence(tokens, self.encoder_output, self.model)
        branch, chances = self.branch, []
        follow(branch, tokens)
        longest = self.model.max_positions or math.inf
        while len(branch.tokens) < min(len(tokens) + min(self.count, most), longest):
            (reading,) = yield [ForwardRequest(branch)]
            scores = self.job.ruled([branch.tokens], reading.logits) if self.draws else reading.logits
            p = scores.softmax(-1)
            token = self.job.choose(scores)[0] if self.draws else int(scores.argmax(-1))
            if self.sure and p[0, token] < self.sure and len(branch.tokens) > len(tokens):
                break
            branch.append(token)
            chances.append(p[0])
            if token in self.ends:
                break
        return Guess(branch.tokens[len(tokens) :], torch.stack(chances) if self.draws and chances else None)

    def learn(self, kept: int, guessed: int) -> None:
        if self.schedule.startswith("heuristic"):
            self.count = self.count + 2 if kept == guessed else max(1, self.count - 1)

    def close(self) -> None:
        if self.branch is not None:
            self.branch.close()


def follow(branch: GenerationSequence, tokens: Sequence[int]) -> None:
    """Brings a draft's branch to these tokens; what it has read of them stays."""
    same = next((i for i, (a, b) in enumerate(zip(branch.tokens, tokens, strict=False)) if a != b), None)
    same = min(len(branch.tokens), len(tokens)) if same is None else same
    branch.crop(min(same, len(tokens) - 1))
    branch.append(*tokens[len(branch.tokens) :])


class Translated:
    """A draft with another tokenizer: its text is cut into the model's own tokens (arXiv:2502.05202's string match).

    Guesses are the draft's likeliest, since a token's own chance is not known.
    """

    def __init__(self, draft: Draft, own: Any, other: Any) -> None:
        self.draft, self.own, self.other = draft, own, other

    def guess(self, tokens: Sequence[int], most: int) -> Guessing:
        text = self.own.decode(tokens, skip_special_tokens=True)
        begin = self.other(text, add_special_tokens=False)["input_ids"]
        if not begin:
            return Guess([])
        guess = yield from self.draft.guess(begin, most)
        said = self.other.decode([*begin, *guess.tokens], skip_special_tokens=True)
        again = list(self.own(text, add_special_tokens=False)["input_ids"])
        longer = list(self.own(said, add_special_tokens=False)["input_ids"])
        if longer[: len(again)] != again:  # the new text changes how the old one is cut
            return Guess([])
        return Guess(longer[len(again) : len(again) + most])

    def learn(self, kept: int, guessed: int) -> None:
        self.draft.learn(kept, guessed)

    def close(self) -> None:
        self.draft.close()


def speculated(request: Request, job: Job, guesser: Guesser) -> Strategy:
    """Continues a prompt as `sampled` does, with guesses read ahead."""
    job.results = [[]]
    branch = job.begin(request)
    while True:
        begin = len(branch.tokens)
        guess = yield from guesser.guess(branch.tokens, branch.max_pass_tokens(job.limit - begin - 1))
        branch.append(*guess.tokens)
        reads = job.wishes([branch], len(guess.tokens) + 1)
        logits = job.logits((yield reads))
        text, kept, ended = branch.tokens[:begin], 0, False
        for place in range(len(guess.tokens) + 1):
            scores = job.ruled([text], logits[place : place + 1])
            token, right = decided(job, scores[0], guess, place)
            job.show((0,), scores, logits[place : place + 1], [])
            text.append(token)
            job.results[0].append(token)
            job.say(token)
            kept, ended = kept + right, job.ended([text], scores)[0]
            if ended or not right:
                break
        if ended:
            guesser.close()
            branch.close()
            return
        branch.crop(begin + kept)
        branch.append(*text[begin + kept :])
        if guess.tokens:
            guesser.learn(kept, len(guess.tokens))


def decided(job: Job, scores: Tensor, guess: Guess, place: int) -> tuple[int, bool]:
    """The next token, and whether it is the guess for this place."""
    guessed = guess.tokens[place] if place < len(guess.tokens) else None
    if guessed is None or not job.config.do_sample:
        token = job.choose(scores[None])[0]
        return token, token == guessed
    p = scores.softmax(-1)
    if guess.chances is None:
        q = torch.zeros_like(p).index_fill(0, torch.tensor([guessed], device=p.device), 1.0)
    else:
        q = guess.chances[place]
    if job.uniform() * q[guessed] < p[guessed]:
        return guessed, True
    rest = (p - q).clamp(min=0)
    rest = rest if bool(rest.sum() > 0) else p  # rounding alone left nothing
    return int(job.draw(rest)), False
