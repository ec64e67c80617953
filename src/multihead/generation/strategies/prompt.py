"""Reading of a prompt that is not continued."""

from __future__ import annotations

from ..engine.sequence import Request, Strategy
from ..stopping import LENGTH, Continuation
from .base import GenerationJob


def read_prompt(request: Request, job: GenerationJob) -> Strategy:
    """Read a prompt and write nothing: for its log-probabilities, or to leave its cache to later prompts."""
    sequence = job.begin(request)
    if job.logprobs.prompt is not None:
        yield from job.score_prompt(sequence)
    else:
        yield job.forward_requests([sequence])
    job.tell_prompt()
    job.results = [Continuation(finish=LENGTH) for _ in range(job.config.num_return_sequences or 1)]
    sequence.close()
