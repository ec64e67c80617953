"""Moving rows into a grid and out of it: the gradients are those of plain indexing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.kernels.ops import fused_attention
from multihead.kernels.ragged import AttentionMask, SequenceLayout
from multihead.kernels.torch.attention import attend
from multihead.kernels.torch.pad_rows import pad_rows, unique_rows

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)


def test_rows_at_their_cells_have_the_gradients_of_indexing():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    index, rows, cells = torch.tensor([2, 3, 0, 4, 0, 0]), torch.tensor([2, 3, 4]), torch.tensor([0, 1, 3])
    weight = torch.randn(6, 3, dtype=torch.float64)
    weight[[2, 4, 5]] = 0  # nothing depends on cells without a row of their own
    (pad_rows(x, index, rows, cells) * weight).sum().backward()
    found, x.grad = x.grad, None
    (x[index] * weight).sum().backward()
    assert torch.equal(found, x.grad)


def test_different_rows_have_the_gradients_of_indexing():
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: unique_rows(x, torch.tensor([4, 0, 3])), (x,))


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, causal=st.booleans(), groups=st.sampled_from([1, 2]))
def test_gradients_of_attention_are_the_definitions(lengths, causal, groups):
    torch.manual_seed(sum(lengths))
    total = sum(lengths)
    q = torch.randn(total, 4, 6, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(total, 4 // groups, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight, found = torch.randn(total, 4, 6, dtype=torch.float64), []
    for way in (attend, fused_attention):
        attention_mask = AttentionMask(SequenceLayout.packed(lengths), SequenceLayout.packed(lengths), causal)
        (way(q, k, v, attention_mask, scale=0.4) * weight).sum().backward()
        found.append([x.grad.clone() for x in (q, k, v)])
        for x in (q, k, v):
            x.grad = None
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-6)  # the definition's softmax is in float32


def test_half_precision_learns_with_gradients_near_those_of_float32():
    torch.manual_seed(0)
    lengths = (7, 4, 12)
    start = [torch.randn(sum(lengths), 2, 8) for _ in range(3)]
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (x.to(dtype, copy=True).requires_grad_() for x in start)
        attention_mask = AttentionMask(SequenceLayout.packed(lengths), SequenceLayout.packed(lengths))
        out = fused_attention(q, k, v, attention_mask, scale=0.35)
        assert out.dtype == dtype
        out.float().square().sum().backward()
        found.append([x.grad.float() for x in (q, k, v)])
    for one, other in zip(*found, strict=True):
        assert float((one - other).abs().max()) < 0.03 * float(one.abs().max())


@pytest.mark.parametrize("together", [(1, 1, 1), (5, 5, 5), (1, 40, 2)])
def test_a_pass_of_any_shape_gives_a_gradient_to_each_row(together):
    q = torch.randn(sum(together), 2, 4, requires_grad=True)
    attention_mask = AttentionMask(SequenceLayout.packed(together), SequenceLayout.packed(together))
    fused_attention(q, q, q, attention_mask, scale=0.5).square().sum().backward()
    assert bool((q.grad.abs().sum((1, 2)) > 0).all())
