"""Slot mappings: the rows of cache storage that a pass reads and writes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...kernels.ragged import BLOCK, PagedLayout, SequenceLayout
from .block_pool import BlockTable


def visible_rows(
    tables: Sequence[BlockTable], ends: Sequence[int], device: torch.device
) -> tuple[Tensor | None, SequenceLayout]:
    """Return the rows of all cached positions before each end, and their layout; see `CachePlan`."""
    firsts = [table.num_released * BLOCK for table in tables]  # first cached position of each sequence
    lengths = tuple(end - first for end, first in zip(ends, firsts, strict=True))
    # Sequences in contiguous blocks are read in place; others are gathered by an index (rows,).
    if all(table.contiguous for table in tables):
        begins = tuple(table.row(first) if n else 0 for table, first, n in zip(tables, firsts, lengths, strict=True))
        return None, SequenceLayout(begins, lengths)
    return _row_index(tables, ends, device), SequenceLayout.packed(lengths)


def block_tables(tables: Sequence[BlockTable], ends: Sequence[int], device: torch.device) -> PagedLayout:
    """Return the block tables of all cached positions before each end, for kernels that read paged keys."""
    longest = max(len(table.blocks) for table in tables)  # blocks of the longest table
    # Released blocks and padding point at block 0, and `lengths` tell kernels to leave them out.
    blocks = [[block or 0 for block in table.blocks] + [0] * (longest - len(table.blocks)) for table in tables]
    # (sequences, 1 + blocks), int32: ends and tables move to the device in one copy.
    table_rows = torch.tensor([[end, *row] for end, row in zip(ends, blocks, strict=True)], dtype=torch.int32).to(
        device
    )
    lengths = tuple(end - table.num_released * BLOCK for table, end in zip(tables, ends, strict=True))
    return PagedLayout(
        (), lengths, table_rows[:, 1:], table_rows[:, 0].contiguous(), lambda: _row_index(tables, ends, device)
    )


def _row_index(tables: Sequence[BlockTable], ends: Sequence[int], device: torch.device) -> Tensor:
    """Return the rows of all cached positions before each end, (rows,)."""
    spans = [(table.num_released * BLOCK, end) for table, end in zip(tables, ends, strict=True)]
    rows = slot_rows(tables, spans, device)
    return rows if isinstance(rows, Tensor) else torch.arange(rows.start, rows.stop, device=device)


def slot_rows(tables: Sequence[BlockTable], spans: Sequence[tuple[int, int]], device: torch.device) -> Tensor | slice:
    """Return the rows of positions `begin` to `end` of each table, concatenated: (rows,), or a slice."""
    # A slice is written and read without an index.
    if len(tables) == 1 and tables[0].contiguous and spans[0][1] > spans[0][0]:
        begin, end = spans[0]
        return slice(tables[0].row(begin), tables[0].row(end - 1) + 1)
    rows: list[int] = []
    for table, (begin, end) in zip(tables, spans, strict=True):
        while begin < end:
            until = min(end, (begin // BLOCK + 1) * BLOCK)  # end of this block's part
            first = table.row(begin)
            rows.extend(range(first, first + until - begin))
            begin = until
    return torch.tensor(rows, dtype=torch.long, device=device)


def copied_rows(copies: Sequence[tuple[int, int, int]], device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Return source and target rows, (rows,) each, of copies (source block, target block, slots); None without any."""
    if not copies:
        return None
    sources = [block * BLOCK + i for block, _, places in copies for i in range(places)]  # (rows,)
    targets = [block * BLOCK + i for _, block, places in copies for i in range(places)]
    return torch.tensor(sources, device=device), torch.tensor(targets, device=device)
