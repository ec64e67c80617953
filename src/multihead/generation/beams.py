"""Beam search: the likeliest continuations as wholes (Graves, 2012, arXiv:1211.3711), in diverse groups if asked for.

Every group (Vijayakumar et al., 2016, arXiv:1610.02424) keeps as many running beams as finished ones; groups choose one
after another, and a token that earlier ones chose in the same step costs `diversity_penalty` each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .branches import Branch, Read
from .engine import Request, Strategy
from .job import Job

OUT = -1.0e9  # a score that nothing real is below


@dataclass(frozen=True)
class Hypothesis:
    """A continuation that has ended.

    Args:
        tokens: new ones. beams: which beam each was chosen in. score: log-probability over length ** length_penalty.
    """

    tokens: tuple[int, ...]
    beams: tuple[int, ...]
    score: Tensor


class Group:
    """Beams that compete with one another."""

    def __init__(self, job: Job, branches: Sequence[Branch], begin: int) -> None:
        self.job, self.branches, self.begin = job, list(branches), begin
        self.size = len(branches)
        self.sums = torch.full((self.size,), OUT)
        self.sums[0] = 0.0  # all begin alike: only the first one is asked
        self.paths: list[tuple[int, ...]] = [()] * self.size
        self.finished: list[Hypothesis] = []
        self.hopeful = True  # whether a running beam may still better the finished ones
        self.done = False

    @property
    def keep(self) -> int:
        """Candidates a step: enough that as many as there are beams go on, whatever ends."""
        return max(2, 1 + len(self.job.config.ends)) * self.size

    def choose(self, scores: Tensor) -> list[int]:
        """Takes a step over processed log-probabilities (beams, vocabulary); the tokens that the beams go on with."""
        total = (scores.cpu() + self.sums[:, None]).flatten()
        if self.job.config.do_sample:
            draw = self.job.generator if scores.device.type == "cpu" else None
            index = torch.multinomial(total.softmax(-1), self.keep, generator=draw)
            values = total[index]
        else:
            values, index = total.topk(min(self.keep, len(total)))
        parents, tokens = (index // scores.shape[1]).tolist(), (index % scores.shape[1]).tolist()
        texts = [[*self.branches[p].tokens, t] for p, t in zip(parents, tokens, strict=True)]
        ended = self.job.ended(texts, scores)
        paths = [(*self.paths[p], self.begin + p) for p in parents]
        running = values + torch.tensor(ended) * OUT
        order = running.topk(self.size).indices.tolist()
        self._collect(values, ended, texts, paths)
        self.sums, self.paths = running[order], [paths[i] for i in order]
        self.branches = forked(self.branches, [parents[i] for i in order])
        chosen = [tokens[i] for i in order]
        for branch, token in zip(self.branches, chosen, strict=True):
            branch.append(token)
        self._judge(all(ended))
        return chosen

    def _collect(
        self, values: Tensor, ended: Sequence[bool], texts: Sequence[list[int]], paths: Sequence[tuple[int, ...]]
    ) -> None:
        """Takes in what has ended among the best candidates, as many as there are beams."""
        full = len(self.finished) == self.size and self.job.config.early_stopping is True
        if full or not self.hopeful:
            return
        prompt = len(self.job.prompt)
        scores = values / ((len(texts[0]) - prompt) ** self.penalty)
        for i in range(self.size):
            if ended[i]:
                self.finished.append(Hypothesis(tuple(texts[i][prompt:]), paths[i], scores[i]))
        self.finished = sorted(self.finished, key=lambda h: -h.score.item())[: self.size]

    @property
    def penalty(self) -> float:
        given = self.job.config.length_penalty
        return 1.0 if given is None else given

    def _judge(self, stuck: bool) -> None:
        """Whether to go on: `stuck` when no candidate can."""
        config, prompt = self.job.config, len(self.job.prompt)
        length = len(self.branches[0].tokens) - prompt
        if config.early_stopping == "never" and self.penalty > 0:
            length = self.job.limit - prompt
        full = len(self.finished) == self.size
        if full:
            best, worst = self.sums[0] / length**self.penalty, min(h.score for h in self.finished)
            self.hopeful = self.hopeful and bool(best > worst)
        self.done = stuck or not self.hopeful or (full and config.early_stopping is True)

    def close(self) -> None:
        for branch in self.branches:
            branch.close()
        self.branches = []


def forked(branches: Sequence[Branch], parents: Sequence[int]) -> list[Branch]:
    """A branch for each parent named: the parent itself, then forks of it; parents that are not named are closed."""
    made, used = [], set[int]()
    for parent in parents:
        made.append(branches[parent].fork() if parent in used else branches[parent])
        used.add(parent)
    for number, branch in enumerate(branches):
        if number not in used:
            branch.close()
    return made


def beamed(request: Request, job: Job) -> Strategy:
    """The best `num_return_sequences` of `num_beams` continuations."""
    count, groups = job.config.num_beams or 1, job.config.num_beam_groups or 1
    first = job.first(request)
    reads = job.wishes([first])
    logits = job.logits((yield reads)).expand(count, -1)
    reads = reads[:1] * count
    beams = [first, *(first.fork() for _ in range(count - 1))]
    size = count // groups
    parts = [Group(job, beams[begin : begin + size], begin) for begin in range(0, count, size)]
    while True:
        live = [part for part in parts if not part.done]
        numbers = [part.begin + i for part in live for i in range(size)]
        step(job, live, numbers, logits, reads)
        for part in live:
            if part.done:
                part.close()
        branches = [branch for part in parts for branch in part.branches]
        if not branches:
            break
        reads = job.wishes(branches)
        logits = job.logits((yield reads))
    best = sorted((h for part in parts for h in part.finished), key=lambda h: -h.score.item())
    job.finished = best[: job.config.num_return_sequences or 1]
    job.results = [list(hypothesis.tokens) for hypothesis in job.finished]


def step(job: Job, live: Sequence[Group], numbers: Sequence[int], logits: Tensor, reads: Sequence[Read]) -> None:
    """One step of all groups, one after another."""
    branches = [branch for part in live for branch in part.branches]
    scores = job.ruled([branch.tokens for branch in branches], logits.log_softmax(-1))
    chosen: list[int] = []
    shown = []
    for number, part in enumerate(live):
        own = scores[number * part.size : (number + 1) * part.size]
        if chosen and job.config.diversity_penalty:
            counts = torch.bincount(torch.tensor(chosen), minlength=own.shape[1]).to(own.device)
            own = own - job.config.diversity_penalty * counts
        shown.append(own)
        chosen += part.choose(own)
    job.show(numbers, torch.cat(shown), logits, reads)
