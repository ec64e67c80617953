"""Draws from the likeliest tokens alone, where a config's cuts leave no others: no pass over all of the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ...kernels.ops import backend
from ...runtime.step_output import mask_tokens
from ..config import GenerationConfig
from .warpers import NEVER, logits_warpers

EXTRA = 8  # scores beyond top-k's that are looked at, since those equal to the last one stay
NUCLEUS = 256  # tokens that top-p's are sought among


class Candidates:
    """What a config draws from.

    Args:
        config: with a bound on the number of tokens (top_k) or on their mass (top_p). k: top_k, 0 for none.
    """

    def __init__(self, config: GenerationConfig, k: int) -> None:
        self.k, self.temperature = k, config.temperature or 1.0
        self.p = config.top_p or 1.0
        self.warpers = logits_warpers(config.changed(temperature=1.0, top_k=0, top_p=config.top_p if k else 1.0))

    @classmethod
    def of(cls, config: GenerationConfig) -> Candidates | None:
        """None where all tokens may come, or rules beside the usual cuts say which."""
        bound = config.breadth or (config.top_p is not None and config.top_p < 1)
        beside = config.top_h is not None or config.watermarking_config is not None or config.renormalize_logits
        plain = config.do_sample and (config.num_beams or 1) == 1 and not beside
        return cls(config, config.breadth) if plain and bound else None

    @property
    def key(self) -> tuple[int, float]:
        """What `find` depends on; configs with one key share what is found."""
        return self.k, self.temperature

    def find(self, scores: Tensor, banned: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """The highest of scores (rows, vocabulary) that are not banned, best first, and their tokens.

        With top-p alone, log-probabilities. None where no kernel finds them.
        """
        scores = scores if self.temperature == 1.0 else scores / self.temperature
        if not self.k:  # the kernel counts what is banned in the sum
            scores, banned = mask_tokens(scores, banned), ()
        count = min(self.k + EXTRA if self.k else NUCLEUS, scores.shape[1])
        return backend(scores).top_k(scores, count, banned, log_probs=not self.k)

    def probabilities(self, values: Tensor, vocabulary: int) -> Tensor | None:
        """The probability of each that was found, (rows, count); None where others may come too."""
        whole = values.shape[1] == vocabulary
        if self.k:
            least = values[:, min(self.k, values.shape[1]) - 1, None]
            if not whole and bool(((values[:, -1:] >= least) & (least > NEVER)).any()):
                return None
            values = values.masked_fill(values < least, NEVER)
        else:
            mass = values.exp().cumsum(-1)
            if not whole and bool((mass[:, -1] < self.p).any()):
                return None
            before = torch.cat([torch.zeros_like(mass[:, :1]), mass[:, :-1]], -1)
            values = values.masked_fill(before >= self.p, NEVER)
        for warp in self.warpers:
            values = warp(values)
        return values.softmax(-1)


def on_cpu(found: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """What was found, where asking for a number does not wait for a GPU."""
    return None if found is None else (found[0].cpu(), found[1].cpu())


def sample_candidates(
    probabilities: Tensor, tokens: Tensor, vocabulary: int, generator: torch.Generator | None, alike: bool = True
) -> list[int]:
    """A token a row, of tokens (rows, count) with these chances.

    Args:
        alike: without a generator of its own, the one that `torch.multinomial` draws from all of the vocabulary.
    """
    if generator is not None or not alike:
        places = torch.multinomial(probabilities, 1, generator=generator)
    else:
        places = (probabilities / exponential_samples(tokens, vocabulary)).argmax(-1, keepdim=True)
    return tokens.gather(1, places).flatten().tolist()


def exponential_samples(tokens: Tensor, vocabulary: int) -> Tensor:
    """Exponential numbers of tokens (rows, count), of those that torch draws for all (rows, vocabulary)."""
    shape = tokens.shape[0], vocabulary
    if draws_in_order(vocabulary):
        evenly = torch.empty(shape, dtype=torch.float64).uniform_()  # a third of the time: few logarithms
        return (-torch.log1p(-evenly.gather(1, tokens))).float()
    return torch.empty(shape).exponential_().gather(1, tokens)


@cache
def draws_in_order(vocabulary: int) -> bool:
    """Whether torch draws exponential numbers from even ones in their order, as it does without a vector library."""
    first, second = (torch.Generator().manual_seed(0) for _ in range(2))
    known = torch.empty(vocabulary).exponential_(generator=first)
    evenly = torch.empty(vocabulary, dtype=torch.float64).uniform_(generator=second)
    alike = torch.equal(known, (-torch.log1p(-evenly)).float())
    return alike and torch.equal(first.get_state(), second.get_state())
