"""Beam search (Graves, 2012, arXiv:1211.3711), diverse beam groups and constrained beams.

Each group of diverse beam search (Vijayakumar et al., 2016, arXiv:1610.02424) keeps as many finished as running beams.
Groups select one after another, and a token costs `diversity_penalty` for each time that an earlier group selected
it in the same step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import NoContinuation
from ..engine.sequence import ForwardRequest, ForwardResult, GenerationSequence, Request, Strategy
from ..logits.constraints import ConstraintProgress
from ..stopping import Continuation, Finish
from .base import GenerationJob, Hypothesis, not_none

BLOCK = 128  # scores whose maximum `top_indices` computes first
MAX_CANDIDATES = 64  # of a beam that a kernel finds without all scores
LOWEST = -1.0e9  # below every real score


class BeamGroup:
    """Beams that are ranked together."""

    def __init__(self, job: GenerationJob, sequences: Sequence[GenerationSequence], begin: int) -> None:
        self.job, self.sequences, self.begin = job, list(sequences), begin
        self.size = len(sequences)
        self.sums = [0.0] + [LOWEST] * (self.size - 1)  # all beams start equal, so only the first one counts
        self.paths: list[tuple[int, ...]] = [()] * self.size
        self.finished: list[Hypothesis] = []
        self.hopeful = True  # whether a running beam may still become better than a finished one
        self.done = False

    @property
    def num_candidates(self) -> int:
        """Number of candidates a step, enough that `size` beams continue even if candidates end."""
        return max(2, 1 + len(self.job.config.ends)) * self.size

    def choose(self, scores: Tensor) -> list[int]:
        """Advance by processed log-probabilities (beams, vocabulary); return the token that each beam goes on with."""
        total = scores.cpu() + torch.tensor(self.sums)[:, None]  # (beams, vocabulary): summed log-probabilities
        index = self.candidates(total)
        if not len(index):
            self.done = True
            return []
        words = scores.shape[1]
        values = total.flatten()[index].tolist()  # index = beam * vocabulary + token
        return self.take(values, (index // words).tolist(), (index % words).tolist(), scores)

    def choose_highest(self, found: Sequence[tuple[list[float], list[int]]]) -> list[int]:
        """Advance by the top log-probabilities of each beam and their tokens, best first, `num_candidates` at least."""
        candidates = [
            (value + before, -beam, -token)  # negative, so that ties go to the first beam and token
            for beam, (before, (values, tokens)) in enumerate(zip(self.sums, found, strict=True))
            for value, token in zip(values, tokens, strict=True)
        ]
        best = sorted(candidates, reverse=True)[: self.num_candidates]
        values, parents, tokens = [v for v, _, _ in best], [-p for _, p, _ in best], [-t for _, _, t in best]
        return self.take(values, parents, tokens, None)

    def take(
        self, values: Sequence[float], parents: Sequence[int], tokens: Sequence[int], scores: Tensor | None
    ) -> list[int]:
        """Advance with some of the candidates, best first: their summed scores, parent beams and tokens."""
        # a candidate may end by its whole text, for example by a stop string
        texts = [[*self.sequences[p].tokens, t] for p, t in zip(parents, tokens, strict=True)]
        finishes = self.job.finishes(texts, scores)
        ended = [finish is not None for finish in finishes]
        paths = [(*self.paths[p], self.begin + p) for p in parents]
        # an ended candidate stays in the list, below all that go on
        running = [value + LOWEST if end else value for value, end in zip(values, ended, strict=True)]
        complete = [(i, not_none(finishes[i])) for i in self.complete(values, ended)]
        self._collect(values, complete, texts, paths)
        order = self.select(running)
        self.sums, self.paths = [running[i] for i in order], [paths[i] for i in order]
        self.sequences = fork_sequences(self.sequences, [parents[i] for i in order])
        chosen = [tokens[i] for i in order]
        for sequence, token in zip(self.sequences, chosen, strict=True):
            sequence.append(token)
        self._judge(all(ended) or not order)
        return chosen

    def candidates(self, total: Tensor) -> Tensor:
        """Return indices into the flattened summed scores (beams, vocabulary): the best in order, or sampled ones."""
        total = total.flatten()  # (beams * vocabulary,)
        if self.job.config.do_sample:
            return self.job.sample(total.softmax(-1), self.num_candidates)
        return top_indices(total, min(self.num_candidates, len(total)))

    def complete(self, values: Sequence[float], ended: Sequence[bool]) -> list[int]:
        """Return the candidates that become hypotheses: those of the best `size` that have ended."""
        return [i for i in range(self.size) if ended[i] and values[i] > LOWEST]

    def select(self, running: Sequence[float]) -> list[int]:
        """Return the candidates that go on, best first."""
        return sorted(range(len(running)), key=running.__getitem__, reverse=True)[: self.size]

    def _collect(
        self,
        values: Sequence[float],
        complete: Sequence[tuple[int, Finish]],
        texts: Sequence[list[int]],
        paths: Sequence[tuple[int, ...]],
    ) -> None:
        """Add hypotheses, and keep the best `size`."""
        full = len(self.finished) == self.size and self.job.config.early_stopping is True
        if full or not self.hopeful:
            return
        prompt = len(self.job.prompt)
        for i, finish in complete:
            score = values[i] / (len(texts[0]) - prompt) ** self.penalty  # the prompt does not count in the length
            self.finished.append(Hypothesis(tuple(texts[i][prompt:]), paths[i], score, finish))
        self.finished = sorted(self.finished, key=lambda h: -h.score)[: self.size]

    @property
    def penalty(self) -> float:
        given = self.job.config.length_penalty
        return 1.0 if given is None else given

    def _judge(self, stuck: bool) -> None:
        """Decide whether the group is done. `stuck`: no candidate can go on."""
        config, prompt = self.job.config, len(self.job.prompt)
        length = len(self.sequences[0].tokens) - prompt if self.sequences else 1
        if config.early_stopping == "never" and self.penalty > 0:
            # a positive penalty favours long texts, so the best that a beam can reach is at the limit
            length = self.job.limit - prompt
        full = len(self.finished) == self.size
        if full and not stuck:  # as in transformers by the score at this length, though a later one may be higher
            best, worst = max(self.sums) / length**self.penalty, min(h.score for h in self.finished)
            self.hopeful = self.hopeful and best > worst
        self.done = stuck or not self.hopeful or (full and config.early_stopping is True)

    def close(self) -> None:
        for sequence in self.sequences:
            sequence.close()
        self.sequences = []


class ConstrainedBeamGroup(BeamGroup):
    """Beams that must contain given words (Post & Vilar, 2018, arXiv:1804.06609).

    Tokens that advance a word are candidates beside the most likely ones. Beams are assigned in turns to banks of
    candidates with equally many missing tokens, so that a text with more of its words need not be more likely than one
    with fewer. A candidate that can no longer contain all words within the length limit is dropped.
    """

    def __init__(self, job: GenerationJob, sequences: Sequence[GenerationSequence], begin: int) -> None:
        super().__init__(job, sequences, begin)
        self.progress = [ConstraintProgress(job.config.required)] * self.size
        self.next: list[ConstraintProgress] = []  # of the candidates of a step

    def candidates(self, total: Tensor) -> Tensor:
        words = total.shape[1]  # vocabulary
        found = set(super().candidates(total).tolist())
        for beam, progress in enumerate(self.progress):
            found |= {beam * words + token for token in progress.next_tokens if token < words}
        room = self.job.limit - len(self.sequences[0].tokens) - 1 - (self.job.config.forced_eos_token_id is not None)
        values = total.flatten()  # (beams * vocabulary,)
        order = sorted((i for i in found if values[i] > LOWEST), key=lambda i: (-float(values[i]), i))
        steps = [(i, self.progress[i // words].advance(i % words)) for i in order]
        # no room for the words that are left: such a beam could never finish
        steps = [(i, after) for i, after in steps if after.needed <= max(room, 0)]
        self.next = [after for _, after in steps]
        return torch.tensor([i for i, _ in steps], dtype=torch.long)

    def complete(self, values: Sequence[float], ended: Sequence[bool]) -> list[int]:
        return [i for i, end in enumerate(ended) if end and not self.next[i].left][: self.size]

    def select(self, running: Sequence[float]) -> list[int]:
        banks: dict[int, list[int]] = {}
        for i in sorted(range(len(running)), key=running.__getitem__, reverse=True):
            if running[i] > LOWEST:
                banks.setdefault(self.next[i].needed, []).append(i)
        # the best of each bank first, then the second of each
        turns = [(turn, needed, i) for needed, bank in banks.items() for turn, i in enumerate(bank)]
        order = [i for _, _, i in sorted(turns)[: self.size]]
        self.progress = [self.next[i] for i in order]
        return order


def fork_sequences(sequences: Sequence[GenerationSequence], parents: Sequence[int]) -> list[GenerationSequence]:
    """Return a sequence for each parent index: the parent itself at first, then forks. Close all other sequences."""
    made, used = [], set[int]()
    for parent in parents:
        made.append(sequences[parent].fork() if parent in used else sequences[parent])
        used.add(parent)
    for number, sequence in enumerate(sequences):
        if number not in used:
            sequence.close()
    return made


def beam_search(request: Request, job: GenerationJob) -> Strategy:
    """Continue a prompt with `num_beams` beams and keep the best `num_return_sequences`."""
    count, groups = job.config.num_beams or 1, job.config.num_beam_groups or 1
    first = job.begin(request)
    yield from job.score_prompt(first)
    forwards = job.forward_requests([first])
    results = yield forwards
    # All beams start from the prompt's logits.
    results = results * count if job.uses_raw_logits else results
    forwards = forwards[:1] * count
    beams = [first, *(first.fork() for _ in range(count - 1))]
    size = count // groups
    kind = ConstrainedBeamGroup if job.config.required else BeamGroup
    parts = [kind(job, beams[begin : begin + size], begin) for begin in range(0, count, size)]
    while True:
        live = [part for part in parts if not part.done]
        numbers = [part.begin + i for part in live for i in range(len(part.sequences))]
        step_groups(job, live, numbers, results, forwards)
        for part in live:
            if part.done:
                part.close()
        sequences = [sequence for part in parts for sequence in part.sequences]
        if not sequences:
            break
        forwards = job.forward_requests(sequences)
        results = yield forwards
    best = sorted((h for part in parts for h in part.finished), key=lambda h: -h.score)
    wanted = job.config.num_return_sequences or 1
    if len(best) < wanted:
        raise NoContinuation(
            f"Prompt {job.number}: {len(best)} of {wanted} texts were found that are as asked. Allow more "
            "max_new_tokens, time or num_beams, or fewer bans of tokens."
        )
    job.finished = best[:wanted]
    job.results = [Continuation(hypothesis.tokens, hypothesis.finish) for hypothesis in job.finished]
    for number, result in enumerate(job.results):  # known at the end only
        for token in result:
            job.emit(number, token)


def step_groups(
    job: GenerationJob,
    live: Sequence[BeamGroup],
    numbers: Sequence[int],
    results: Sequence[ForwardResult],
    forwards: Sequence[ForwardRequest],
) -> None:
    """Advance all groups by one token, one after another."""
    sequences = [sequence for part in live for sequence in part.sequences]
    if step_by_top_logprobs(job, live, results):
        return
    # (beams, vocabulary); in the first step one row may stand for all beams
    logits = job.logits(results).expand(len(sequences), -1)
    scores = job.process_logits([sequence.tokens for sequence in sequences], logits.log_softmax(-1))
    chosen: list[int] = []
    shown = []
    for part in live:
        # (beams of the group, vocabulary); (beams of the later groups, vocabulary)
        own, scores = scores[: len(part.sequences)], scores[len(part.sequences) :]
        if chosen and job.config.diversity_penalty:
            # (vocabulary,): how often earlier groups have chosen each token
            counts = torch.bincount(torch.tensor(chosen), minlength=own.shape[1]).to(own.device)
            own = own - job.config.diversity_penalty * counts
        shown.append(own)
        chosen += part.choose(own)
    job.record_step(numbers, torch.cat(shown), logits, forwards)


def step_by_top_logprobs(job: GenerationJob, live: Sequence[BeamGroup], results: Sequence[ForwardResult]) -> bool:
    """Advance all groups by the top log-probabilities alone; return False where that is not enough."""
    if not job.uses_raw_logits:
        return False
    has_penalty = len(live) > 1 and job.config.diversity_penalty
    if has_penalty or any(type(part) is not BeamGroup for part in live):
        return False
    banned_tokens = job.banned_tokens(len(live[0].sequences[0].tokens))
    if banned_tokens is None or live[0].num_candidates > MAX_CANDIDATES:
        return False
    found = [result.top_logprobs(live[0].num_candidates, banned_tokens) for result in results]
    if any(each is None for each in found):
        return False
    begin = 0
    for part in live:
        end = begin + len(part.sequences)
        part.choose_highest([each for each in found[begin:end] if each is not None])
        begin = end
    return True


def top_indices(scores: Tensor, count: int) -> Tensor:
    """Return the indices of the highest scores, (count,), highest first.

    The highest scores are in the blocks with the highest maxima. Selecting those blocks first is several times faster
    than one `topk` over all scores.
    """
    whole = len(scores) // BLOCK * BLOCK  # scores in whole blocks; all of the rest are candidates
    if whole < 8 * count * BLOCK or scores.device.type != "cpu":
        return scores.topk(count).indices
    blocks = scores[:whole].view(-1, BLOCK).amax(1).topk(count).indices  # (count,)
    places = (blocks[:, None] * BLOCK + torch.arange(BLOCK)).flatten()  # (count * BLOCK,)
    places = torch.cat([places, torch.arange(whole, len(scores))])  # (candidates,)
    return places[scores[places].topk(count).indices]  # (count,)
