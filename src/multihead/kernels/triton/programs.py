"""Programs for a GPU, in Triton: what `launch` starts."""

# mypy: ignore-errors

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def activated(x, ACT: tl.constexpr):
    """An activation by its number in `cpu.native.ACTIVATIONS`."""
    if ACT == 1:
        x = tl.where(x < 0.0, 0.0, x)  # what is no number stays none
    elif ACT == 2:
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACT == 3:
        x = 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    elif ACT == 4:
        x = x / (1.0 + tl.exp(-x))
    elif ACT == 5:
        x = x / (1.0 + tl.exp(-1.702 * x))
    elif ACT == 6:
        x = tanh(x)
    elif ACT == 7:
        x = 1.0 / (1.0 + tl.exp(-x))
    return x


@triton.jit
def gate(x, y, inner, x_row, ACT: tl.constexpr, SIZE: tl.constexpr):
    """y (rows, inner) = act(first half) * second half of x (rows, 2 * inner)."""
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    real = part < inner
    first = tl.load(x + row * x_row + part, real, 0.0).to(tl.float32)
    second = tl.load(x + row * x_row + inner + part, real, 0.0).to(tl.float32)
    tl.store(y + row * inner + part, (activated(first, ACT) * second).to(y.dtype.element_ty), real)


