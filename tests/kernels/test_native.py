"""The C++ kernels give what their definitions in torch give, at every level that this processor runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.checkpoints.gguf_blocks import BLOCK_TYPES
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.kernels.activations import ACTIVATIONS
from multihead.kernels.cpu import native
from multihead.kernels.cpu.attention import decode, prefill
from multihead.kernels.cpu.backend import CpuBackend, SeededDropout, rotate
from multihead.kernels.quantization.base import PackedWeight, format_of, pack
from multihead.kernels.quantization.block_tensor import BlockTensor
from multihead.kernels.quantization.panels import GROUP
from multihead.kernels.quantization.registry import FORMATS
from multihead.kernels.ragged import AttentionMask, SequenceLayout
from multihead.kernels.torch.attention import attend
from multihead.kernels.torch.backend import TorchBackend
from multihead.kernels.torch.backend import rotate as turned
from multihead.nn.norms import RMSNorm, WideRMSNorm
from multihead.nn.weights import LayerNorm
from multihead.runtime.fused_linear_cpu import FusedLinear
from multihead.runtime.layer_spec import norm_spec

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no C++ kernels: {native.why_not()}")
BEST = native.level()


def runs(name: str) -> bool:
    if native.library() is None:
        return False
    try:
        native.level(name)
    except UnsupportedOption:
        return False
    native.level(BEST)
    return True


ALL = ("plain", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx", "amx_emulated")
LEVELS = [name for name in ALL if runs(name)]


@pytest.fixture(params=LEVELS)
def level(request: Any) -> Iterator[str]:
    yield native.level(request.param) or ""
    native.level(BEST)


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def close(got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    worst = (got.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1e-6)
    assert worst <= tolerance, f"differs by {worst:.1e} of the largest"


def weight_of(packed: PackedWeight) -> torch.Tensor:
    return packed.format.weight(packed)


def product(outputs: int, inputs: int, kind: str, **options: Any) -> FusedLinear:
    count = 2 if options.get("gated") else 1
    weights = [drawn(outputs, inputs, seed=i, scale=0.1) for i in range(count)]
    return FusedLinear(weights, [drawn(outputs, seed=9 + i) for i in range(count)], kind, **options)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (2, 96), (130, 52), (70, 330)])
@pytest.mark.parametrize("rows", [1, 2, 5, 7, 33, 200])
def test_a_product_is_its_definition(level, kind, outputs, inputs, rows):
    part, x = product(outputs, inputs, kind), drawn(rows, inputs, seed=3)
    with torch.no_grad():
        close(part(x), part.definition(x), 2e-3)  # a code at a tie may fall to either side


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("act", [None, *ACTIVATIONS])
@pytest.mark.parametrize("inner", [False, True], ids=["sum normed", "product normed"])
def test_what_stands_around_a_product_is_its_definition(kind, act, inner):
    norm, after = LayerNorm(72, 1e-5), RMSNorm(40, 1e-5)
    with torch.no_grad():
        for i, p in enumerate((norm.weight, norm.bias, after.weight)):
            p.copy_(drawn(len(p), seed=i) * 0.2 + 1)
    for gated in (False, True):
        norms = {"norm": norm_spec(norm), "after": norm_spec(after), "inner": inner}
        part = product(40, 72, kind, act=act, gated=gated, **norms)
        x, add = drawn(9, 72, seed=4), drawn(9, 40, seed=5)
        with torch.no_grad():
            close(part(x, add), part.definition(x, add), 5e-3)
            wide = part(x.bfloat16(), add.bfloat16())
            assert wide.dtype is torch.bfloat16
            close(wide, part.definition(x.bfloat16(), add.bfloat16()), 3e-2)


def test_rows_of_a_wider_tensor_are_read_where_they_lie():
    part, whole = product(64, 32, "int8"), drawn(10, 96)
    with torch.no_grad():
        assert torch.equal(part(whole[:, 32:64]), part(whole[:, 32:64].contiguous()))
        assert torch.equal(part(drawn(2, 3, 32)), part(drawn(6, 32)).view(2, 3, -1))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_no_number_stays_none(level, kind):
    part, x = product(64, 64, kind), drawn(3, 64)
    x[1, 7] = torch.nan
    with torch.no_grad():
        y = part(x)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


def test_gradients_go_through_the_definition():
    part, x = product(8, 16, "bf16"), drawn(3, 16).requires_grad_()
    part(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_equal_torchs(level, dtype):
    x = drawn(5, 3, 50).to(dtype)
    for norm in (RMSNorm(50, 1e-6), WideRMSNorm(50, 1e-6, centre=1.0)):
        norm.weight = torch.nn.Parameter(drawn(50, seed=1).to(dtype), requires_grad=False)
        expected = TorchBackend().rms_norm(x, norm.weight, 1e-6, getattr(norm, "centre", 0.0), wide=True)
        close(norm(x), expected, 1e-6 if dtype is torch.float32 else 8e-3)


@pytest.mark.parametrize("rotated", [32, 20])
def test_turning_is_its_definition(level, rotated):
    x, angles = drawn(7, 3 * 32).view(7, 3, 32), drawn(7, rotated // 2, seed=2)
    cos, sin = angles.cos(), angles.sin()
    got = rotate(x, cos, sin)
    expected = turned(x, torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None])
    close(got, expected, 1e-6)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("heads", [(6, 2), (3, 3)])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_one_query_a_text_is_attention(level, window, heads, softcap):
    q, k, v = drawn(4, heads[0], 48), drawn(40, heads[1], 48, seed=1), drawn(40, heads[1], 16, seed=2)
    attention_mask = AttentionMask(
        SequenceLayout.packed((1,) * 4), SequenceLayout((3, 0, 30, 12), (7, 1, 9, 18)), True, window
    )
    got = decode(q, k, v, attention_mask, 0.2, softcap)
    assert got is not None
    close(got, attend(q, k, v, attention_mask, scale=0.2, softcap=softcap), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "widths"), [((9, 3), (64, 64)), ((7, 1), (48, 32)), ((4, 2), (32, 112))])
@pytest.mark.parametrize(("softcap", "window"), [(None, None), (2.0, 600)])
def test_long_sequences_are_attention_and_do_not_depend_on_the_batch(level, dtype, heads, widths, softcap, window):
    lengths = (1, 255, 256, 257, 1000)
    keys, sinks = SequenceLayout.packed(lengths), drawn(heads[0], seed=3)
    q = drawn(len(lengths), heads[0], widths[0]).to(dtype)
    k, v = (drawn(sum(lengths), heads[1], width, seed=1 + i).to(dtype) for i, width in enumerate(widths))
    mask = AttentionMask(SequenceLayout.packed((1,) * len(lengths)), keys, True, window)
    got = decode(q, k, v, mask, 0.2, softcap, sinks)
    assert got is not None
    for place, (begin, length) in enumerate(zip(keys.begins, lengths, strict=True)):
        seen = slice(max(begin, begin + length - (window or length)), begin + length)
        each = [x[seen].double().repeat_interleave(heads[0] // heads[1], 1) for x in (k, v)]
        scores = torch.einsum("hd,nhd->hn", q[place].double(), each[0]) * 0.2
        scores = scores if softcap is None else softcap * (scores / softcap).tanh()
        weights = torch.cat([scores, sinks.double()[:, None]], 1).softmax(1)[:, :-1]
        close(got[place], torch.einsum("hn,nhd->hd", weights, each[1]), 1e-5 if dtype is torch.float32 else 1e-2)
        one = AttentionMask(SequenceLayout.packed((1,)), SequenceLayout((begin,), (length,)), True, window)
        alone = decode(q[place : place + 1], k, v, one, 0.2, softcap, sinks)
        assert alone is not None
        assert alone[0].equal(got[place])


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 5), (False, 9)])
@pytest.mark.parametrize(("heads", "width"), [((4, 2), 32), ((3, 3), 48), ((2, 1), 128)])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_many_queries_a_text_are_attention(level, causal, window, heads, width, softcap):
    lengths = (7, 1, 0, 70, 13)
    keys = SequenceLayout((3, 10, 11, 11, 90), (7, 4, 0, 75, 13))
    q, k = drawn(sum(lengths), heads[0], width).bfloat16(), drawn(110, heads[1], width, seed=1).bfloat16()
    v, attention_mask = (
        drawn(110, heads[1], 64, seed=2).bfloat16(),
        AttentionMask(SequenceLayout.packed(lengths), keys, causal, window),
    )
    got = prefill(q, k, v, attention_mask, 0.2, softcap)
    assert got is not None
    close(got, attend(q.float(), k.float(), v.float(), attention_mask, scale=0.2, softcap=softcap), 1e-2)


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("widths", [(64, 64), (34, 80)])
def test_queries_of_long_texts_are_attention_and_do_not_depend_on_the_batch(level, window, widths):
    lengths, cached = (600, 33, 16, 17), 30  # keys of more than one block; queries that fill tiles, and that do not
    queries, keys = SequenceLayout.packed(lengths), SequenceLayout.packed([n + cached for n in lengths])
    q = drawn(sum(lengths), 2, widths[0]).bfloat16()
    k, v = (drawn(sum(keys.lengths), 1, width, seed=1 + i).bfloat16() for i, width in enumerate(widths))
    mask = AttentionMask(queries, keys, True, window)
    got = prefill(q, k, v, mask, 0.2)
    assert got is not None
    close(got, attend(q.float(), k.float(), v.float(), mask, scale=0.2), 1e-2)
    for place, (begin, length) in enumerate(zip(queries.begins, lengths, strict=True)):
        key = SequenceLayout((keys.begins[place],), (keys.lengths[place],))
        own = AttentionMask(SequenceLayout.packed((length,)), key, True, window)
        alone = prefill(q[begin : begin + length], k, v, own, 0.2)
        assert alone is not None
        assert alone.equal(got[begin : begin + length])


@pytest.mark.parametrize("kind", [name for name in FORMATS if format_of(name).kernel is not None])
@given(outputs=st.integers(1, 140), inputs=st.integers(1, 140))
@settings(max_examples=20, deadline=None)
def test_packing_keeps_every_weight_within_half_a_step(kind, outputs, inputs):
    weight = drawn(outputs, inputs, seed=outputs)
    found = weight_of(pack(weight, kind))
    parts = F.pad(weight, (0, -inputs % GROUP)).unflatten(1, (-1, GROUP))
    if kind == "int4":
        step = 2 * parts.abs().amax(-1, keepdim=True) / 8  # on Q4_0's grid the other end may be one step away
    else:
        step = (parts.abs().amax(-1, keepdim=True) if kind == "int8g" else weight.abs().amax(1)[:, None, None]) / 127
    bound = weight.abs() * 2**-8 if kind == "bf16" else (step * 0.52).expand_as(parts).flatten(1)[:, :inputs] + 1e-3
    assert ((found - weight).abs() <= bound).all()


def test_weights_that_lie_on_a_grid_of_four_bits_are_kept():
    codes = torch.randint(0, 16, (64, 96), generator=torch.Generator().manual_seed(0)).float()
    scale = drawn(64, 3, seed=1).abs().half().float().repeat_interleave(32, 1)
    codes[:, ::32], codes[:, 1::32] = 0, 15
    for weight in ((codes - 8) * scale, codes * scale - 1.5):  # Q4_0's and Q4_1's
        close(weight_of(pack(weight, "int4")), weight, 1e-3)


def test_weights_that_cannot_be_coded_are_refused():
    with pytest.raises(InvalidInput, match="not all finite"):
        pack(torch.full((4, 4), torch.inf), "int8")
    with pytest.raises(InvalidInput, match="half precision"):
        pack(torch.full((4, 4), 1e30), "int4")
    with pytest.raises(UnsupportedOption, match="int3"):
        pack(torch.ones(4, 4), "int3")


def test_an_unknown_level_is_refused():
    with pytest.raises(UnsupportedOption, match="avx9"):
        native.level("avx9")
    assert native.level() == BEST


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5), width=st.integers(1, 3000), count=st.integers(1, 9), bans=st.integers(0, 4),
    normal=st.booleans(), half=st.booleans(), hidden=st.booleans(), seed=st.integers(0, 999),
    where=st.sampled_from(LEVELS),
)  # fmt: skip
def test_the_highest_are_those_that_sorting_gives(rows, width, count, bans, normal, half, hidden, seed, where):
    count = min(count, width)
    scores = drawn(rows, width, seed=seed, scale=4.0).to(torch.bfloat16 if half else torch.float32)
    if hidden:
        scores[:, ::2] = -torch.inf
    banned = torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:bans].tolist()
    native.level(where)
    try:
        values, places = CpuBackend().top_k(scores, count, banned, normal)
    finally:
        native.level(BEST)
    expected = scores.float().log_softmax(-1) if normal else scores.float()
    expected[:, banned] = -torch.inf
    wanted = expected.sort(descending=True).values[:, :count]
    assert torch.allclose(
        values.nan_to_num(nan=-torch.inf, neginf=-torch.inf),
        wanted.nan_to_num(nan=-torch.inf, neginf=-torch.inf),
        rtol=1e-5,
        atol=1e-4,
    )
    there = values > -torch.inf
    assert torch.allclose(expected.gather(1, places)[there], values[there], rtol=1e-5, atol=1e-4)
    assert all(len(set(p[t].tolist())) == int(t.sum()) for p, t in zip(places, there, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wrong", [torch.nan, -torch.nan, torch.inf])
def test_a_row_with_what_is_no_number_has_no_highest(wrong, dtype):
    for name, place in ((name, place) for name in LEVELS for place in (0, 77, 447, 499)):
        native.level(name)
        scores = drawn(2, 500).to(dtype)
        scores[1, place] = wrong
        values, _ = CpuBackend().top_k(scores, 3, [], False)
        native.level(BEST)
        assert torch.equal(values[0], scores[0].float().topk(3).values)
        assert not (values[1] < torch.inf).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70_000), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.booleans(), st.integers(0, 2**62))
def test_dropout_is_the_same_at_every_level_and_for_any_number_of_threads(count, p, half, seed):
    x = drawn(count).to(torch.bfloat16 if half else torch.float32)
    found = []
    for name, threads in ((name, threads) for name in LEVELS for threads in (1, 2)):
        native.level(name)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        found.append(SeededDropout.apply(x, p, seed))
        torch.set_num_threads(before)
    native.level(BEST)
    assert all(torch.equal(found[0], other) for other in found)
    kept = (found[0] != 0) | (x == 0)
    if kept.any():
        close(found[0][kept].float(), x[kept].float() / (1 - p), 0.01 if half else 1e-6)
    assert abs(float(kept.float().mean()) - (1 - p)) < 5 * (p * (1 - p) / count) ** 0.5 + 1e-6
    assert not (p and count > 1000) or not torch.equal(found[0], SeededDropout.apply(x, p, seed + 1))


@pytest.mark.parametrize("width", [1, 16, 37, 384])
def test_adam_on_rows_is_torchs_on_those_rows(level, width):
    table, rows = drawn(50, width), torch.tensor([0, 7, 8, 31, 49])
    first, second = drawn(50, width, seed=1), drawn(50, width, seed=2).abs()
    gradient = drawn(5, width, seed=3)
    wanted = [x.clone() for x in (table, first, second)]
    own = [x[rows] for x in wanted]
    torch._fused_adamw_(
        [own[0]], [gradient], [own[1]], [own[2]], [], [torch.tensor(9.0)], lr=0.01, beta1=0.9, beta2=0.95,
        weight_decay=0.0, eps=1e-6, amsgrad=False, maximize=False,
    )  # fmt: skip
    for x, new in zip(wanted, own, strict=True):
        x[rows] = new
    CpuBackend().adam_rows(table, first, second, gradient, rows, 9.0, {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-6})
    for x, expected in zip((table, first, second), wanted, strict=True):
        close(x, expected, 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_blocks_of_files_become_the_same_numbers_as_in_torch(level, kind, dtype, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    row = BLOCK_TYPES[kind]
    # all bytes, so that codes and scales have every value, infinite ones and NaN too
    stored = torch.randint(0, 256, (2, 3, 5 * row.size), dtype=torch.uint8, generator=generator)
    got = BlockTensor(stored, row).numbers(dtype)
    assert got.shape == (2, 3, 5 * row.length)
    assert got.dtype == dtype
    monkeypatch.setattr(native, "library", lambda: None)
    expected = BlockTensor(stored, row).numbers(dtype)
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.nan_to_num(), expected.nan_to_num())
