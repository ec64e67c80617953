"""Estimated time of attention on a CPU: which sequences are padded together, and which get a call each.

All numbers are microseconds, measured on one CPU. What is faster depends on the lengths alone.
"""

from __future__ import annotations

from torch import Tensor

from ..ragged import AttentionMask

CALL, PADDED = 32.0, 120.0  # of a call for one sequence; the fixed part of a padded batch
CALL_WITH_GRADIENTS, PADDED_WITH_GRADIENTS = 200.0, 300.0  # with dropout, too: many small operations
BYTE = 1 / 15_000  # of keys and values that are copied into a padded batch
SCORE = 1 / 2_400  # of one query and one key of a head
REST = 1 / 200  # of one that is beyond the last whole STEP of keys: torch's kernel computes these one by one
STEP = 16
LONG = 480  # keys from which those beyond the last whole step do not matter


def split_batch(
    attention_mask: AttentionMask, heads: int, k: Tensor, may_pad: bool, with_gradients: bool
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Return the sequences that get a call each, and the groups that are padded together.

    Decode steps (one query) and prefills form a group each. In a group the shortest sequences are padded, since their
    padding is small, and each of the others gets a call.

    Args:
        k: (rows, key heads, width). may_pad: False gives every sequence a call.
    """
    call, fixed = (CALL_WITH_GRADIENTS, PADDED_WITH_GRADIENTS) if with_gradients else (CALL, PADDED)
    row_bytes = 2 * k.shape[1] * k.shape[2] * k.element_size()  # bytes of one token's key and value
    queries, keys = attention_mask.queries.lengths, attention_mask.keys.lengths
    single, groups = [i for i, length in enumerate(keys) if not (may_pad and length)], []
    rest = [i for i, length in enumerate(keys) if may_pad and length]
    for group in ([i for i in rest if queries[i] == 1], [i for i in rest if queries[i] != 1]):
        group.sort(key=lambda i: (queries[i], keys[i]))
        costs = [len(group) * call]  # costs[n]: the first n are padded, beside what all kernels cost without padding
        most_queries = most_keys = 0
        without = 0.0
        for count, i in enumerate(group, 1):
            most_queries, most_keys = max(most_queries, queries[i]), max(most_keys, keys[i])
            width = round_up_keys(most_queries, most_keys)  # keys of the padded batch
            padded = fixed + count * (width * row_bytes * BYTE + kernel_time(heads, most_queries, width))
            without += kernel_time(heads, queries[i], keys[i])
            costs.append(padded - without + (len(group) - count) * call)
        cut = min(range(len(costs)), key=costs.__getitem__)  # as many as cost least
        single += group[cut:]
        if cut:
            groups.append(tuple(sorted(group[:cut])))
    return tuple(sorted(single)), groups


def kernel_time(heads: int, queries: int, keys: int) -> float:
    """Return the time of torch's kernel for one sequence."""
    rest = keys % STEP if queries > 1 and keys < LONG else 0
    return heads * queries * (keys * SCORE + rest * REST)


def pads_equal_lengths(attention_mask: AttentionMask, heads: int) -> bool:
    """Return whether sequences of one length are faster with keys padded to whole steps."""
    queries, keys = attention_mask.queries.longest, attention_mask.keys.longest
    saved = kernel_time(heads, queries, keys) - kernel_time(heads, queries, round_up_keys(queries, keys))
    return len(attention_mask.keys) * saved > PADDED


def round_up_keys(queries: int, keys: int) -> int:
    """Return the keys of a padded batch: whole steps, where a few more keys cost less than a rest would."""
    more = -keys % STEP  # keys to the next whole step
    worse = queries == 1 or keys >= LONG or more * SCORE >= (keys % STEP) * REST
    return keys if worse else keys + more
