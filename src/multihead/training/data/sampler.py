"""Which examples each optimizer step sees: a pure function of the seed and the epoch, so that any run can be resumed.

The random order is that of the reference's Trainer with the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ...errors import UnsupportedOption


@dataclass(frozen=True)
class Order:
    """The plan of a run.

    Args:
        lengths: tokens of each example. batch: examples of a device's batch. tokens: of a batch at most, instead.
        together: batches of one optimizer step (gradient accumulation times devices).
        kind: random, sequential or group_by_length. whole: drops a last batch that is smaller.
    """

    lengths: np.ndarray
    batch: int
    together: int
    seed: int
    tokens: int | None = None
    kind: str = "random"
    whole: bool = False
    _made: dict[int, list[list[list[int]]]] = field(default_factory=dict, repr=False, compare=False)

    def examples(self, epoch: int) -> Sequence[int]:
        """Numbers of all examples, in the order of an epoch."""
        count = len(self.lengths)
        if self.kind == "sequential":
            return range(count)
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed + epoch))
        return self._grouped(drawn.numpy()) if self.kind == "group_by_length" else drawn.tolist()

    def steps(self, epoch: int) -> list[list[list[int]]]:
        """Each optimizer step's batches of an epoch, as numbers of examples."""
        if epoch not in self._made:
            self._made.clear()
            batches = self._batches(self.examples(epoch))
            self._made[epoch] = [batches[i : i + self.together] for i in range(0, len(batches), self.together)]
        return self._made[epoch]

    def count(self, epoch: int = 0) -> int:
        """Optimizer steps of an epoch."""
        if self.tokens is not None:
            return len(self.steps(epoch))
        each = len(self.lengths) // self.batch if self.whole else math.ceil(len(self.lengths) / self.batch)
        return math.ceil(each / self.together)

    def extent(self, steps: int, epochs: float) -> tuple[int, float]:
        """Optimizer steps of a run, and its epochs.

        Args:
            steps: wanted; none above 0 for those of so many epochs.

        Raises:
            UnsupportedOption: there is no batch.
        """
        each = self.count()
        if not each:
            raise UnsupportedOption(
                "dataloader_drop_last leaves no batch: there are fewer examples than one batch has."
            )
        if steps > 0:
            return steps, steps / each
        if self.tokens is None:
            return math.ceil(each * epochs), epochs
        whole = math.floor(epochs)
        counts = [self.count(epoch) for epoch in range(math.ceil(epochs))]
        rest = math.ceil(counts[-1] * (epochs - whole)) if len(counts) > whole else 0
        return sum(counts[:whole]) + rest, epochs

    def _batches(self, order: Sequence[int]) -> list[list[int]]:
        if self.tokens is not None:
            return self._by_tokens(order)
        found = [list(order[i : i + self.batch]) for i in range(0, len(order), self.batch)]
        return found[:-1] if self.whole and found and len(found[-1]) < self.batch else found

    def _by_tokens(self, order: Sequence[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        total = 0
        for number in order:
            length = int(self.lengths[number])
            if length > (self.tokens or 0):
                raise UnsupportedOption(
                    f"Example {number} has {length} tokens, more than max_tokens_per_batch = {self.tokens}. Raise it, "
                    "or cut texts with a smaller max_length."
                )
            if not batches or total + length > (self.tokens or 0):
                batches.append([])
                total = 0
            batches[-1].append(number)
            total += length
        return batches

    def _grouped(self, drawn: np.ndarray) -> list[int]:
        """Alike lengths together within stretches of fifty steps, the longest of all first."""
        stretch = self.batch * self.together * 50
        parts = [drawn[i : i + stretch] for i in range(0, len(drawn), stretch)]
        return np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in parts]).tolist()
