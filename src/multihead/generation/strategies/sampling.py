"""Token by token: the likeliest one, or a draw."""

from __future__ import annotations

from ..engine.sequence import Request, Strategy
from .base import Job


def sampled(request: Request, job: Job) -> Strategy:
    """Continues a prompt `num_return_sequences` times; the prompt is read once."""
    count = job.config.num_return_sequences or 1
    job.results = [[] for _ in range(count)]
    first = job.begin(request)
    reads = job.wishes([first])
    readings = yield reads
    reads = reads[:1] * count if job.shows else reads
    numbers, branches = list(range(count)), [first, *[first.fork() for _ in range(1, count)]]
    while True:
        for chosen in job.next(branches, readings):
            if chosen.scores is not None and chosen.logits is not None:
                job.show(numbers, chosen.scores, chosen.logits, reads)
            for number, branch, token in zip(numbers, branches, chosen.tokens, strict=True):
                branch.append(token)
                job.results[number].append(token)
            if numbers[0] == 0:
                job.say(chosen.tokens[0])
            ended = job.ended([branch.tokens for branch in branches], chosen.scores)
            if True in ended:
                for branch, end in zip(branches, ended, strict=True):
                    if end:
                        branch.close()
                numbers = [number for number, end in zip(numbers, ended, strict=True) if not end]
                branches = [branch for branch, end in zip(branches, ended, strict=True) if not end]
                if not branches:
                    return
        reads = job.wishes(branches)
        job.look_ahead(branches, reads[0])
        readings = yield reads
