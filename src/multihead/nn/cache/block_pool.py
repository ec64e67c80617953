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

FREE, USED, RESERVED = range(3)  # states of a block; an idle one is in use


def padded_slots(length: int) -> int:
    """Return the slots to allocate for a sequence of this length: an eighth more, in whole blocks."""
    return -(-(length + length // 8 + 1) // BLOCK) * BLOCK


def prefix_hash(before: bytes, tokens: Sequence[int]) -> bytes:
    """Return the hash of a prefix: of the prefix before and one more block of tokens."""
    # A hash of 128 bits, since two prefixes with the same hash would share wrong keys.
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
                pool.evict_oldest()
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
        self.ref_counts: list[int] = []  # reference count of each block
        self.top = 0  # blocks that storage must have room for, reserved ones included
        self._blocks_by_hash: dict[bytes, int] = {}
        self._hashes: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # published and released, oldest first
        self._reservations: dict[int, range] = {}  # blocks reserved for each sequence
        self._states = bytearray()  # FREE, USED or RESERVED of each block, so that ranges are found by a byte search
        self.budget.pools.append(self)

    @property
    def num_used(self) -> int:
        """Number of blocks with a reference."""
        return sum(count > 0 for count in self.ref_counts)

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
        while self.budget.free < self.size:  # idle blocks of all pools are evicted first
            self.budget.reclaim()
        block = None if after is None else after + 1  # contiguous with the block before, where that is free
        if block is None or not self._is_free(block, owner):
            block = self._reserve_range(owner, max(ahead, 1))
        self.ref_counts += [0] * (block + 1 - len(self.ref_counts))
        self.ref_counts[block] = 1
        self._mark(block, block + 1, USED)
        self.top = max(self.top, block + 1)
        self.budget.used += self.size
        return block

    def hold(self, block: int) -> None:
        """Add a reference to a block, idle or in use."""
        if block in self._idle:
            del self._idle[block]  # its prefix stays published
        elif not self.ref_counts[block]:
            raise ValueError(f"Block {block} is held by nobody.")
        self.ref_counts[block] += 1

    def release(self, block: int) -> None:
        """Drop a reference; the last one frees the block, or leaves it idle if its prefix is published."""
        if not self.ref_counts[block]:
            raise ValueError(f"Block {block} is released twice.")
        self.ref_counts[block] -= 1
        if self.ref_counts[block]:
            return
        if block in self._hashes:
            self._idle[block] = None  # at the end: the block that is released first is evicted first
        else:
            self._free(block)

    def cancel_reservation(self, owner: int) -> None:
        """Cancel the reservation of a sequence."""
        for block in self._reservations.pop(owner, ()):
            if self._states[block] == RESERVED:
                self._states[block] = FREE

    def shared(self, block: int) -> bool:
        """Return whether other sequences may read a block, so that it must be copied before a write."""
        return self.ref_counts[block] > 1 or block in self._hashes

    def publish(self, block: int, prefix: bytes) -> None:
        """Publish a full block under the hash of its prefix."""
        # The first block with a prefix stays the published one.
        if prefix not in self._blocks_by_hash and block not in self._hashes:
            self._blocks_by_hash[prefix], self._hashes[block] = block, prefix

    def withdraw(self, block: int) -> None:
        """Take back the prefix of a published block that one sequence alone uses, so that it can be written again."""
        if self.ref_counts[block] == 1 and block in self._hashes:
            del self._blocks_by_hash[self._hashes.pop(block)]

    def find(self, prefix: bytes) -> int | None:
        return self._blocks_by_hash.get(prefix)

    @property
    def published(self) -> dict[bytes, int]:
        """Published blocks by their prefix hashes: idle ones first, in the order of their eviction."""
        used = [block for block in self._hashes if block not in self._idle]
        return {self._hashes[block]: block for block in (*self._idle, *used)}

    def clear(self) -> None:
        """Forget all blocks; none may be in use."""
        assert not self.num_used
        while self._idle:
            self.evict_oldest()
        self.ref_counts, self.top, self._states = [], 0, bytearray()
        self._reservations.clear()

    def evict_oldest(self) -> None:
        """Evict the idle block that was released first."""
        self._evict(next(iter(self._idle)))

    def _evict(self, block: int) -> None:
        """Evict an idle block."""
        del self._idle[block]
        del self._blocks_by_hash[self._hashes.pop(block)]
        self._free(block)

    def _is_free(self, block: int, owner: int) -> bool:
        """Return whether a block is free and not reserved for another sequence."""
        state = self._states[block] if block < len(self._states) else FREE
        return state == FREE or (state == RESERVED and block in self._reservations.get(owner, ()))

    def _reserve_range(self, owner: int, ahead: int) -> int:
        """Return the first block of a free range, which is reserved for the owner: `ahead` blocks, or fewer."""
        self.cancel_reservation(owner)
        begin = self._find_free_range(ahead)
        while begin + ahead > self.limit and ahead > 1:  # memory is short
            ahead //= 2
            begin = self._find_free_range(ahead)
        if begin + ahead > self.limit:  # any single block is taken, also a reserved one
            begin = self._states.find(RESERVED)
        self._reservations[owner] = range(begin, begin + ahead)
        self._mark(begin, begin + ahead, RESERVED)
        self.top = max(self.top, begin + ahead)
        return begin

    def _find_free_range(self, length: int) -> int:
        """Return the first of `length` contiguous free blocks, which may end after all known ones."""
        begin = self._states.find(bytes(length))
        return begin if begin >= 0 else len(self._states.rstrip(bytes([FREE])))

    def _mark(self, begin: int, end: int, state: int) -> None:
        self._states.extend(bytes(max(end - len(self._states), 0)))
        self._states[begin:end] = bytes([state]) * (end - begin)

    def _free(self, block: int) -> None:
        self.budget.used -= self.size
        self._states[block] = FREE

    @property
    def limit(self) -> float:
        """Number of blocks that fit the budget; infinite without one."""
        return float("inf") if self.budget.total is None or not self.size else self.budget.total // self.size


@dataclass
class BlockTable:
    """The blocks of one sequence in one pool: block i has positions i * BLOCK onward, None if released.

    Args:
        num_released: number of leading blocks that were released, since no later token sees them.
        contiguous: the other blocks are contiguous.
        copies: (source block, target block, slots), which the next pass must copy first.
        changes: number of changes of the list.
    """

    blocks: list[int | None] = field(default_factory=list)
    num_released: int = 0
    contiguous: bool = True
    copies: list[tuple[int, int, int]] = field(default_factory=list)
    changes: int = 0

    def copy(self) -> BlockTable:
        return BlockTable(list(self.blocks), self.num_released, self.contiguous)

    def row(self, place: int) -> int:
        """Return the cache slot of a position."""
        block = self.blocks[place // BLOCK]
        assert block is not None
        return block * BLOCK + place % BLOCK

    def append(self, block: int | None) -> None:
        before = self.blocks[-1] if self.blocks else None
        self.blocks.append(block)
        self.changes += 1
        self.contiguous = self.contiguous and (before is None or block == before + 1)

    def replace(self, index: int, block: int) -> None:
        self.blocks[index] = block
        self._update_contiguous()

    def cut(self, count: int) -> list[int]:
        """Drop all but the first `count` blocks; return those dropped."""
        dropped = [block for block in self.blocks[count:] if block is not None]
        del self.blocks[count:]
        self.copies = [copy for copy in self.copies if copy[1] in self.blocks]  # a dropped block needs no copy
        self._update_contiguous()
        return dropped

    def _update_contiguous(self) -> None:
        self.changes += 1
        remaining = [block for block in self.blocks if block is not None]
        self.contiguous = not remaining or remaining == list(range(remaining[0], remaining[0] + len(remaining)))
