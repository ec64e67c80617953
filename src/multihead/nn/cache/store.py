"""KV cache of many sequences, kept between forward passes.

A `KVCacheManager` holds the caches of all layers for any number of sequences. A `CachedSequence` lists the blocks of a
sequence, which can be forked, cropped and freed without moving keys or values. A `BatchCache` is the sequences of one
pass in its order, an argument of the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...kernels.ragged import BLOCK, SequenceLayout
from ..ragged import positions_in_sequences
from .block_pool import BlockPool, BlockTable, MemoryBudget, padded_slots, prefix_hash
from .cache_rows import block_tables, copied_rows, slot_rows, visible_rows
from .layer_cache import CachePlan, KVLayerCache, LayerCache, NoLayerCache, StateLayerCache, XLNetMemory

if TYPE_CHECKING:
    from ..encoder_output import EncoderOutput

SLACK = BLOCK  # tokens before a window that stay cached, so that a sequence can be cropped by as many
NUMBERS = count()  # of sequences


class LengthDependent(Protocol):
    """Positions whose frequencies depend on the sequence's length; see `positions.RotaryByLength`."""

    variant: Callable[[int], int]


class KVCacheManager:
    """The caches of all layers, for any number of sequences.

    Args:
        layers: a cache for each layer, from the stack's `memories`. budget: bytes of all caches.
        like: a manager that has read a token, whose layers know the bytes of one; needed where there is a budget.
        by_length: the stack's rotary positions whose frequencies depend on the sequence's length.
    """

    def __init__(
        self,
        layers: Sequence[LayerCache],
        budget: MemoryBudget | None = None,
        like: KVCacheManager | None = None,
        by_length: Sequence[LengthDependent] = (),
    ) -> None:
        self.layers, self.by_length = list(layers), tuple(by_length)
        leaves = [leaf for layer in self.layers for leaf in layer.leaves()]
        self.slots = [leaf for leaf in leaves if isinstance(leaf, StateLayerCache)]
        self.xlnet_memories = [leaf for leaf in leaves if isinstance(leaf, XLNetMemory)]
        # Sequences are read from their first token in each pass.
        self.whole = any(isinstance(leaf, NoLayerCache) for leaf in leaves)
        # Prompts are read in one pass, and share nothing.
        self.joint = any(isinstance(leaf, KVLayerCache) and leaf.joint for leaf in leaves)
        self.budget = budget or MemoryBudget()
        # A dict keeps the order of layers and drops repeats.
        self.windows = tuple({leaf.window: None for leaf in leaves if isinstance(leaf, KVLayerCache)})
        # One pool a window, since layers with a window release blocks that others still read.
        self.pools = {w: BlockPool(self.budget, like.size(w) if like else 0) for w in self.windows}
        self.slot_size = like.state_size() if like else 0
        self.num_slots = 0  # slots that were in use at once, at most
        self.notes: dict[object, object] = {}  # results that modules compute once for all passes, by module
        self._free_slots: list[int] = []

    def size(self, window: int | None) -> int:
        """Return the bytes of a block over all layers with this window; 0 before the first pass."""
        leaves = [leaf for layer in self.layers for leaf in layer.leaves()]
        return sum(leaf.size for leaf in leaves if isinstance(leaf, KVLayerCache) and leaf.window == window)

    def state_size(self) -> int:
        """Return the bytes of one sequence's recurrent states."""
        return sum(leaf.size for leaf in self.slots)

    @property
    def num_used(self) -> int:
        """Number of blocks and slots in use by sequences."""
        return sum(pool.num_used for pool in self.pools.values()) + self.num_slots - len(self._free_slots)

    @property
    def shares(self) -> bool:
        """True if sequences with the same first tokens can share blocks."""
        return not (self.slots or self.xlnet_memories or self.whole or self.joint)

    def clear(self) -> None:
        """Forget all cached blocks, when every sequence is freed; the storage stays allocated."""
        for pool in self.pools.values():
            pool.clear()

    def evict_idle(self) -> None:
        """Free the published blocks that no sequence uses."""
        for pool in self.pools.values():
            while pool.idle:
                pool.evict_oldest()

    def flush(self, sequences: Sequence[CachedSequence], device: torch.device) -> None:
        """Write all pending keys and values into storage, with room for the next tokens of these sequences."""
        for window, pool in self.pools.items():
            copies = [copy for sequence in sequences for copy in sequence.tables[window].copies]
            for sequence in sequences:
                sequence.tables[window].copies = []
            rows = copied_rows(copies, device)
            for layer in self.layers:
                for leaf in layer.leaves():
                    if isinstance(leaf, KVLayerCache) and leaf.window == window:
                        leaf.flush(pool.top * BLOCK, rows)

    def variant(self, total: int) -> tuple[int, ...]:
        """Return what keys of a sequence of `total` tokens depend on besides tokens. Equal variants share blocks."""
        if not self.varies:
            return ()
        return tuple(positions.variant(total) for positions in self.by_length) + ((total,) if self.whole else ())

    @property
    def varies(self) -> bool:
        """True if cached keys are valid for some sequence lengths only."""
        return self.whole or bool(self.by_length)

    def begin(self, seed: bytes = b"") -> CachedSequence:
        """Return a sequence without cached tokens; `seed` as in `CachedSequence`."""
        return CachedSequence(self, seed)

    def bytes_for(self, length: int) -> int:
        """Return the bytes of a sequence of `length` tokens; 0 without a budget."""
        # A layer with a window keeps the window and some slack, whatever the length.
        blocks = {w: -(-length // BLOCK) if w is None else -(-min(length, w + 2 * SLACK) // BLOCK) for w in self.pools}
        return sum(pool.size * blocks[window] for window, pool in self.pools.items()) + self.slot_size

    @property
    def free_bytes(self) -> float:
        """Budget bytes that are free or hold idle blocks."""
        return self.budget.free + sum(pool.size * pool.idle for pool in self.pools.values())

    def take_slot(self) -> int:
        """Allocate the slot of a sequence's recurrent states."""
        self.budget.used += self.slot_size
        if self._free_slots:
            return self._free_slots.pop()
        self.num_slots += 1
        return self.num_slots - 1

    def free_slot(self, slot: int) -> None:
        self.budget.used -= self.slot_size
        self._free_slots.append(slot)


class CachedSequence:
    """The block tables and the cached length of one sequence.

    Args:
        seed: identifies what decides keys and values in addition to tokens; only sequences with the same seed share
            blocks.
    """

    def __init__(self, store: KVCacheManager, seed: bytes = b"") -> None:
        self.store, self.number, self.seed = store, next(NUMBERS), seed
        self.length = 0  # tokens in the cache
        self.total = 0  # tokens whose length decides rotary frequencies; 0 for the tokens of each pass
        self.variant = store.variant(0)
        self.history: tuple[Tensor, Tensor] | None = (
            None  # ids and positions of all tokens, where a caller runs passes itself
        )
        self.expected = 0  # tokens that the sequence may grow to
        self.tables = {window: BlockTable() for window in store.windows}
        self.slot = store.take_slot() if store.slots else None
        self.hashes = [self._empty_hash]  # hashes of the prefixes that end with a full block

    @property
    def _empty_hash(self) -> bytes:
        """The hash of the empty prefix."""
        return self.seed + repr(self.variant).encode() if self.variant else self.seed

    def fork(self) -> CachedSequence:
        """Return another sequence with the same cached tokens, which shares all blocks."""
        other = CachedSequence(self.store, self.seed)
        other.length, other.expected, other.hashes = self.length, self.expected, list(self.hashes)
        other.total, other.variant, other.history = self.total, self.variant, self.history
        for window, table in self.tables.items():
            for block in table.blocks:
                if block is not None:
                    self.store.pools[window].hold(block)
            other.tables[window] = table.copy()
        for leaf in self.store.slots:
            leaf.copy(self.slot or 0, other.slot or 0)  # a state cannot be shared: each pass overwrites it
        return other

    def free(self) -> None:
        """Release all blocks of the sequence."""
        for window, table in self.tables.items():
            pool = self.store.pools[window]
            for block in reversed(table.blocks):  # the end is evicted first: without its beginning it serves nobody
                if block is not None:
                    pool.release(block)
            pool.cancel_reservation(self.number)
            self.tables[window] = BlockTable()
        if self.slot is not None:
            self.store.free_slot(self.slot)
        self.length, self.slot, self.hashes, self.history = 0, None, self.hashes[:1], None

    def is_valid_for(self, total: int) -> bool:
        """Return whether cached keys are valid for a sequence of `total` tokens."""
        return self.variant == self.store.variant(total)

    def set_total(self, total: int) -> None:
        """Set the sequence's length before its uncached tokens are read.

        All blocks are released where cached keys have the rotary frequencies of another length.
        """
        self.total = total
        if self.is_valid_for(total):
            return
        if self.length:
            self.free()
            self.slot = self.store.take_slot() if self.store.slots else None
        self.variant = self.store.variant(total)
        self.hashes = [self._empty_hash]

    def can_crop(self, length: int) -> bool:
        """Return whether `crop` can drop all tokens after the first `length`."""
        if length >= self.length or not length:
            return True
        return not self.store.slots and self._window_gone(length) is None

    def _window_gone(self, length: int) -> int | None:
        """Return a window that has dropped what the tokens after `length` need, or None."""
        # The next token's window must still be in the cache.
        gone = (w for w, t in self.tables.items() if w is not None and t.num_released * BLOCK > max(length + 1 - w, 0))
        return next(gone, None)

    def crop(self, length: int) -> None:
        """Drop all tokens after the first `length`.

        Raises:
            InvalidInput: a window or a recurrence has dropped what the kept tokens need.
        """
        if length >= self.length:
            return
        if length and self.store.slots:
            raise InvalidInput("A recurrence keeps its last state only; what it has read cannot be cut back.")
        if (window := self._window_gone(length)) is not None:
            raise InvalidInput(f"Tokens before the window of {window} are gone; cut back by at most {SLACK} tokens.")
        for window, table in self.tables.items():
            pool = self.store.pools[window]
            for block in table.cut(-(-length // BLOCK)):
                pool.release(block)
            # The rest of the last block is written again, in place where nobody else reads it.
            last = table.blocks[-1] if table.blocks and length % BLOCK else None
            if last is not None:
                pool.withdraw(last)
        self.length, self.hashes = length, self.hashes[: length // BLOCK + 1]
        if self.history is not None:
            ids, positions = self.history
            self.history = ids[:length], positions[:length]

    def prepare(self, new: int) -> None:
        """Allocate blocks for `new` more tokens. A shared last block is copied in the next pass (copy on write).

        Raises:
            MemoryFull: no block is free; blocks allocated before stay with the sequence.
        """
        index, last = self.length // BLOCK, (self.length + new - 1) // BLOCK
        for window, table in self.tables.items():
            if index == last < len(table.blocks) and not self.store.pools[window].shared(table.blocks[index]):  # type: ignore[arg-type]
                continue  # the usual case of a decode step, which must be fast
            self._prepare(window, table, new)

    def _prepare(self, window: int | None, table: BlockTable, new: int) -> None:
        pool, total = self.store.pools[window], self.length + new
        for index in range(self.length // BLOCK, -(-total // BLOCK)):
            if index < len(table.blocks):
                block = table.blocks[index]
                assert block is not None
                # Copy on write: another sequence reads the block that this one is about to fill.
                if pool.shared(block) and self.length % BLOCK:
                    table.copies.append((block, pool.take(self.number), self.length % BLOCK))
                    table.replace(index, table.copies[-1][1])
                    pool.release(block)
            else:
                # Reserve for the final length, so that the blocks can be contiguous.
                expected = max(padded_slots(self.expected - 1), padded_slots(total))
                before = table.blocks[-1] if table.blocks else None
                table.append(pool.take(self.number, before, expected // BLOCK - index))

    def advance(self, new: int) -> None:
        """Count `new` tokens that all layers have cached; release blocks that are out of every later window."""
        self.length += new
        for window, table in self.tables.items():
            if window is None:
                continue
            first = self.length + 1 - window - SLACK  # first position that a later token may see
            while (table.num_released + 1) * BLOCK <= first:
                block, table.blocks[table.num_released] = table.blocks[table.num_released], None
                if block is not None:
                    self.store.pools[window].release(block)
                table.num_released += 1

    def drop_invisible(self, blocks: int) -> None:
        """Release what no token after the first `blocks` blocks sees."""
        for window, table in self.tables.items():
            while table.num_released < self._num_invisible(window, blocks):
                block, table.blocks[table.num_released] = table.blocks[table.num_released], None
                if block is not None:
                    self.store.pools[window].release(block)
                table.num_released += 1

    def publish(self, tokens: Sequence[int]) -> None:
        """Publish full blocks under the hashes of their prefixes, for other sequences. `tokens`: all tokens."""
        if not self.store.shares:
            return
        for index in range(len(self.hashes) - 1, min(self.length, len(tokens)) // BLOCK):  # full blocks without a hash
            self.hashes.append(prefix_hash(self.hashes[-1], tokens[index * BLOCK : (index + 1) * BLOCK]))
            for window, table in self.tables.items():
                block = table.blocks[index]
                if block is not None:
                    self.store.pools[window].publish(block, self.hashes[-1])

    def reuse_prefix(self, tokens: Sequence[int]) -> None:
        """Share published blocks of the longest common prefix; for a sequence without cached tokens."""
        if self.length or not self.store.shares:
            return
        # At least one token stays to be read, since its pass gives the logits of the next one.
        hashes, full = [self.hashes[0]], max(len(tokens) - 1, 0) // BLOCK
        while len(hashes) <= full:
            block_hash = prefix_hash(hashes[-1], tokens[(len(hashes) - 1) * BLOCK : len(hashes) * BLOCK])
            if any(w is None and pool.find(block_hash) is None for w, pool in self.store.pools.items()):
                break
            hashes.append(block_hash)
        length = len(hashes) - 1
        # A window layer may have lost blocks that the prefix needs: try shorter prefixes.
        while length and not all(self._has_published(window, hashes, length) for window in self.tables):
            length -= 1
        for window, table in self.tables.items():
            released = self._num_invisible(window, length)
            table.num_released = released
            for index in range(length):
                block = None if index < released else self.store.pools[window].find(hashes[index + 1])
                if block is not None:
                    self.store.pools[window].hold(block)
                table.append(block)
        self.length, self.hashes = length * BLOCK, hashes[: length + 1]

    def _num_invisible(self, window: int | None, blocks: int) -> int:
        """Return how many of the first `blocks` are out of the window of every later token."""
        return 0 if window is None else max(blocks * BLOCK + 1 - window, 0) // BLOCK

    def _has_published(self, window: int | None, hashes: list[bytes], blocks: int) -> bool:
        pool, first = (
            self.store.pools[window],
            min(self._num_invisible(window, blocks), blocks - 1),
        )  # the last block must exist in any case
        return all(pool.find(hashes[i + 1]) is not None for i in range(first, blocks))


class BatchCache:
    """The sequences of a pass.

    Args:
        texts: in the order of the pass. encoder_output: sources of a decoder's cross-attention, one a sequence.

    Attributes:
        owner: a program's own object that the cache was made for, which outputs then show; None without one.
    """

    owner: object = None

    def __init__(
        self, store: KVCacheManager, texts: Sequence[CachedSequence], encoder_output: EncoderOutput | None = None
    ) -> None:
        self.store, self.texts, self.encoder_output = store, list(texts), encoder_output

    @classmethod
    def of(
        cls,
        layers: Sequence[LayerCache],
        texts: int,
        encoder_output: EncoderOutput | None = None,
        by_length: Sequence[LengthDependent] = (),
    ) -> BatchCache:
        """Return an empty cache for `texts` sequences, with a manager of its own."""
        store = KVCacheManager(layers, by_length=by_length)
        return cls(store, [store.begin() for _ in range(texts)], encoder_output)

    @property
    def layers(self) -> list[LayerCache]:
        return self.store.layers

    @property
    def notes(self) -> dict[object, object]:
        return self.store.notes

    @property
    def lengths(self) -> tuple[int, ...]:
        """Cached tokens of each sequence."""
        return tuple(text.length for text in self.texts)

    def get_seq_length(self) -> int:
        """Return the cached tokens of the longest sequence."""
        return max(self.lengths, default=0)

    def expect(self, lengths: Sequence[int]) -> None:
        """Set the lengths that sequences may grow to, so that each one's blocks can be contiguous."""
        for text, length in zip(self.texts, lengths, strict=True):
            text.expected = length

    def advance(self, runs: SequenceLayout) -> None:
        """Count the tokens of a pass over `runs`, which all layers have cached."""
        for text, new in zip(self.texts, runs.lengths, strict=True):
            text.advance(new)

    def totals(self, runs: SequenceLayout) -> tuple[int, ...]:
        """Return each sequence's length after a pass over `runs`, or the length set by `set_total`."""
        return tuple(text.total or text.length + new for text, new in zip(self.texts, runs.lengths, strict=True))

    def places(self, runs: SequenceLayout, device: torch.device) -> Tensor:
        """Return each token's position in its own sequence, (tokens,)."""
        return positions_in_sequences(runs, device, self.lengths)

    def plan(self, runs: SequenceLayout, window: int | None, device: torch.device) -> CachePlan:
        """Return the slots that a pass writes and reads in layers with this window."""
        # Without cached tokens, attention reads the pass's own keys and values.
        fresh = not any(self.lengths)
        for text, new in zip(self.texts, runs.lengths, strict=True):
            text.prepare(new)  # changes nothing when another window's plan has done it
        tables = [text.tables[window] for text in self.texts]
        # Positions that the pass writes.
        spans = [(text.length, text.length + new) for text, new in zip(self.texts, runs.lengths, strict=True)]
        writes, ends = slot_rows(tables, spans, device), [end for _, end in spans]
        if fresh:
            return CachePlan(writes, None, lambda: (None, runs), lambda: block_tables(tables, ends, device), True)
        copies = [copy for table in tables for copy in table.copies]
        for table in tables:
            table.copies = []
        return CachePlan(
            writes, copied_rows(copies, device), lambda: visible_rows(tables, ends, device),
            lambda: block_tables(tables, ends, device), False,
        )  # fmt: skip

    def slots(self, device: torch.device) -> Tensor | slice:
        """Return the slots of the sequences' recurrent states."""
        numbers = [text.slot or 0 for text in self.texts]
        if numbers == list(range(len(numbers))):  # a slice is a view; an index copies the states
            return slice(0, len(numbers))
        return torch.tensor(numbers, device=device)

    def select(self, texts: Tensor) -> None:
        """Reorder the sequences by indices (n,); an index may occur several times. No keys or values move."""
        chosen = texts.tolist()
        # A sequence that is chosen again is forked, so each beam has its own block table.
        selected = [self.texts[i].fork() if i in chosen[:place] else self.texts[i] for place, i in enumerate(chosen)]
        for i, text in enumerate(self.texts):
            if i not in chosen:
                text.free()
        for leaf in self.store.xlnet_memories:
            leaf.select(chosen)
        if self.encoder_output is not None:
            self.encoder_output = self.encoder_output.select(texts)
        self.texts = selected

    def crop(self, length: int) -> None:
        """Drop all tokens after the first `length` of every sequence. Raises InvalidInput where that is impossible."""
        if self.store.xlnet_memories:
            raise InvalidInput("A memory of the last tokens alone cannot be cut back.")
        for text in self.texts:
            text.crop(length)
