"""Block allocator of the paged KV cache: reference counts and free lists, no tensors.

Storage is divided into blocks of `BLOCK` slots (Kwon et al., 2023, arXiv:2309.06180). A sequence has a list of blocks.
Sequences with the same first tokens may share blocks.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from ...errors import MemoryFull
from ...kernels.ragged import BLOCK


def room(length: int) -> int:
    """Return the slots to allocate for a sequence of this length: an eighth more, in whole blocks."""
    return -(-(length + length // 8 + 1) // BLOCK) * BLOCK


def name_of(before: bytes, tokens: Sequence[int]) -> bytes:
    """Return the hash of a prefix: of the prefix before and one more block of tokens."""
    return blake2b(before + array("q", tokens).tobytes(), digest_size=16).digest()


class MemoryBudget:
    """Bytes that several pools share; no limit for `total` None."""

    def __init__(self, total: int | None = None) -> None:
        self.total, self.used = total, 0
        self.pools: list[BlockPool] = []  # whose idle blocks are evicted for any of them

    def reclaim(self) -> None:
        """Evict the oldest idle block of a pool. Raises MemoryFull where no pool has one."""
        for pool in self.pools:
            if pool.idle and pool.size:
                pool.forget_oldest()
                return
        raise MemoryFull("No block of the memory is free.")

    @property
    def free(self) -> float:
        return float("inf") if self.total is None else self.total - self.used


class BlockPool:
    """The blocks of all layers with the same window.

    A released block with a published prefix stays idle until its memory is needed, for another sequence with the same
    prefix. Blocks of one sequence are allocated next to each other where possible: contiguous keys are read in place.

    Args:
        budget: shared with other pools. size: bytes of a block over all its layers; 0 without a budget.
    """

    def __init__(self, budget: MemoryBudget | None = None, size: int = 0) -> None:
        self.budget, self.size = budget or MemoryBudget(), size
        self.holders: list[int] = []  # reference count of each block
        self.top = 0  # blocks that storage must have room for, reserved ones included
        self._names: dict[bytes, int] = {}
        self._named: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # published and released, oldest first
        self._claims: dict[int, range] = {}  # blocks reserved for each sequence
        self._lowest = 0  # no block before it is free
        self.budget.pools.append(self)

    @property
    def held(self) -> int:
        """Blocks in use."""
        return sum(count > 0 for count in self.holders)

    @property
    def idle(self) -> int:
        """Published blocks that no sequence uses."""
        return len(self._idle)

    def take(self, owner: int, after: int | None = None, ahead: int = 1) -> int:
        """Allocate a block for the sequence `owner`: the one after `after`, where it is free.

        Args:
            ahead: blocks that the sequence is expected to need from here on, this one included.

        Raises:
            MemoryFull: no block is free.
        """
        while self.budget.free < self.size:
            self.budget.reclaim()
        block = None if after is None else after + 1
        if block is None or not self._open(block, owner):
            block = self._begin(owner, max(ahead, 1))
        self.holders += [0] * (block + 1 - len(self.holders))
        self.holders[block] = 1
        self.top = max(self.top, block + 1)
        self.budget.used += self.size
        return block

    def hold(self, block: int) -> None:
        """Add a reference to a block, idle or in use."""
        if block in self._idle:
            del self._idle[block]
        elif not self.holders[block]:
            raise ValueError(f"Block {block} is held by nobody.")
        self.holders[block] += 1

    def release(self, block: int) -> None:
        """Drop a reference; the last one frees the block, or leaves it idle if its prefix is published."""
        if not self.holders[block]:
            raise ValueError(f"Block {block} is released twice.")
        self.holders[block] -= 1
        if self.holders[block]:
            return
        if block in self._named:
            self._idle[block] = None
        else:
            self._freed(block)

    def leave(self, owner: int) -> None:
        """Cancel the reservation of a sequence."""
        self._claims.pop(owner, None)

    def shared(self, block: int) -> bool:
        """Return whether other sequences may read a block, so that it must be copied before a write."""
        return self.holders[block] > 1 or block in self._named

    def name(self, block: int, name: bytes) -> None:
        """Publish a full block under the hash of its prefix."""
        if name not in self._names and block not in self._named:
            self._names[name], self._named[block] = block, name

    def find(self, name: bytes) -> int | None:
        return self._names.get(name)

    def clear(self) -> None:
        """Forget all blocks; none may be in use."""
        assert not self.held
        while self._idle:
            self.forget_oldest()
        self.holders, self.top, self._lowest = [], 0, 0
        self._claims.clear()

    def forget_oldest(self) -> None:
        """Evict the idle block that was released first."""
        self._forget(next(iter(self._idle)))

    def _forget(self, block: int) -> None:
        """Evict an idle block."""
        del self._idle[block]
        del self._names[self._named.pop(block)]
        self._freed(block)

    def _open(self, block: int, owner: int | None = None) -> bool:
        """Return whether a block is free and not reserved for another sequence."""
        if self._taken(block):
            return False
        own = self._claims.get(owner, ()) if owner is not None else ()
        return block in own or all(block not in claim for o, claim in self._claims.items() if o != owner)

    def _begin(self, owner: int, ahead: int) -> int:
        """Return the first block of a free range, which is reserved for the owner."""
        self._claims.pop(owner, None)
        closed = {block for claim in self._claims.values() for block in claim}
        begin = self._stretch(ahead, closed)
        if begin + ahead > self.limit:
            ahead = 1
            begin = self._stretch(ahead, set())
        self._claims[owner] = range(begin, begin + ahead)
        self.top = max(self.top, begin + ahead)
        return begin

    def _stretch(self, length: int, closed: set[int]) -> int:
        """Return the first of `length` contiguous free blocks outside `closed`."""
        while self._lowest < len(self.holders) and self._taken(self._lowest):
            self._lowest += 1
        begin, found = self._lowest, 0
        while found < length:
            block = begin + found
            begin, found = (block + 1, 0) if self._taken(block) or block in closed else (begin, found + 1)
        return begin

    def _taken(self, block: int) -> bool:
        return block < len(self.holders) and (self.holders[block] > 0 or block in self._idle)

    def _freed(self, block: int) -> None:
        self.budget.used -= self.size
        self._lowest = min(self._lowest, block)

    @property
    def limit(self) -> float:
        """Blocks that fit the budget."""
        return float("inf") if self.budget.total is None or not self.size else self.budget.total // self.size


@dataclass
class BlockTable:
    """The blocks of one sequence in one pool: block i has positions i * BLOCK onward, None if released.

    Args:
        gone: number of leading blocks that were released, since no later token sees them.
        straight: the other blocks are contiguous.
        copies: (source block, target block, slots), which the next pass must copy first.
        changes: number of changes of the list.
    """

    blocks: list[int | None] = field(default_factory=list)
    gone: int = 0
    straight: bool = True
    copies: list[tuple[int, int, int]] = field(default_factory=list)
    changes: int = 0

    def copy(self) -> BlockTable:
        return BlockTable(list(self.blocks), self.gone, self.straight)

    def row(self, place: int) -> int:
        """Return the cache slot of a position."""
        block = self.blocks[place // BLOCK]
        assert block is not None
        return block * BLOCK + place % BLOCK

    def append(self, block: int | None) -> None:
        before = self.blocks[-1] if self.blocks else None
        self.blocks.append(block)
        self.changes += 1
        self.straight = self.straight and (before is None or block == before + 1)

    def put(self, index: int, block: int) -> None:
        self.blocks[index] = block
        self._look()

    def cut(self, count: int) -> list[int]:
        """Drop all but the first `count` blocks; return those dropped."""
        dropped = [block for block in self.blocks[count:] if block is not None]
        del self.blocks[count:]
        self.copies = [copy for copy in self.copies if copy[1] in self.blocks]
        self._look()
        return dropped

    def _look(self) -> None:
        self.changes += 1
        held = [block for block in self.blocks if block is not None]
        self.straight = not held or held == list(range(held[0], held[0] + len(held)))
