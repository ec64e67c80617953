"""Sampling from the top candidates alone, where a config's warpers keep no other tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ...kernels.ops import backend
from ...runtime.step_output import mask_tokens
from ..config import GenerationConfig
from .warpers import COLDEST, NEVER, logits_warpers

EXTRA = 8  # candidates beyond top-k, since ties with the last one stay
NUCLEUS = 256  # candidates of top-p


class Candidates:
    """The candidates that a config samples from.

    Args:
        config: with a limit of the number of tokens (top_k) or of their probability mass (top_p). k: top_k, 0 for none.
    """

    def __init__(self, config: GenerationConfig, k: int) -> None:
        self.k, self.temperature = k, max(config.temperature or 1.0, COLDEST)
        self.p = 1.0 if config.top_p is None else config.top_p
        self.warpers = logits_warpers(config.changed(temperature=1.0, top_k=0, top_p=config.top_p if k else 1.0))

    @classmethod
    def of(cls, config: GenerationConfig) -> Candidates | None:
        """Return None where any token may be sampled, or where other processors decide which."""
        bound = config.breadth or (config.top_p is not None and config.top_p < 1)
        needs_all_scores = (
            config.top_h is not None or config.watermarking_config is not None or config.renormalize_logits
        )
        plain = config.do_sample and (config.num_beams or 1) == 1 and not needs_all_scores
        return cls(config, config.breadth) if plain and bound else None

    @property
    def key(self) -> tuple[int, float]:
        """Settings that `find` depends on; configs with equal keys share its results."""
        return self.k, self.temperature

    def find(self, scores: Tensor, banned: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """Return the highest scores of (rows, vocabulary) without banned tokens, best first, and their tokens.

        With top-p alone the scores are log-probabilities. None where no kernel computes them.
        """
        scores = scores if self.temperature == 1.0 else scores / self.temperature  # (rows, vocabulary)
        if not self.k:  # the kernel's log-sum-exp includes banned tokens
            scores, banned = mask_tokens(scores, banned), ()
        count = min(self.k + EXTRA if self.k else NUCLEUS, scores.shape[1])  # top-p has no fixed number of tokens
        return backend(scores).top_k(scores, count, banned, log_probs=not self.k)

    def probabilities(self, values: Tensor, vocabulary: int) -> Tensor | None:
        """Return the probabilities of candidates, (rows, count); None where other tokens may be sampled too."""
        whole = values.shape[1] == vocabulary  # then no token is missing among the candidates
        if self.k:
            least = values[:, min(self.k, values.shape[1]) - 1, None]  # (rows, 1): the k-th highest score
            # a last candidate that ties with the k-th one may have further ties outside
            if not whole and bool(((values[:, -1:] >= least) & (least > NEVER)).any()):
                return None
            values = values.masked_fill(values < least, NEVER)
        else:
            mass = values.exp().cumsum(-1)  # (rows, count): log-probabilities to the mass up to each candidate
            if not whole and bool((mass[:, -1] < self.p).any()):
                return None
            # (rows, count): the mass before each candidate
            before = torch.cat([torch.zeros_like(mass[:, :1]), mass[:, :-1]], -1)
            drop = before >= self.p
            drop[:, 0] = False  # the most likely token stays, also with top_p=0
            values = values.masked_fill(drop, NEVER)
        for warp in self.warpers:
            values = warp(values)
        return values.softmax(-1)


def on_cpu(found: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """Return candidates on the CPU, with one wait for the GPU."""
    return None if found is None else (found[0].cpu(), found[1].cpu())


def sample_candidates(
    probabilities: Tensor, tokens: Tensor, vocabulary: int, generator: torch.Generator | None, alike: bool = True
) -> list[int]:
    """Sample a token for each row of candidates (rows, count) with these probabilities.

    Args:
        alike: without a generator, sample the token that `torch.multinomial` samples from the whole vocabulary.
    """
    if generator is not None or not alike:
        places = torch.multinomial(probabilities, 1, generator=generator)  # (rows, 1)
    else:
        # (rows, 1); multinomial compares these quotients, too
        places = (probabilities / exponential_samples(tokens, vocabulary)).argmax(-1, keepdim=True)
    return tokens.gather(1, places).flatten().tolist()  # (rows, count) to (rows,)


def exponential_samples(tokens: Tensor, vocabulary: int) -> Tensor:
    """Return the candidates' exponential samples (rows, count) of those that torch draws for (rows, vocabulary)."""
    shape = tokens.shape[0], vocabulary  # samples of the whole vocabulary are drawn, as torch.multinomial draws them
    if draws_in_order(vocabulary):
        evenly = torch.empty(
            shape, dtype=torch.float64
        ).uniform_()  # a third of the time, since few logarithms are computed
        return (-torch.log1p(-evenly.gather(1, tokens))).float()  # (rows, count)
    return torch.empty(shape).exponential_().gather(1, tokens)


@cache
def draws_in_order(vocabulary: int) -> bool:
    """Return whether torch draws exponential samples from uniform ones in order, as without a vector math library."""
    first, second = (torch.Generator().manual_seed(0) for _ in range(2))
    known = torch.empty(vocabulary).exponential_(generator=first)  # (vocabulary,)
    evenly = torch.empty(vocabulary, dtype=torch.float64).uniform_(generator=second)
    # this depends on how torch was built, so it is tried once and not assumed
    alike = torch.equal(known, (-torch.log1p(-evenly)).float())
    return alike and torch.equal(first.get_state(), second.get_state())
