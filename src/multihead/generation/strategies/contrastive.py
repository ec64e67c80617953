"""Contrastive search (Su et al., 2022, arXiv:2202.06417)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..engine.sequence import ForwardRequest, Request, Strategy
from ..stopping import Continuation
from .base import GenerationJob


def contrastive_search(request: Request, job: GenerationJob) -> Strategy:
    """Select of the `top_k` most likely tokens the one with the largest (1 - alpha) * probability - alpha * similarity.

    The similarity is the largest cosine between the token's hidden state and those of all tokens before it; alpha is
    `penalty_alpha`. Each candidate is read in a fork of the sequence, and the selected fork goes on.
    """
    alpha, count = job.config.penalty_alpha or 0.0, job.config.breadth
    job.results = [Continuation()]
    sequence = job.begin(request)
    yield from job.score_prompt(sequence)
    (result,) = yield [ForwardRequest(sequence, num_states=len(sequence.tokens))]
    # (1, vocabulary); (tokens, width), of unit length, so that a product is a cosine
    logits, before = result.logits, F.normalize(result.hidden_states.float(), dim=-1)
    while True:
        again = not sequence.max_pass_tokens(1)  # rotary frequencies change with the next token, so all is read again
        scores = job.process_logits([sequence.tokens], logits)
        probabilities, tokens = scores.softmax(-1)[0].topk(min(count, scores.shape[1]))  # (candidates,) each
        candidates = [sequence, *(sequence.fork() for _ in tokens[1:])]  # forks share the cached prefix
        for candidate, token in zip(candidates, tokens.tolist(), strict=True):
            candidate.append(token)
        size = len(sequence.tokens)
        results = yield [ForwardRequest(candidate, num_states=size if again else 0) for candidate in candidates]
        # (states, width) of each candidate
        each = [F.normalize(result.hidden_states.float(), dim=-1) for result in results]
        states = torch.cat([own[-1:] for own in each])  # (candidates, width): states of the new tokens
        # (1, tokens before) of each candidate, to (candidates,)
        similarity = torch.cat([own[-1:] @ (own[:-1] if again else before).T for own in each]).amax(-1)
        best = int(((1 - alpha) * probabilities - alpha * similarity).argmax())  # over (candidates,)
        sequence = candidates[best]
        for candidate in candidates:
            if candidate is not sequence:
                candidate.close()
        token = sequence.tokens[-1]
        job.record_step((0,), scores, logits, [])
        job.results[0].append(token)
        job.emit(0, token, result)
        job.results[0].finish = job.finishes([sequence.tokens], scores)[0]
        if job.results[0].finish:
            sequence.close()
            return
        result = results[best]
        logits = result.logits
        before = each[best] if again else torch.cat([before, states[best : best + 1]])  # (tokens, width)
