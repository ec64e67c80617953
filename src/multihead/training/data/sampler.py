"""Sampler of training examples: a pure function of seed and epoch, so that any run can be resumed.

The random order equals that of the Transformers Trainer with the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ...errors import UnsupportedOption


@dataclass(frozen=True)
class EpochSampler:
    """Order and batches of the examples in each epoch.

    Args:
        lengths: (examples,), tokens of each example. batch_size: examples of a batch on one device.
        max_tokens: maximum tokens of a batch, used instead of `batch_size` if given.
        batches_per_step: batches of one optimizer step (gradient accumulation times devices).
        strategy: random, sequential or group_by_length. drop_last: drop a smaller last batch.
    """

    lengths: np.ndarray
    batch_size: int
    batches_per_step: int
    seed: int
    max_tokens: int | None = None
    strategy: str = "random"
    drop_last: bool = False
    _epochs: dict[int, list[list[list[int]]]] = field(default_factory=dict, repr=False, compare=False)

    def examples(self, epoch: int) -> Sequence[int]:
        """Return the numbers of all examples in the order of an epoch."""
        count = len(self.lengths)
        if self.strategy == "sequential":
            return range(count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed + epoch))
        return self._group_by_length(order.numpy()) if self.strategy == "group_by_length" else order.tolist()

    def steps(self, epoch: int) -> list[list[list[int]]]:
        """Return the batches of each optimizer step of an epoch, as numbers of examples; the last epoch is cached."""
        if epoch not in self._epochs:
            self._epochs.clear()
            batches = self._batches(self.examples(epoch))
            size = self.batches_per_step
            self._epochs[epoch] = [batches[i : i + size] for i in range(0, len(batches), size)]
        return self._epochs[epoch]

    def count(self, epoch: int = 0) -> int:
        """Return the number of optimizer steps of an epoch."""
        if self.max_tokens is not None:
            return len(self.steps(epoch))
        batches = len(self.lengths) / self.batch_size
        return math.ceil((math.floor if self.drop_last else math.ceil)(batches) / self.batches_per_step)

    def extent(self, steps: int, epochs: float) -> tuple[int, float]:
        """Return the optimizer steps and the epochs of a run.

        Args:
            steps: number of steps; if not positive, `epochs` decides.

        Raises:
            UnsupportedOption: there is no batch.
        """
        per_epoch = self.count()
        if not per_epoch:
            raise UnsupportedOption(
                "dataloader_drop_last leaves no batch: there are fewer examples than one batch has."
            )
        if steps > 0:
            return steps, steps / per_epoch
        if self.max_tokens is None:
            return math.ceil(per_epoch * epochs), epochs
        whole = math.floor(epochs)
        counts = [self.count(epoch) for epoch in range(math.ceil(epochs))]
        rest = math.ceil(counts[-1] * (epochs - whole)) if len(counts) > whole else 0
        return sum(counts[:whole]) + rest, epochs

    def _batches(self, order: Sequence[int]) -> list[list[int]]:
        if self.max_tokens is not None:
            return self._batches_by_tokens(order, self.max_tokens)
        size = self.batch_size
        batches = [list(order[i : i + size]) for i in range(0, len(order), size)]
        return batches[:-1] if self.drop_last and batches and len(batches[-1]) < size else batches

    def _batches_by_tokens(self, order: Sequence[int], limit: int) -> list[list[int]]:
        batches: list[list[int]] = []
        total = 0
        for number in order:
            length = int(self.lengths[number])
            if length > limit:
                raise UnsupportedOption(
                    f"Example {number} has {length} tokens, more than max_tokens_per_batch = {limit}. Raise it, "
                    "or cut texts with a smaller max_length."
                )
            if not batches or total + length > limit:
                batches.append([])
                total = 0
            batches[-1].append(number)
            total += length
        return batches

    def _group_by_length(self, order: np.ndarray) -> list[int]:
        """Sort the examples of every fifty steps by length, the longest first."""
        size = self.batch_size * self.batches_per_step * 50
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        return np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in parts]).tolist()
