"""Who holds which blocks of storage: counts and lists of numbers, no tensors.

Storage is cut into blocks of `BLOCK` places (Kwon et al., 2023, arXiv:2309.06180). A text holds a list of blocks; texts
with the same beginning may hold the same ones.
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
    """Places to make for a text of this length: an eighth more, in whole blocks."""
    return -(-(length + length // 8 + 1) // BLOCK) * BLOCK


def name_of(before: bytes, tokens: Sequence[int]) -> bytes:
    """A name for a block of tokens after others."""
    return blake2b(before + array("q", tokens).tobytes(), digest_size=16).digest()


class MemoryBudget:
    """Bytes that several pools share. `total` None is without end."""

    def __init__(self, total: int | None = None) -> None:
        self.total, self.used = total, 0
        self.pools: list[BlockPool] = []  # that keep idle blocks, which any of the others may need the room of

    def reclaim(self) -> None:
        """Frees the idle block of some pool. Raises MemoryFull where there is none."""
        for pool in self.pools:
            if pool.idle and pool.size:
                pool.forget_oldest()
                return
        raise MemoryFull("No block of the memory is free.")

    @property
    def free(self) -> float:
        return float("inf") if self.total is None else self.total - self.used


class BlockPool:
    """The blocks of all layers that keep the same places.

    A released block that has a name (the tokens that lead to it) stays until its room is needed, for another text
    that begins with the same tokens. Blocks are given so that a text's follow one another where that can be: then its
    rows are read where they lie.

    Args:
        budget: shared with other pools. size: bytes of a block, over all its layers; 0 while nobody counts.
    """

    def __init__(self, budget: MemoryBudget | None = None, size: int = 0) -> None:
        self.budget, self.size = budget or MemoryBudget(), size
        self.holders: list[int] = []  # of each block
        self.top = 0  # blocks that storage needs room for, those that texts are expected to take included
        self._names: dict[bytes, int] = {}
        self._named: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # named and released, oldest first
        self._claims: dict[int, range] = {}  # what each owner is expected to take
        self._lowest = 0  # before which no block is free
        self.budget.pools.append(self)

    @property
    def held(self) -> int:
        """Blocks that some text holds."""
        return sum(count > 0 for count in self.holders)

    @property
    def idle(self) -> int:
        """Blocks that nobody holds, kept for texts to come."""
        return len(self._idle)

    def take(self, owner: int, after: int | None = None, ahead: int = 1) -> int:
        """A block, held once, for the text `owner`: the one that follows `after` where it is free.

        Args:
            ahead: blocks that the text is expected to take from here on, this one included.

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
        """One more holder of a block, or the first of an idle one."""
        if block in self._idle:
            del self._idle[block]
        elif not self.holders[block]:
            raise ValueError(f"Block {block} is held by nobody.")
        self.holders[block] += 1

    def release(self, block: int) -> None:
        """One holder less; the last one's release frees the block, unless it has a name."""
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
        """What a text was expected to take is anybody's."""
        self._claims.pop(owner, None)

    def shared(self, block: int) -> bool:
        """Whether writing into a block would change what others read."""
        return self.holders[block] > 1 or block in self._named

    def name(self, block: int, name: bytes) -> None:
        """Lets other texts find a full block."""
        if name not in self._names and block not in self._named:
            self._names[name], self._named[block] = block, name

    def find(self, name: bytes) -> int | None:
        return self._names.get(name)

    def clear(self) -> None:
        """Begins anew; nobody may hold a block."""
        assert not self.held
        while self._idle:
            self.forget_oldest()
        self.holders, self.top, self._lowest = [], 0, 0
        self._claims.clear()

    def forget_oldest(self) -> None:
        """Frees the idle block that was released first."""
        self._forget(next(iter(self._idle)))

    def _forget(self, block: int) -> None:
        """Frees an idle block."""
        del self._idle[block]
        del self._names[self._named.pop(block)]
        self._freed(block)

    def _open(self, block: int, owner: int | None = None) -> bool:
        """Whether nobody holds a block and nobody else is expected to take it."""
        if self._taken(block):
            return False
        own = self._claims.get(owner, ()) if owner is not None else ()
        return block in own or all(block not in claim for o, claim in self._claims.items() if o != owner)

    def _begin(self, owner: int, ahead: int) -> int:
        """The first block of a free stretch, which the owner is expected to go on taking."""
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
        """The first of `length` free blocks in a row, none of them closed."""
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
        """Blocks that the budget has room for."""
        return float("inf") if self.budget.total is None or not self.size else self.budget.total // self.size


@dataclass
class BlockTable:
    """One text's blocks of one pool: block i holds places i * BLOCK onward; None where it was let go.

    Args:
        gone: leading blocks that were let go, since no later token sees them.
        straight: the others follow one another.
        copies: (block, block, places): what the next pass must copy first.
        changes: how often the list has changed.
    """

    blocks: list[int | None] = field(default_factory=list)
    gone: int = 0
    straight: bool = True
    copies: list[tuple[int, int, int]] = field(default_factory=list)
    changes: int = 0

    def copy(self) -> BlockTable:
        return BlockTable(list(self.blocks), self.gone, self.straight)

    def row(self, place: int) -> int:
        """The row of storage of a place."""
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
        """Drops all but the first `count` blocks; those dropped."""
        dropped = [block for block in self.blocks[count:] if block is not None]
        del self.blocks[count:]
        self.copies = [copy for copy in self.copies if copy[1] in self.blocks]
        self._look()
        return dropped

    def _look(self) -> None:
        self.changes += 1
        held = [block for block in self.blocks if block is not None]
        self.straight = not held or held == list(range(held[0], held[0] + len(held)))
