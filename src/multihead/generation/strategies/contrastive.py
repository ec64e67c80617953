"""Contrastive search: likely tokens whose states are unlike those before (Su et al., 2022, arXiv:2202.06417)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..engine.sequence import ForwardRequest, Request, Strategy
from .base import Job


def contrasted(request: Request, job: Job) -> Strategy:
    """Of the `top_k` likeliest tokens the one with the most (1 - alpha) * probability - alpha * likeness.

    The likeness is the largest cosine between the token's state and those of all tokens before it; alpha is
    `penalty_alpha`. Every candidate is read, so what the chosen one gave is the next step's beginning.
    """
    alpha, count = job.config.penalty_alpha or 0.0, job.config.breadth
    job.results = [[]]
    branch = job.begin(request)
    (reading,) = yield [ForwardRequest(branch, num_states=len(branch.tokens))]
    logits, before = reading.logits, F.normalize(reading.hidden_states.float(), dim=-1)
    while True:
        again = not branch.max_pass_tokens(1)  # all is turned anew with the next token
        scores = job.ruled([branch.tokens], logits)
        chances, tokens = scores.softmax(-1)[0].topk(min(count, scores.shape[1]))
        candidates = [branch, *(branch.fork() for _ in tokens[1:])]
        for candidate, token in zip(candidates, tokens.tolist(), strict=True):
            candidate.append(token)
        size = len(branch.tokens)
        readings = yield [ForwardRequest(candidate, num_states=size if again else 0) for candidate in candidates]
        each = [F.normalize(reading.hidden_states.float(), dim=-1) for reading in readings]
        states = torch.cat([own[-1:] for own in each])
        likeness = torch.cat([own[-1:] @ (own[:-1] if again else before).T for own in each]).amax(-1)
        best = int(((1 - alpha) * chances - alpha * likeness).argmax())
        branch = candidates[best]
        for candidate in candidates:
            if candidate is not branch:
                candidate.close()
        token = branch.tokens[-1]
        job.show((0,), scores, logits, [])
        job.results[0].append(token)
        job.say(token)
        if job.ended([branch.tokens], scores)[0]:
            branch.close()
            return
        logits = readings[best].logits
        before = each[best] if again else torch.cat([before, states[best : best + 1]])
