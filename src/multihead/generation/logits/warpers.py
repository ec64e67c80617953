"""Logits warpers of sampling: temperature, top-k, top-p and the like. Scores are (sequences, vocabulary)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..config import GenerationConfig

LogitsWarper = Callable[[Tensor], Tensor]
NEVER = float("-inf")
TOP_H_TOKENS = 100  # that top-h considers
COLDEST = 1e-30  # temperature below which a quotient could overflow; the most likely token is certain long before


def logits_warpers(config: GenerationConfig, keep: int = 1) -> list[LogitsWarper]:
    """Return the warpers that a config asks for, in transformers' order. `keep`: least tokens that stay."""
    out: list[LogitsWarper] = []
    if config.temperature not in (None, 1.0):
        heat = max(config.temperature, COLDEST)
        out.append(lambda scores: scores / heat)
    if config.top_h is not None:
        out.append(partial(top_h, share=config.top_h))
    if config.breadth:
        out.append(partial(top_k, k=max(config.breadth, keep)))
    if config.top_p is not None and config.top_p < 1:
        out.append(partial(top_p, p=config.top_p, keep=keep))
    if config.min_p:
        out.append(partial(min_p, least=config.min_p, keep=keep))
    if config.typical_p is not None and config.typical_p < 1:
        out.append(partial(typical, mass=config.typical_p, keep=keep))
    if config.epsilon_cutoff:
        out.append(partial(epsilon, least=config.epsilon_cutoff, keep=keep))
    if config.eta_cutoff:
        out.append(partial(eta, least=config.eta_cutoff, keep=keep))
    return out


def top_k(scores: Tensor, k: int) -> Tensor:
    """Keep the k highest scores of each sequence (Fan et al., 2018, arXiv:1805.04833)."""
    least = scores.topk(min(k, scores.shape[-1])).values[:, -1:]  # (sequences, 1): the k-th highest score
    return scores.masked_fill(scores < least, NEVER)  # ties with the k-th score stay, as in transformers


def top_p(scores: Tensor, p: float, keep: int = 1) -> Tensor:
    """Keep the fewest tokens whose probabilities reach p (Holtzman et al., 2019, arXiv:1904.09751)."""
    ordered, places = scores.sort(dim=-1)  # (sequences, vocabulary), lowest first
    drop = ordered.softmax(-1).cumsum(-1) <= 1 - p  # tokens whose mass together is at most 1 - p
    drop[:, -keep:] = False
    # back to the order of the vocabulary
    return scores.masked_fill(drop.scatter(1, places, drop), NEVER)


def min_p(scores: Tensor, least: float, keep: int = 1) -> Tensor:
    """Keep tokens with at least this share of the most likely token's probability (arXiv:2407.01082)."""
    p = scores.softmax(-1)  # (sequences, vocabulary)
    return _keep_best(scores, p < least * p.amax(-1, keepdim=True), keep)


def typical(scores: Tensor, mass: float, keep: int = 1) -> Tensor:
    """Keep tokens whose surprise is nearest to the expected one, up to a mass (Meister et al., arXiv:2202.00666)."""
    logs = scores.log_softmax(-1)  # (sequences, vocabulary)
    # (sequences, 1); 0 * -inf of a banned token is NaN and counts as 0
    entropy = -(logs.exp() * logs).nansum(-1, keepdim=True)
    far, places = (-logs - entropy).abs().sort(dim=-1)  # (sequences, vocabulary), nearest first
    reached = scores.gather(-1, places).softmax(-1).cumsum(-1)  # (sequences, vocabulary): mass of the nearest tokens
    # (sequences, 1): the token that reaches the mass
    last = (reached < mass).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
    drop = far > far.gather(1, last)  # (sequences, vocabulary), in the sorted order
    drop[:, :keep] = False
    return scores.masked_fill(drop.scatter(1, places, drop), NEVER)


def epsilon(scores: Tensor, least: float, keep: int = 1) -> Tensor:
    """Keep tokens with at least this probability (Hewitt et al., 2022, arXiv:2210.15191)."""
    return _keep_ties(scores, scores.softmax(-1) < least, keep)


def eta(scores: Tensor, least: float, keep: int = 1) -> Tensor:
    """Keep tokens as `epsilon`, with a bound that falls where the distribution is wide (arXiv:2210.15191)."""
    logs = scores.log_softmax(-1)  # (sequences, vocabulary)
    p = logs.exp()
    # (sequences, 1); the clamp gives 0 for a banned token, not NaN
    entropy = -(p * logs.clamp(min=torch.finfo(scores.dtype).min)).sum(-1, keepdim=True)
    # (sequences, 1)
    bound = torch.minimum(scores.new_tensor(least), scores.new_tensor(least).sqrt() * torch.exp(-entropy))
    return _keep_ties(scores, p < bound, keep)


def top_h(scores: Tensor, share: float) -> Tensor:
    """Keep the most likely tokens while their entropy is within a share of the whole (arXiv:2509.02510)."""
    best, places = scores.topk(min(TOP_H_TOKENS, scores.shape[-1]))  # (sequences, at most TOP_H_TOKENS), highest first
    logs = best.log_softmax(-1)
    # the part of each token in the entropy; 0 for a banned token, not NaN
    terms = -(logs.exp() * logs.clamp(min=torch.finfo(scores.dtype).min))
    kept = terms.cumsum(-1) <= share * terms.sum(-1, keepdim=True)
    kept[:, 0] = True  # the most likely token stays whatever its entropy
    out = torch.full_like(scores, NEVER)
    return out.scatter(1, places, best.masked_fill(~kept, NEVER))


def _keep_ties(scores: Tensor, drop: Tensor, keep: int) -> Tensor:
    """Return scores without dropped tokens, but with the `keep` highest and all ties with the last of them."""
    least = scores.topk(min(keep, scores.shape[-1])).values[:, -1:]  # (sequences, 1): the score of the last kept token
    return scores.masked_fill(drop & (scores < least), NEVER)


def _keep_best(scores: Tensor, drop: Tensor, keep: int) -> Tensor:
    """Return scores without dropped tokens, but with the `keep` highest."""
    best = scores.topk(min(keep, scores.shape[-1])).indices  # (sequences, keep)
    return scores.masked_fill(drop.scatter(1, best, False), NEVER)
