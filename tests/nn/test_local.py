"""Attention in blocks equals attention over whole texts."""

from __future__ import annotations

import pytest
import torch

from multihead.kernels.ragged import SequenceLayout
from multihead.nn.attention.local import LocalAttention, TransientGlobalAttention
from multihead.nn.attention.position_bias import BucketedBias
from multihead.nn.forward_context import ForwardContext, OutputCapture
from multihead.nn.norms import RMSNorm
from multihead.nn.ragged import positions_in_sequences


def distances() -> BucketedBias:
    return BucketedBias(3, buckets=8, reach=20, causal=False)


@pytest.mark.parametrize("window", [1, 5, 200])
@pytest.mark.parametrize("block", [None, 7])
def test_blocks_give_what_whole_texts_give(window, block):
    torch.manual_seed(0)
    more = {} if block is None else {"block": block, "sums": distances(), "norm": RMSNorm(12, 1e-6)}
    kind = LocalAttention if block is None else TransientGlobalAttention
    attention = kind(12, 3, window=window, positions=distances(), scale=1.0, **more)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(0.3, 0.5)
    runs = SequenceLayout.packed((300, 0, 128, 3, 129))
    x, positions = torch.randn(sum(runs.lengths), 12), positions_in_sequences(runs, torch.device("cpu"))
    shown = OutputCapture(attentions=[])
    with torch.no_grad():
        whole = attention(x, ForwardContext(positions, runs, capture=shown), None)
        parts = attention(x, ForwardContext(positions, runs), None)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    assert [tuple(p.shape) for p in shown.attentions[0]] == [(3, n, n) for n in runs.lengths]
    far = (positions[:300, None] - positions[None, :300]).abs() >= window
    assert shown.attentions[0][0][:, far].abs().max() < 1e-12 if far.any() else True
