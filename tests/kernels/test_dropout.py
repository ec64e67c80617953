"""Dropout: the right share is zero, the rest is scaled, a seed says which, and gradients go where numbers went."""

from __future__ import annotations

import pytest
import torch

from multihead.kernels.ops import dropout, fused_attention
from multihead.kernels.ragged import AttentionMask, SequenceLayout
from multihead.kernels.torch.attention import attend


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_share_is_zero_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    x = torch.ones(400_003, dtype=dtype)
    out = dropout(x, p)
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    assert float(out.float().mean()) == pytest.approx(1.0, abs=0.02)
    zero, kept = out.unique().tolist()  # the probability has 65,536 levels
    assert zero == 0.0
    assert kept == pytest.approx(1 / (1 - p), rel=1e-3 if dtype == torch.float32 else 1e-2)


def test_neighbours_are_drawn_apart():
    torch.manual_seed(1)
    dropped = (dropout(torch.ones(400_000), 0.5) == 0).float() - 0.5
    for gap in (1, 2, 3, 4, 8):
        assert abs(float((dropped[gap:] * dropped[:-gap]).mean())) < 0.002


def test_a_seed_draws_the_same_and_all_or_nothing_are_exact():
    x = torch.randn(3, 7)
    torch.manual_seed(2)
    one = dropout(x, 0.3)
    torch.manual_seed(2)
    assert torch.equal(one, dropout(x, 0.3))
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 1.0), torch.zeros_like(x))
    assert dropout(torch.empty(0, 4), 0.3).shape == (0, 4)


def test_gradients_go_where_numbers_went():
    x = torch.randn(50, requires_grad=True)
    out = dropout(x, 0.4)
    out.sum().backward()
    assert torch.equal(x.grad == 0, out == 0)
    assert torch.allclose(x.grad * x, out)


def test_gradients_of_gradients_go_there_too():
    x = torch.randn(50, requires_grad=True)
    out = dropout(x, 0.4)
    (first,) = torch.autograd.grad((out**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    kept = (out != 0).float() / 0.6
    assert torch.allclose(second, 6 * x * kept**3, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_with_dropout_is_without_it_in_the_mean(causal):
    torch.manual_seed(3)
    lengths = (5, 3, 9)
    q, k, v = (torch.randn(sum(lengths), 2, 4) for _ in range(3))
    attention_mask = AttentionMask(SequenceLayout.packed(lengths), SequenceLayout.packed(lengths), causal)
    wanted = attend(q, k, v, attention_mask, scale=0.5)
    found = torch.stack([fused_attention(q, k, v, attention_mask, scale=0.5, dropout=0.2) for _ in range(3000)])
    assert float((found.mean(0) - wanted).abs().max()) < 0.06
    assert float(found.std(0).max()) > 0.1
