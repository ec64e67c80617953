"""Triton programs of everything but attention, which `attention_programs` has. `launch` starts them.

A program computes one row, or one token; sums are float32 whatever the precision of what is read.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from .attention_programs import attention_combine, attention_decode_split, attention_prefill, tanh  # noqa: F401


@triton.jit
def activate(x, ACT: tl.constexpr):
    """Return an activation by its number in `kernels.activations`."""
    if ACT == 1:
        x = tl.where(x < 0.0, 0.0, x)  # NaN stays NaN, which a maximum would lose
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
    elif ACT == 8:
        x = tl.where(x < 0.0, 0.0, x)
        x = x * x
    return x


@triton.jit
def activation_gate(x, y, inner, x_row, ACT: tl.constexpr, SIZE: tl.constexpr):
    """y (rows, inner) = act(first half) * second half of x (rows, 2 * inner)."""
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    real = column < inner
    first = tl.load(x + row * x_row + column, real, 0.0).to(tl.float32)
    second = tl.load(x + row * x_row + inner + column, real, 0.0).to(tl.float32)
    tl.store(y + row * inner + column, (activate(first, ACT) * second).to(y.dtype.element_ty), real)


@triton.jit
def rms_norm(x, weight, y, width, x_row, eps, centre, SIZE: tl.constexpr):
    """y = x over its root mean square, times weight + centre."""
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, SIZE)
    real = column < width
    wide = tl.load(x + row * x_row + column, real, 0.0).to(tl.float32)  # (SIZE,)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    scaled = wide * scale * (tl.load(weight + column, real, 0.0).to(tl.float32) + centre)
    tl.store(y + row * width + column, scaled.to(y.dtype.element_ty), real)


@triton.jit
def rotate(
    x, y, cosines, sines, heads, x_row, x_head, WIDTH: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr,
    PAIRS: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Rotate the first 2 * HALF channels of each head of x (tokens, heads, WIDTH): channel i with channel i + HALF.

    cosines, sines: (tokens, HALF).
    """
    row = tl.program_id(0).to(tl.int64)
    head, pair = tl.arange(0, HEADS)[:, None], tl.arange(0, PAIRS)[None, :]
    real = (head < heads) & (pair < HALF)  # (HEADS, PAIRS)
    source, target = x + row * x_row + head * x_head + pair, y + (row * heads + head) * WIDTH + pair
    cosine = tl.load(cosines + row * HALF + pair, pair < HALF, 0.0)
    sine = tl.load(sines + row * HALF + pair, pair < HALF, 0.0)
    first, second = tl.load(source, real, 0.0).to(tl.float32), tl.load(source + HALF, real, 0.0).to(tl.float32)
    tl.store(target, (first * cosine - second * sine).to(y.dtype.element_ty), real)
    tl.store(target + HALF, (second * cosine + first * sine).to(y.dtype.element_ty), real)
    if WIDTH > 2 * HALF:  # channels that are not rotated
        rest = 2 * HALF + tl.arange(0, REST)[None, :]
        left = (head < heads) & (rest < WIDTH)
        unchanged = tl.load(x + row * x_row + head * x_head + rest, left, 0.0)
        tl.store(y + (row * heads + head) * WIDTH + rest, unchanged, left)


@triton.jit
def rotate_and_write(
    q, k, v, out, k_store, v_store, rows, cosines, sines, heads, key_heads, q_row, q_head, k_row, k_head, v_row,
    v_head, WIDTH: tl.constexpr, VALUES: tl.constexpr, HALF: tl.constexpr, PAIRS: tl.constexpr, REST: tl.constexpr,
    DV: tl.constexpr,
):  # fmt: skip
    """Rotate queries and keys, and write keys and values to their row of the KV cache: one head of one token.

    Programs 0 to heads - 1 of a token have a query head each, the next key_heads a key head, the last a value head.
    A row below 0 is not written.
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
        value_head, part = head - heads - key_heads, tl.arange(0, DV)
        value = tl.load(v + token * v_row + value_head * v_head + part, part < VALUES, 0.0)
        tl.store(v_store + (row * key_heads + value_head) * VALUES + part, value, part < VALUES)


@triton.jit
def add_norm(
    x, y, total, normed, weight, bias, width, eps, centre, KIND: tl.constexpr, BIAS: tl.constexpr,
    KEEP_SUM: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """x + y (rows, width), written to `total` where KEEP_SUM, and its norm: 1 root mean square, 2 layer norm."""
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, SIZE)
    real = column < width
    place = row * width + column
    both = tl.load(x + place, real, 0.0).to(tl.float32) + tl.load(y + place, real, 0.0).to(tl.float32)
    rounded = both.to(normed.dtype.element_ty)  # the norm reads the sum as layers one after another would
    if KEEP_SUM:
        tl.store(total + place, rounded, real)
    wide = rounded.to(tl.float32)
    if KIND == 2:
        wide = tl.where(real, wide - tl.sum(wide, 0) / width, 0.0)
    scaled = wide * tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    scaled = scaled * (tl.load(weight + column, real, 0.0).to(tl.float32) + centre)
    if BIAS:
        scaled += tl.load(bias + column, real, 0.0).to(tl.float32)
    tl.store(normed + place, scaled.to(normed.dtype.element_ty), real)


@triton.jit
def write_rows(
    k, v, k_store, v_store, rows, k_row, v_row, k_width, v_width, K_SIZE: tl.constexpr, V_SIZE: tl.constexpr
):  # fmt: skip
    """Write a token's keys and values (all heads) to its row of the KV cache; a row below 0 is not written."""
    token = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + token).to(tl.int64)
    if row >= 0:
        part = tl.arange(0, K_SIZE)
        tl.store(k_store + row * k_width + part, tl.load(k + token * k_row + part, part < k_width, 0.0), part < k_width)
        part = tl.arange(0, V_SIZE)
        tl.store(v_store + row * v_width + part, tl.load(v + token * v_row + part, part < v_width, 0.0), part < v_width)


@triton.jit(do_not_specialize=["inputs_row", "windows", "blocks"])
def advance_step(inputs, tokens, inputs_row, windows, blocks, BLOCK: tl.constexpr):
    """Make a sequence's chosen token the next input of a captured decode step; see `graph_cache` for the columns.

    Columns: token, position, number of positions, then for each window the cache row and the block table.
    """
    sequence = tl.program_id(0)
    own = inputs + sequence * inputs_row
    if tl.load(own + 2) > 0:  # else a row of the batch without a sequence
        position = tl.load(own + 1) + 1
        tl.store(own, tl.maximum(tl.load(tokens + sequence), 0).to(tl.int32))
        tl.store(own + 1, position)
        tl.store(own + 2, position + 1)
        for window in range(windows):
            column = own + 3 + window * (1 + blocks)
            known = position // BLOCK < blocks
            block = tl.load(column + 1 + position // BLOCK, known, 0)
            tl.store(column, tl.where(known, block * BLOCK + position % BLOCK, -1))
