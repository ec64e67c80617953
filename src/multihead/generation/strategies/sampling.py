"""Greedy decoding and sampling."""

from __future__ import annotations

from ..engine.sequence import Request, Strategy
from ..stopping import Continuation
from .base import GenerationJob


def sampling(request: Request, job: GenerationJob) -> Strategy:
    """Continue a prompt `num_return_sequences` times; the prompt is read once."""
    count = job.config.num_return_sequences or 1
    job.results = [Continuation() for _ in range(count)]
    first = job.begin(request)
    yield from job.score_prompt(first)
    forwards = job.forward_requests([first])
    results = yield forwards
    job.keep_prompt(first)
    # the one pass over the prompt is part of the output of every continuation
    forwards = forwards[:1] * count if job.records_steps else forwards
    # forks share the blocks of the prompt
    numbers, sequences = list(range(count)), [first, *[first.fork() for _ in range(1, count)]]
    rows = results[:1] * count  # the result that each sequence's next token is selected from
    while True:
        # more than one step after a lookahead
        for chosen in job.next_tokens(sequences, results):
            if chosen.scores is not None and chosen.logits is not None:
                job.record_step(numbers, chosen.scores, chosen.logits, forwards)
            for place, (number, sequence, token) in enumerate(zip(numbers, sequences, chosen.tokens, strict=True)):
                sequence.append(token)
                job.results[number].append(token)
                job.emit(number, token, rows[place])
            finishes = job.finishes([sequence.tokens for sequence in sequences], chosen.scores)
            if any(finishes):
                for number, sequence, finish in zip(numbers, sequences, finishes, strict=True):
                    if finish:
                        job.results[number].finish = finish
                        sequence.close()
                numbers = [number for number, finish in zip(numbers, finishes, strict=True) if not finish]
                sequences = [sequence for sequence, finish in zip(sequences, finishes, strict=True) if not finish]
                if not sequences:
                    return
        forwards = job.forward_requests(sequences)
        job.add_lookahead(sequences, forwards[0])
        rows = results = yield forwards