@triton.jit
def rms(x, weight, y, width, x_row, eps, centre, SIZE: tl.constexpr):
    """y = x over its root mean square, times weight + centre, a row each."""
    row, part = tl.program_id(0).to(tl.int64), tl.arange(0, SIZE)
    real = part < width
    wide = tl.load(x + row * x_row + part, real, 0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    scaled = wide * scale * (tl.load(weight + part, real, 0.0).to(tl.float32) + centre)
    tl.store(y + row * width + part, scaled.to(y.dtype.element_ty), real)


@triton.jit
def turn(
    x, y, cosines, sines, heads, x_row, x_head, WIDTH: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr,
    PAIRS: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Turns the first 2 * HALF channels of each head of x (tokens, heads, WIDTH); a token each."""
    row = tl.program_id(0).to(tl.int64)
    head, pair = tl.arange(0, HEADS)[:, None], tl.arange(0, PAIRS)[None, :]
    real = (head < heads) & (pair < HALF)
    source, target = x + row * x_row + head * x_head + pair, y + (row * heads + head) * WIDTH + pair
    cosine = tl.load(cosines + row * HALF + pair, pair < HALF, 0.0)
    sine = tl.load(sines + row * HALF + pair, pair < HALF, 0.0)
    first, second = tl.load(source, real, 0.0).to(tl.float32), tl.load(source + HALF, real, 0.0).to(tl.float32)
    tl.store(target, (first * cosine - second * sine).to(y.dtype.element_ty), real)
    tl.store(target + HALF, (second * cosine + first * sine).to(y.dtype.element_ty), real)
    if WIDTH > 2 * HALF:
        rest = 2 * HALF + tl.arange(0, REST)[None, :]
        left = (head < heads) & (rest < WIDTH)
        kept = tl.load(x + row * x_row + head * x_head + rest, left, 0.0)
        tl.store(y + (row * heads + head) * WIDTH + rest, kept, left)


@triton.jit
def place(
    q, k, v, out, k_store, v_store, rows, cosines, sines, heads, key_heads, q_row, q_head, k_row, k_head, v_row,
    v_head, WIDTH: tl.constexpr, VALUES: tl.constexpr, HALF: tl.constexpr, PAIRS: tl.constexpr, REST: tl.constexpr,
    DV: tl.constexpr,
):  # fmt: skip
    """A head of a token each: queries are turned, keys turned and put at their row of storage, and values put there.

    A row below 0 is nowhere.
    """
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row = tl.load(rows + token).to(tl.int64)
    if head < heads + key_heads:
        if head < heads:
            source, target = q + token * q_row + head * q_head, out + (token * heads + head) * WIDTH
        else:
            source = k + token * k_row + (head - heads) * k_head
            target = k_store + (row * key_heads + head - heads) * WIDTH
        if (head < heads) | (row >= 0):
            pair, rest = tl.arange(0, PAIRS), 2 * HALF + tl.arange(0, REST)
            real = pair < HALF
            cosine = tl.load(cosines + token * HALF + pair, real, 0.0)
            sine = tl.load(sines + token * HALF + pair, real, 0.0)
            first = tl.load(source + pair, real, 0.0).to(tl.float32)
            second = tl.load(source + HALF + pair, real, 0.0).to(tl.float32)
            tl.store(target + pair, (first * cosine - second * sine).to(out.dtype.element_ty), real)
            tl.store(target + HALF + pair, (second * cosine + first * sine).to(out.dtype.element_ty), real)
            if WIDTH > 2 * HALF:
                tl.store(target + rest, tl.load(source + rest, rest < WIDTH, 0.0), rest < WIDTH)
    elif row >= 0:
        own, part = head - heads - key_heads, tl.arange(0, DV)
        value = tl.load(v + token * v_row + own * v_head + part, part < VALUES, 0.0)
        tl.store(v_store + (row * key_heads + own) * VALUES + part, value, part < VALUES)


@triton.jit
def summed(
    x, y, total, normed, weight, bias, width, eps, centre, KIND: tl.constexpr, BIAS: tl.constexpr,
    KEEP: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """x + y (rows, width), kept in `total` where KEEP, and its norm: 1 by the root mean square, 2 a layer norm."""
    row, part = tl.program_id(0).to(tl.int64), tl.arange(0, SIZE)
    real = part < width
    place = row * width + part
    both = tl.load(x + place, real, 0.0).to(tl.float32) + tl.load(y + place, real, 0.0).to(tl.float32)
    rounded = both.to(normed.dtype.element_ty)
    if KEEP:
        tl.store(total + place, rounded, real)
    wide = rounded.to(tl.float32)
    if KIND == 2:
        wide = tl.where(real, wide - tl.sum(wide, 0) / width, 0.0)
    scaled = wide * tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    scaled = scaled * (tl.load(weight + part, real, 0.0).to(tl.float32) + centre)
    if BIAS:
        scaled += tl.load(bias + part, real, 0.0).to(tl.float32)
    tl.store(normed + place, scaled.to(normed.dtype.element_ty), real)


@triton.jit
def keep(
    k, v, k_store, v_store, rows, k_row, v_row, k_width, v_width, K_SIZE: tl.constexpr, V_SIZE: tl.constexpr
):  # fmt: skip
    """Puts a token's keys and values (all heads) at its row of storage; a row below 0 is nowhere."""
    token = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + token).to(tl.int64)
    if row >= 0:
        part = tl.arange(0, K_SIZE)
        tl.store(k_store + row * k_width + part, tl.load(k + token * k_row + part, part < k_width, 0.0), part < k_width)
        part = tl.arange(0, V_SIZE)
        tl.store(v_store + row * v_width + part, tl.load(v + token * v_row + part, part < v_width, 0.0), part < v_width)


@triton.jit(do_not_specialize=["told_row", "windows", "blocks"])  # else each kind of number compiles it anew
def follow(told, best, told_row, windows, blocks, BLOCK: tl.constexpr):
    """Makes a text's next token the one that was found likeliest; see `standing.Standing` for the columns."""
    text = tl.program_id(0)
    own = told + text * told_row
    if tl.load(own + 2) > 0:
        place = tl.load(own + 1) + 1
        tl.store(own, tl.maximum(tl.load(best + text), 0).to(tl.int32))
        tl.store(own + 1, place)
        tl.store(own + 2, place + 1)
        for window in range(windows):
            column = own + 3 + window * (1 + blocks)
            known = place // BLOCK < blocks
            block = tl.load(column + 1 + place // BLOCK, known, 0)
            tl.store(column, tl.where(known, block * BLOCK + place % BLOCK, -1))


@triton.jit
def capped(scores, scale, softcap, SOFTCAP: tl.constexpr):
    """Scores in powers of two."""
    if SOFTCAP:
        return softcap * tanh(scores * scale / softcap) * LOG2E
    return scores * (scale * LOG2E)


@triton.jit
def rows_of(places, count, begin, table, PAGED: tl.constexpr, BLOCK: tl.constexpr):
    """Rows of a text's places: after `begin`, or in the blocks of its table."""
    if PAGED:
        blocks = tl.load(table + places // BLOCK, places < count, 0).to(tl.int64)
        return blocks * BLOCK + places % BLOCK
    return begin + places.to(tl.int64)


@triton.jit
def met(scores, told, best, total, mixed, PRECISION: tl.constexpr):
    """Maxima, sums and mixed values after more keys, of which a query may see none."""
    higher = tl.maximum(best, tl.max(scores, 1))
    shift = tl.where(higher == float("-inf"), 0.0, higher)
    power = tl.exp2(scores - shift[:, None])
    fade = tl.exp2(best - shift)
    mixed = mixed * fade[:, None] + tl.dot(power.to(told.dtype), told, input_precision=PRECISION)
    return higher, total * fade + tl.sum(power, 1), mixed


@triton.jit
def whole(sink, best, total, mixed, SINKS: tl.constexpr):
    """Mixed values over their sums, to which a sink (in powers of two) may add; zero where nothing was seen."""
    if SINKS:
        higher = tl.maximum(best, sink)
        fade = tl.exp2(best - higher)
        total = total * fade + tl.exp2(sink - higher)
        mixed = mixed * fade[:, None]
    return mixed / tl.where(total == 0.0, 1.0, total)[:, None]


@triton.jit(do_not_specialize=["texts", "parts", "table_row", "window"])  # else each kind of number compiles it anew
def mix(
    q, k, v, out, spans, table, sinks, texts, heads, parts, q_row, q_head, k_row, k_head, v_row, v_head, table_row,
    scale, softcap, window, GROUP: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr, D: tl.constexpr,
    DV: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    PAGED: tl.constexpr, SOFTCAP: tl.constexpr, SINKS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attention of QUERIES queries of one head of one text (Dao, 2023, arXiv:2307.08691).

    spans: (4, texts): where queries begin and how many they are, likewise keys.
    """
    number = tl.program_id(0) // parts
    text, head, first = number // heads, number % heads, tl.program_id(0) % parts * QUERIES
    length, count = tl.load(spans + texts + text), tl.load(spans + 3 * texts + text)
    if first < length:
        begin, key_begin = tl.load(spans + text), tl.load(spans + 2 * texts + text).to(tl.int64)
        own, part, values = first + tl.arange(0, QUERIES), tl.arange(0, D), tl.arange(0, DV)
        rows = (begin + own).to(tl.int64)
        asked = tl.load(
            q + rows[:, None] * q_row + head * q_head + part[None, :],
            (own < length)[:, None] & (part < WIDTH)[None, :], 0.0,
        )  # fmt: skip
        place = count - length + own
        low, high = 0, count
        if CAUSAL:
            high = tl.minimum(count, count - length + first + QUERIES)
        if WINDOW:
            low = tl.maximum(0, count - length + first - window + 1)  # not a row before it, whose block may be gone
            high = tl.minimum(high, count - length + first + QUERIES + window)
        best = tl.full([QUERIES], float("-inf"), tl.float32)
        total = tl.zeros([QUERIES], tl.float32)
        mixed = tl.zeros([QUERIES, DV], tl.float32)
        for start in range(low, high, KEYS):
            keys = start + tl.arange(0, KEYS)
            at = rows_of(keys, count, key_begin, table + text * table_row, PAGED, BLOCK)
            known = tl.load(
                k + at[None, :] * k_row + head // GROUP * k_head + part[:, None],
                (keys < count)[None, :] & (part < WIDTH)[:, None], 0.0,
            )  # fmt: skip
            scores = capped(tl.dot(asked, known, input_precision=PRECISION), scale, softcap, SOFTCAP)
            seen = (keys < count)[None, :]
            if CAUSAL:
                seen = seen & (keys[None, :] <= place[:, None])
            if WINDOW:
                seen = seen & (tl.abs(keys[None, :] - place[:, None]) < window)
            scores = tl.where(seen, scores, float("-inf"))
            told = tl.load(
                v + at[:, None] * v_row + head // GROUP * v_head + values[None, :],
                (keys < count)[:, None] & (values < VALUES)[None, :], 0.0,
            )  # fmt: skip
            best, total, mixed = met(scores, told, best, total, mixed, PRECISION)
        sink = tl.load(sinks + head).to(tl.float32) * LOG2E if SINKS else 0.0
        mixed = whole(sink, best, total, mixed, SINKS)
        tl.store(
            out + (rows[:, None] * heads + head) * VALUES + values[None, :], mixed.to(out.dtype.element_ty),
            (own < length)[:, None] & (values < VALUES)[None, :],
        )  # fmt: skip


@triton.jit
def shares(count, window, splits, KEYS: tl.constexpr, WINDOW: tl.constexpr):
    """The first place that a text's last token sees, and how many places each of `splits` programs reads."""
    low = 0
    if WINDOW:
        low = tl.maximum(0, count - window)
    return low, tl.cdiv(tl.cdiv(count - low, splits), KEYS) * KEYS


@triton.jit(do_not_specialize=["table_row", "window", "splits"])
def peek(
    q, k, v, out, found, counts, begins, table, sinks, q_row, q_head, k_row, k_head, v_row, v_head, table_row, scale,
    softcap, window, splits, GROUP: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr, D: tl.constexpr,
    DV: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr, PAGED: tl.constexpr,
    SOFTCAP: tl.constexpr, SINKS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, ALONE: tl.constexpr,
):  # fmt: skip
    """Attention of a text's last token over one share of its keys, for the heads that have these keys in common.

    Writes the result where ALONE, else what `gather` joins: found (texts, heads, splits, DV + 2): sums, maximum, total.
    """
    text, key_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    heads = tl.num_programs(1) * GROUP
    count = tl.load(counts + text)
    low, share = shares(count, window, splits, KEYS, WINDOW)
    first = low + split * share
    if ALONE or first < count:
        begin = tl.load(begins + text).to(tl.int64) if not PAGED else 0
        member, part, values = tl.arange(0, ROWS), tl.arange(0, D), tl.arange(0, DV)
        head = key_head * GROUP + member
        mine = member < GROUP
        asked = tl.load(
            q + text.to(tl.int64) * q_row + head[:, None] * q_head + part[None, :],
            mine[:, None] & (part < WIDTH)[None, :], 0.0,
        )  # fmt: skip
        best = tl.full([ROWS], float("-inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        mixed = tl.zeros([ROWS, DV], tl.float32)
        for start in range(first, tl.minimum(count, first + share), KEYS):
            keys = start + tl.arange(0, KEYS)
            at = rows_of(keys, count, begin, table + text * table_row, PAGED, BLOCK)
            real = keys < count
            known = tl.load(
                k + at[None, :] * k_row + key_head * k_head + part[:, None],
                real[None, :] & (part < WIDTH)[:, None], 0.0,
            )  # fmt: skip
            scores = capped(tl.dot(asked, known, input_precision=PRECISION), scale, softcap, SOFTCAP)
            scores = tl.where(real[None, :], scores, float("-inf"))
            told = tl.load(
                v + at[:, None] * v_row + key_head * v_head + values[None, :],
                real[:, None] & (values < VALUES)[None, :], 0.0,
            )  # fmt: skip
            best, total, mixed = met(scores, told, best, total, mixed, PRECISION)
        if ALONE:
            sink = tl.load(sinks + head, mine, 0.0).to(tl.float32) * LOG2E if SINKS else 0.0
            mixed = whole(sink, best, total, mixed, SINKS)
            tl.store(
                out + (text.to(tl.int64) * heads + head[:, None]) * VALUES + values[None, :],
                mixed.to(out.dtype.element_ty), mine[:, None] & (values < VALUES)[None, :],
            )  # fmt: skip
        else:
            place = found + ((text.to(tl.int64) * heads + head) * splits + split) * (DV + 2)
            tl.store(place[:, None] + values[None, :], mixed, mine[:, None])
            tl.store(place + DV, best, mine)
            tl.store(place + DV + 1, total, mine)


@triton.jit(do_not_specialize=["window", "splits"])
def gather(
    found, out, counts, sinks, heads, window, splits, VALUES: tl.constexpr, DV: tl.constexpr, SPLITS: tl.constexpr,
    KEYS: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """Joins the shares of one text's head."""
    text, head = tl.program_id(0), tl.program_id(1)
    count = tl.load(counts + text)
    low, share = shares(count, window, splits, KEYS, WINDOW)
    split, values = tl.arange(0, SPLITS), tl.arange(0, DV)
    used = (split < splits) & (low + split * share < count)
    place = found + ((text.to(tl.int64) * heads + head) * splits + split) * (DV + 2)
    best = tl.load(place + DV, used, float("-inf"))
    total = tl.load(place + DV + 1, used, 0.0)
    mixed = tl.load(place[:, None] + values[None, :], used[:, None], 0.0)
    highest = tl.max(best, 0)
    if SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * LOG2E
        highest = tl.maximum(highest, sink)
    highest = tl.where(highest == float("-inf"), 0.0, highest)
    fade = tl.exp2(best - highest)
    whole = tl.sum(total * fade, 0)
    if SINKS:
        whole += tl.exp2(sink - highest)
    result = tl.sum(mixed * fade[:, None], 0) / tl.where(whole == 0.0, 1.0, whole)
    tl.store(
        out + (text.to(tl.int64) * heads + head) * VALUES + values, result.to(out.dtype.element_ty), values < VALUES
    )
