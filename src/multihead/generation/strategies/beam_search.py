"""Beam search: the likeliest continuations as wholes (Graves, 2012, arXiv:1211.3711), in diverse groups if asked for.

Every group (Vijayakumar et al., 2016, arXiv:1610.02424) keeps as many running beams as finished ones; groups choose one
after another, and a token that earlier ones chose in the same step costs `diversity_penalty` each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import NoContinuation
from ..engine.sequence import ForwardRequest, ForwardResult, GenerationSequence, Request, Strategy
from ..logits.constraints import Progress
from .base import Hypothesis, Job

BLOCK = 128  # scores of which the highest is found first
MOST = 64  # candidates of a beam that are found one by one
OUT = -1.0e9  # a score that nothing real is below


class Group:
    """Beams that compete with one another."""

    def __init__(self, job: Job, branches: Sequence[GenerationSequence], begin: int) -> None:
        self.job, self.branches, self.begin = job, list(branches), begin
        self.size = len(branches)
        self.sums = [0.0] + [OUT] * (self.size - 1)  # all begin alike: only the first one is asked
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
        total = scores.cpu() + torch.tensor(self.sums)[:, None]
        index = self.candidates(total)
        if not len(index):
            self.done = True
            return []
        words = scores.shape[1]
        values = total.flatten()[index].tolist()
        return self.take(values, (index // words).tolist(), (index % words).tolist(), scores)

    def choose_highest(self, found: Sequence[tuple[list[float], list[int]]]) -> list[int]:
        """The same of the highest log-probabilities of each beam, at least `keep`, best first, and their tokens."""
        candidates = [
            (value + before, -beam, -token)
            for beam, (before, (values, tokens)) in enumerate(zip(self.sums, found, strict=True))
            for value, token in zip(values, tokens, strict=True)
        ]
        best = sorted(candidates, reverse=True)[: self.keep]
        values, parents, tokens = [v for v, _, _ in best], [-p for _, p, _ in best], [-t for _, _, t in best]
        return self.take(values, parents, tokens, None)

    def take(
        self, values: Sequence[float], parents: Sequence[int], tokens: Sequence[int], scores: Tensor | None
    ) -> list[int]:
        """Goes on with some of these candidates, best first: their summed scores, beams and tokens."""
        texts = [[*self.branches[p].tokens, t] for p, t in zip(parents, tokens, strict=True)]
        ended = self.job.ended(texts, scores)
        paths = [(*self.paths[p], self.begin + p) for p in parents]
        running = [value + OUT if end else value for value, end in zip(values, ended, strict=True)]
        self._collect(values, self.complete(values, ended), texts, paths)
        order = self.kept(running)
        self.sums, self.paths = [running[i] for i in order], [paths[i] for i in order]
        self.branches = forked(self.branches, [parents[i] for i in order])
        chosen = [tokens[i] for i in order]
        for branch, token in zip(self.branches, chosen, strict=True):
            branch.append(token)
        self._judge(all(ended) or not order)
        return chosen

    def candidates(self, total: Tensor) -> Tensor:
        """The best of summed scores (beams, vocabulary), or a draw of them: indices into all, best first."""
        total = total.flatten()
        if self.job.config.do_sample:
            return self.job.draw(total.softmax(-1), self.keep)
        return best(total, min(self.keep, len(total)))

    def complete(self, values: Sequence[float], ended: Sequence[bool]) -> list[int]:
        """Candidates that are results: of the best, as many as there are beams, those that have ended."""
        return [i for i in range(self.size) if ended[i] and values[i] > OUT]

    def kept(self, running: Sequence[float]) -> list[int]:
        """Candidates that go on, best first."""
        return sorted(range(len(running)), key=running.__getitem__, reverse=True)[: self.size]

    def _collect(
        self,
        values: Sequence[float],
        complete: Sequence[int],
        texts: Sequence[list[int]],
        paths: Sequence[tuple[int, ...]],
    ) -> None:
        """Takes in results."""
        full = len(self.finished) == self.size and self.job.config.early_stopping is True
        if full or not self.hopeful:
            return
        prompt = len(self.job.prompt)
        for i in complete:
            score = values[i] / (len(texts[0]) - prompt) ** self.penalty
            self.finished.append(Hypothesis(tuple(texts[i][prompt:]), paths[i], score))
        self.finished = sorted(self.finished, key=lambda h: -h.score)[: self.size]

    @property
    def penalty(self) -> float:
        given = self.job.config.length_penalty
        return 1.0 if given is None else given

    def _judge(self, stuck: bool) -> None:
        """Whether to go on: `stuck` when no candidate can."""
        config, prompt = self.job.config, len(self.job.prompt)
        length = len(self.branches[0].tokens) - prompt if self.branches else 1
        if config.early_stopping == "never" and self.penalty > 0:
            length = self.job.limit - prompt
        full = len(self.finished) == self.size
        if full and not stuck:
            best, worst = max(self.sums) / length**self.penalty, min(h.score for h in self.finished)
            self.hopeful = self.hopeful and best > worst
        self.done = stuck or not self.hopeful or (full and config.early_stopping is True)

    def close(self) -> None:
        for branch in self.branches:
            branch.close()
        self.branches = []


class Constrained(Group):
    """Beams that must come to hold some words (Post & Vilar, 2018, arXiv:1804.06609).

    Beside the likeliest candidates each beam has those that bring its words further. Places go to candidates in turns,
    by how many tokens of the words are still needed, so that a text with more of them need not be likelier than one
    with fewer. A candidate that could no longer hold all words by the end is none.
    """

    def __init__(self, job: Job, branches: Sequence[GenerationSequence], begin: int) -> None:
        super().__init__(job, branches, begin)
        self.progress = [Progress(job.config.required)] * self.size
        self.next: list[Progress] = []  # of the candidates of a step

    def candidates(self, total: Tensor) -> Tensor:
        words = total.shape[1]
        found = set(super().candidates(total).tolist())
        for beam, progress in enumerate(self.progress):
            found |= {beam * words + token for token in progress.next_tokens if token < words}
        room = self.job.limit - len(self.branches[0].tokens) - 1 - (self.job.config.forced_eos_token_id is not None)
        values = total.flatten()
        order = sorted((i for i in found if values[i] > OUT), key=lambda i: (-float(values[i]), i))
        steps = [(i, self.progress[i // words].advance(i % words)) for i in order]
        steps = [(i, after) for i, after in steps if after.needed <= max(room, 0)]
        self.next = [after for _, after in steps]
        return torch.tensor([i for i, _ in steps], dtype=torch.long)

    def complete(self, values: Sequence[float], ended: Sequence[bool]) -> list[int]:
        return [i for i, end in enumerate(ended) if end and not self.next[i].left][: self.size]

    def kept(self, running: Sequence[float]) -> list[int]:
        banks: dict[int, list[int]] = {}
        for i in sorted(range(len(running)), key=running.__getitem__, reverse=True):
            if running[i] > OUT:
                banks.setdefault(self.next[i].needed, []).append(i)
        turns = [(turn, needed, i) for needed, bank in banks.items() for turn, i in enumerate(bank)]
        order = [i for _, _, i in sorted(turns)[: self.size]]
        self.progress = [self.next[i] for i in order]
        return order


def forked(branches: Sequence[GenerationSequence], parents: Sequence[int]) -> list[GenerationSequence]:
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
    first = job.begin(request)
    reads = job.wishes([first])
    readings = yield reads
    readings, reads = readings * count if job.plain else readings, reads[:1] * count  # all beams begin alike
    beams = [first, *(first.fork() for _ in range(count - 1))]
    size = count // groups
    kind = Constrained if job.config.required else Group
    parts = [kind(job, beams[begin : begin + size], begin) for begin in range(0, count, size)]
    while True:
        live = [part for part in parts if not part.done]
        numbers = [part.begin + i for part in live for i in range(len(part.branches))]
        step(job, live, numbers, readings, reads)
        for part in live:
            if part.done:
                part.close()
        branches = [branch for part in parts for branch in part.branches]
        if not branches:
            break
        reads = job.wishes(branches)
        readings = yield reads
    best = sorted((h for part in parts for h in part.finished), key=lambda h: -h.score)
    wanted = job.config.num_return_sequences or 1
    if len(best) < wanted:
        raise NoContinuation(
            f"Prompt {job.number}: {len(best)} of {wanted} texts were found that are as asked. Allow more "
            "max_new_tokens, time or num_beams, or fewer bans of tokens."
        )
    job.finished = best[:wanted]
    job.results = [list(hypothesis.tokens) for hypothesis in job.finished]


def step(
    job: Job,
    live: Sequence[Group],
    numbers: Sequence[int],
    readings: Sequence[ForwardResult],
    reads: Sequence[ForwardRequest],
) -> None:
    """One step of all groups, one after another."""
    branches = [branch for part in live for branch in part.branches]
    if highest_alone(job, live, readings):
        return
    logits = job.logits(readings).expand(len(branches), -1)
    scores = job.ruled([branch.tokens for branch in branches], logits.log_softmax(-1))
    chosen: list[int] = []
    shown = []
    for part in live:
        own, scores = scores[: len(part.branches)], scores[len(part.branches) :]
        if chosen and job.config.diversity_penalty:
            counts = torch.bincount(torch.tensor(chosen), minlength=own.shape[1]).to(own.device)
            own = own - job.config.diversity_penalty * counts
        shown.append(own)
        chosen += part.choose(own)
    job.show(numbers, torch.cat(shown), logits, reads)


def highest_alone(job: Job, live: Sequence[Group], readings: Sequence[ForwardResult]) -> bool:
    """Takes the step where the likeliest tokens that are not banned are all that it needs."""
    if not job.plain:
        return False
    apart = len(live) > 1 and job.config.diversity_penalty
    if apart or any(type(part) is not Group for part in live):
        return False
    bans = job.bans(len(live[0].branches[0].tokens))
    if bans is None or live[0].keep > MOST:
        return False
    found = [reading.top_logprobs(live[0].keep, bans) for reading in readings]
    if any(each is None for each in found):
        return False
    begin = 0
    for part in live:
        end = begin + len(part.branches)
        part.choose_highest([each for each in found[begin:end] if each is not None])
        begin = end
    return True


def best(scores: Tensor, count: int) -> Tensor:
    """Indices of the highest of many scores, highest first.

    They lie in the blocks whose maxima are the highest; finding these first is several times faster than one `topk`.
    """
    whole = len(scores) // BLOCK * BLOCK
    if whole < 8 * count * BLOCK or scores.device.type != "cpu":
        return scores.topk(count).indices
    blocks = scores[:whole].view(-1, BLOCK).amax(1).topk(count).indices
    places = (blocks[:, None] * BLOCK + torch.arange(BLOCK)).flatten()
    places = torch.cat([places, torch.arange(whole, len(scores))])
    return places[scores[places].topk(count).indices]
