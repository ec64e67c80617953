"""Forward passes over sequences that begin alike: a prefix that several of them share is read once.

The sequences of a batch make a prefix tree. Each level of the tree is one packed pass, and the sequences of a node
continue the KV cache of the node above (as prefix sharing in Zheng et al., 2024, arXiv:2312.07104).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..kernels.ragged import SequenceLayout
from ..nn.cache.store import BatchCache, CachedSequence, KVCacheManager

LEAST_SAVED = 32  # tokens that a node must save, since each level of the tree reads all weights once more


@dataclass(eq=False)
class PrefixNode:
    """Tokens that all sequences below share.

    Args:
        tokens: of this node. begin: position of the first. above: the node before, None for a root.
        below: number of nodes that continue this one.
        row: index of the first token among the rows of all passes, once read.
    """

    tokens: Sequence[int]
    begin: int
    above: PrefixNode | None
    below: int = 0
    row: int = 0
    cached: CachedSequence | None = None

    @property
    def level(self) -> int:
        return 0 if self.above is None else self.above.level + 1


@dataclass
class PrefixTree:
    """Prefix tree of sequences.

    Attributes:
        nodes: each one after the node above it. last: the node where each sequence ends.
    """

    nodes: list[PrefixNode] = field(default_factory=list)
    last: list[PrefixNode] = field(default_factory=list)

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> PrefixTree:
        """Return the tree of sequences, none of them empty, in which every shared node saves `LEAST_SAVED` tokens."""
        tree, order = cls(), sorted(range(len(sequences)), key=lambda number: list(sequences[number]))
        ends: dict[int, PrefixNode] = {}
        same = [0, *(common(sequences[a], sequences[b]) for a, b in pairwise(order))]

        def add(first: int, past: int, begin: int, above: PrefixNode | None) -> None:
            """Add the sorted sequences `first` to `past` from position `begin` on."""
            shared = min(same[first + 1 : past], default=len(sequences[order[first]]))
            alone = past - first == 1
            if alone or (shared - begin) * (past - first - 1) >= LEAST_SAVED:
                tokens = sequences[order[first]][begin:shared]
                if tokens or above is None:
                    above = PrefixNode(tokens, begin, above)
                    tree.nodes.append(above)
                    begin = shared
            cuts = [first, *(i for i in range(first + 1, past) if same[i] == shared), past]
            for low, high in pairwise(cuts):
                if high - low == 1 and (alone or len(sequences[order[low]]) == begin):
                    assert above is not None
                    ends[order[low]] = above
                else:
                    add(low, high, begin, above)

        if order:
            add(0, len(order), 0, None)
        tree.last = [ends[number] for number in range(len(sequences))]
        for node in tree.nodes:
            if node.above is not None:
                node.above.below += 1
        return tree

    @property
    def size(self) -> int:
        """Number of tokens to read."""
        return sum(len(node.tokens) for node in self.nodes)

    def row(self, number: int, position: int) -> int:
        """Return the row of a position of a sequence."""
        node = self.last[number]
        while position < node.begin:
            assert node.above is not None
            node = node.above
        return node.row + position - node.begin


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def prefix_batches(
    sequences: Sequence[Sequence[int]], budget: int, most: int | None = None, *, shares: bool = True
) -> Iterator[list[int]]:
    """Yield the numbers of the sequences of each batch: those that begin alike together.

    Args:
        budget: tokens that a batch reads at most, shared ones once, unless one sequence alone has more.
        most: sequences of a batch. shares: prefixes are read once.
    """
    batch: list[int] = []
    total = 0
    for number in sorted(range(len(sequences)), key=lambda i: list(sequences[i])):
        own = len(sequences[number])
        new = own - common(sequences[batch[-1]], sequences[number]) if batch and shares else own
        if batch and (total + new > budget or len(batch) == most):
            yield batch
            batch, total, new = [], 0, own
        batch.append(number)
        total += new
    if batch:
        yield batch


def can_share(model: Any) -> bool:
    """Return whether sequences of a decoder may continue the KV cache of a common prefix."""
    store = KVCacheManager(model.memories(), by_length=model.by_length)
    return store.shares and not store.varies


@torch.inference_mode()
def read_shared(model: Any, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, PrefixTree]:
    """Read sequences level by level of their prefix tree.

    Returns:
        The last hidden states (rows, width) of all nodes, and the tree, which finds the row of a position.
    """
    tree, store = PrefixTree.of(sequences), KVCacheManager(model.memories(), by_length=model.by_length)
    states, rows = [], 0
    for level in range(1 + max(node.level for node in tree.nodes)):
        nodes = [node for node in tree.nodes if node.level == level]
        for node in nodes:
            node.cached = store.begin() if node.above is None else continue_cache(node.above)
            node.row, rows = rows, rows + len(node.tokens)
        runs = SequenceLayout.packed(tuple(len(node.tokens) for node in nodes))
        ids = torch.tensor([token for node in nodes for token in node.tokens], device=model.device)  # (tokens,)
        states.append(model.read(ids, runs, BatchCache(store, [node.cached for node in nodes if node.cached])))
    return torch.cat(states), tree


def continue_cache(above: PrefixNode) -> CachedSequence:
    """Return the cache of a node for one of those below it: a fork, or the cache itself for the last of them."""
    assert above.cached is not None
    above.below -= 1
    return above.cached.fork() if above.below else above.cached
