"""Triton programs of attention (FlashAttention-2; Dao, 2023, arXiv:2307.08691).

Dimensions: Q queries and K keys of a tile; D and DV channels of keys and of values, rounded up to powers of two. Scores
are in powers of two, since exp2 is faster than exp.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def scale_scores(scores, scale, softcap, SOFTCAP: tl.constexpr):
    """Return scaled and capped scores in powers of two."""
    if SOFTCAP:
        return softcap * tanh(scores * scale / softcap) * LOG2E
    return scores * (scale * LOG2E)


@triton.jit
def cache_rows(positions, count, begin, table, PAGED: tl.constexpr, BLOCK: tl.constexpr):
    """Return the rows of a sequence's positions: after `begin`, or in the blocks of its table."""
    if PAGED:
        blocks = tl.load(table + positions // BLOCK, positions < count, 0).to(tl.int64)
        return blocks * BLOCK + positions % BLOCK
    return begin + positions.to(tl.int64)


@triton.jit
def online_softmax_update(scores, value, row_max, row_sum, acc, PRECISION: tl.constexpr):
    """Fold a tile of keys into the running maximum, sum and output. A query that sees no key stays at zero.

    scores (Q, K), value (K, DV), row_max (Q,), row_sum (Q,), acc (Q, DV).
    """
    new_max = tl.maximum(row_max, tl.max(scores, 1))
    shift = tl.where(new_max == float("-inf"), 0.0, new_max)  # -inf - -inf would be NaN
    weight = tl.exp2(scores - shift[:, None])  # (Q, K)
    rescale = tl.exp2(row_max - shift)  # (Q,), of what was summed with the old maximum
    acc = acc * rescale[:, None] + tl.dot(weight.to(value.dtype), value, input_precision=PRECISION)
    return new_max, row_sum * rescale + tl.sum(weight, 1), acc


@triton.jit
def normalize(sink, row_max, row_sum, acc, SINKS: tl.constexpr):
    """Return acc (Q, DV) over its sum, to which a sink (in powers of two) may add; zero where no key was seen."""
    if SINKS:
        new_max = tl.maximum(row_max, sink)
        rescale = tl.exp2(row_max - new_max)
        row_sum = row_sum * rescale + tl.exp2(sink - new_max)
        acc = acc * rescale[:, None]
    return acc / tl.where(row_sum == 0.0, 1.0, row_sum)[:, None]


# Else each value of these arguments that is 1 or a multiple of 16 would compile the program again.
@triton.jit(do_not_specialize=["sequences", "tiles", "table_row", "window"])
def attention_prefill(
    q, k, v, out, spans, table, sinks, sequences, heads, tiles, q_row, q_head, k_row, k_head, v_row, v_head, table_row,
    scale, softcap, window, GROUP: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr, D: tl.constexpr,
    DV: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    PAGED: tl.constexpr, SOFTCAP: tl.constexpr, SINKS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute attention of QUERIES queries of one head of one sequence.

    spans: (4, sequences): first row and number of queries, first row and number of keys.
    """
    number = tl.program_id(0) // tiles
    sequence, head, first = number // heads, number % heads, tl.program_id(0) % tiles * QUERIES
    length, count = tl.load(spans + sequences + sequence), tl.load(spans + 3 * sequences + sequence)
    if first < length:
        begin, key_begin = tl.load(spans + sequence), tl.load(spans + 2 * sequences + sequence).to(tl.int64)
        index, part, values = first + tl.arange(0, QUERIES), tl.arange(0, D), tl.arange(0, DV)
        rows = (begin + index).to(tl.int64)  # (Q,)
        query = tl.load(  # (Q, D)
            q + rows[:, None] * q_row + head * q_head + part[None, :],
            (index < length)[:, None] & (part < WIDTH)[None, :], 0.0,
        )  # fmt: skip
        position = count - length + index  # (Q,): queries are the last tokens of their sequence
        low, high = 0, count
        if CAUSAL:
            high = tl.minimum(count, count - length + first + QUERIES)
        if WINDOW:
            # Not one key before the window of the first query: its block may have been freed.
            low = tl.maximum(0, count - length + first - window + 1)
            high = tl.minimum(high, count - length + first + QUERIES + window)
        row_max = tl.full([QUERIES], float("-inf"), tl.float32)
        row_sum = tl.zeros([QUERIES], tl.float32)
        acc = tl.zeros([QUERIES, DV], tl.float32)
        for start in range(low, high, KEYS):
            keys = start + tl.arange(0, KEYS)
            key_rows = cache_rows(keys, count, key_begin, table + sequence * table_row, PAGED, BLOCK)  # (K,)
            key = tl.load(  # (D, K)
                k + key_rows[None, :] * k_row + head // GROUP * k_head + part[:, None],
                (keys < count)[None, :] & (part < WIDTH)[:, None], 0.0,
            )  # fmt: skip
            scores = scale_scores(tl.dot(query, key, input_precision=PRECISION), scale, softcap, SOFTCAP)  # (Q, K)
            visible = (keys < count)[None, :]
            if CAUSAL:
                visible = visible & (keys[None, :] <= position[:, None])
            if WINDOW:
                visible = visible & (tl.abs(keys[None, :] - position[:, None]) < window)
            scores = tl.where(visible, scores, float("-inf"))
            value = tl.load(  # (K, DV)
                v + key_rows[:, None] * v_row + head // GROUP * v_head + values[None, :],
                (keys < count)[:, None] & (values < VALUES)[None, :], 0.0,
            )  # fmt: skip
            row_max, row_sum, acc = online_softmax_update(scores, value, row_max, row_sum, acc, PRECISION)
        sink = tl.load(sinks + head).to(tl.float32) * LOG2E if SINKS else 0.0
        acc = normalize(sink, row_max, row_sum, acc, SINKS)
        tl.store(
            out + (rows[:, None] * heads + head) * VALUES + values[None, :], acc.to(out.dtype.element_ty),
            (index < length)[:, None] & (values < VALUES)[None, :],
        )  # fmt: skip


@triton.jit
def split_keys(count, window, splits, KEYS: tl.constexpr, WINDOW: tl.constexpr):
    """Return the first position that a sequence's last token sees, and the keys of each of `splits` programs."""
    low = 0
    if WINDOW:
        low = tl.maximum(0, count - window)
    return low, tl.cdiv(tl.cdiv(count - low, splits), KEYS) * KEYS


@triton.jit(do_not_specialize=["table_row", "window", "splits"])
def attention_decode_split(
    q, k, v, out, partial, counts, begins, table, sinks, q_row, q_head, k_row, k_head, v_row, v_head, table_row, scale,
    softcap, window, splits, GROUP: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr, D: tl.constexpr,
    DV: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, PAGED: tl.constexpr,
    SOFTCAP: tl.constexpr, SINKS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, SINGLE: tl.constexpr,
):  # fmt: skip
    """Compute attention of a sequence's last token over one split of its keys, for the heads that share these keys.

    The heads of a group are the rows of a tile, so that each key is read once for all of them. Writes the result where
    SINGLE (one split), else what `attention_combine` reads: partial (sequences, heads, splits, DV + 2), which is acc,
    row_max and row_sum.
    """
    sequence, key_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    heads = tl.num_programs(1) * GROUP
    count = tl.load(counts + sequence)
    low, share = split_keys(count, window, splits, KEYS, WINDOW)
    first = low + split * share
    if SINGLE or first < count:
        begin = tl.load(begins + sequence).to(tl.int64) if not PAGED else 0
        member, part, values = tl.arange(0, ROWS), tl.arange(0, D), tl.arange(0, DV)
        head = key_head * GROUP + member  # (ROWS,), of which GROUP are real
        real_head = member < GROUP
        query = tl.load(  # (ROWS, D)
            q + sequence.to(tl.int64) * q_row + head[:, None] * q_head + part[None, :],
            real_head[:, None] & (part < WIDTH)[None, :], 0.0,
        )  # fmt: skip
        row_max = tl.full([ROWS], float("-inf"), tl.float32)
        row_sum = tl.zeros([ROWS], tl.float32)
        acc = tl.zeros([ROWS, DV], tl.float32)
        for start in range(first, tl.minimum(count, first + share), KEYS):
            keys = start + tl.arange(0, KEYS)
            key_rows = cache_rows(keys, count, begin, table + sequence * table_row, PAGED, BLOCK)  # (K,)
            real = keys < count
            key = tl.load(  # (D, K)
                k + key_rows[None, :] * k_row + key_head * k_head + part[:, None],
                real[None, :] & (part < WIDTH)[:, None], 0.0,
            )  # fmt: skip
            scores = scale_scores(tl.dot(query, key, input_precision=PRECISION), scale, softcap, SOFTCAP)  # (ROWS, K)
            scores = tl.where(real[None, :], scores, float("-inf"))
            value = tl.load(  # (K, DV)
                v + key_rows[:, None] * v_row + key_head * v_head + values[None, :],
                real[:, None] & (values < VALUES)[None, :], 0.0,
            )  # fmt: skip
            row_max, row_sum, acc = online_softmax_update(scores, value, row_max, row_sum, acc, PRECISION)
        if SINGLE:
            sink = tl.load(sinks + head, real_head, 0.0).to(tl.float32) * LOG2E if SINKS else 0.0
            acc = normalize(sink, row_max, row_sum, acc, SINKS)
            tl.store(
                out + (sequence.to(tl.int64) * heads + head[:, None]) * VALUES + values[None, :],
                acc.to(out.dtype.element_ty), real_head[:, None] & (values < VALUES)[None, :],
            )  # fmt: skip
        else:
            target = partial + ((sequence.to(tl.int64) * heads + head) * splits + split) * (DV + 2)
            tl.store(target[:, None] + values[None, :], acc, real_head[:, None])
            tl.store(target + DV, row_max, real_head)
            tl.store(target + DV + 1, row_sum, real_head)


@triton.jit(do_not_specialize=["window", "splits"])
def attention_combine(
    partial, out, counts, sinks, heads, window, splits, VALUES: tl.constexpr, DV: tl.constexpr, SPLITS: tl.constexpr,
    KEYS: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """Combine the splits of one head of one sequence: rescale each to the common maximum, add, and normalize."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    count = tl.load(counts + sequence)
    low, share = split_keys(count, window, splits, KEYS, WINDOW)
    split, values = tl.arange(0, SPLITS), tl.arange(0, DV)
    used = (split < splits) & (low + split * share < count)  # the others wrote nothing
    source = partial + ((sequence.to(tl.int64) * heads + head) * splits + split) * (DV + 2)
    row_max = tl.load(source + DV, used, float("-inf"))  # (SPLITS,)
    row_sum = tl.load(source + DV + 1, used, 0.0)
    acc = tl.load(source[:, None] + values[None, :], used[:, None], 0.0)  # (SPLITS, DV)
    new_max = tl.max(row_max, 0)
    if SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * LOG2E
        new_max = tl.maximum(new_max, sink)
    new_max = tl.where(new_max == float("-inf"), 0.0, new_max)
    rescale = tl.exp2(row_max - new_max)
    total = tl.sum(row_sum * rescale, 0)
    if SINKS:
        total += tl.exp2(sink - new_max)
    result = tl.sum(acc * rescale[:, None], 0) / tl.where(total == 0.0, 1.0, total)  # (DV,)
    tl.store(
        out + (sequence.to(tl.int64) * heads + head) * VALUES + values, result.to(out.dtype.element_ty), values < VALUES
    )
