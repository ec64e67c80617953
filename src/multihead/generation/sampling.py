"""Token by token: the likeliest one, or a draw."""

from __future__ import annotations

from .engine import Request, Strategy
from .job import Job


def sampled(request: Request, job: Job) -> Strategy:
    """Continues a prompt `num_return_sequences` times; the prompt is read once."""
    count = job.config.num_return_sequences or 1
    job.results = [[] for _ in range(count)]
    first = job.first(request)
    reads = job.wishes([first])
    readings = yield reads
    logits = job.logits(readings)
    live = {0: first, **{number: first.fork() for number in range(1, count)}}
    logits = logits.expand(count, -1)
    reads = reads[:1] * count
    while True:
        branches = list(live.values())
        tokens, scores = job.next([branch.tokens for branch in branches], logits, readings)
        job.show(tuple(live), scores, logits, reads)
        for (number, branch), token in zip(live.items(), tokens, strict=True):
            branch.append(token)
            job.results[number].append(token)
        if 0 in live:
            job.say(tokens[0])
        ended = job.ended([branch.tokens for branch in branches], scores)
        for number, branch, end in zip(list(live), branches, ended, strict=True):
            if end:
                branch.close()
                del live[number]
        if not live:
            return
        reads = job.wishes(list(live.values()))
        readings = yield reads
        logits = job.logits(readings)
