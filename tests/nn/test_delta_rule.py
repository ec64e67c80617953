"""The chunks of the gated delta rule against its definition, one token after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multihead.kernels.ragged import SequenceLayout
from multihead.nn.delta_rule import Chunks, delta_chunks, delta_step, unit

LENGTHS = ((130, 0, 65, 64, 1, 63), (1, 1), (3,), (0,), (64, 64))
HEADS, KEY_HEADS, KEY, VALUE = 4, 2, 5, 7


def inputs(lengths: tuple[int, ...], by_channel: bool) -> list[Tensor]:
    torch.manual_seed(0)
    tokens = sum(lengths)
    key_heads, shape = (HEADS, (HEADS, KEY)) if by_channel else (KEY_HEADS, (HEADS,))
    q, k = (unit(torch.randn(tokens, key_heads, KEY, dtype=torch.float64)) for _ in range(2))
    v = torch.randn(tokens, HEADS, VALUE, dtype=torch.float64)
    decay = -torch.rand(tokens, *shape, dtype=torch.float64) * 3
    beta = torch.rand(tokens, HEADS, dtype=torch.float64) * 2
    state = torch.randn(len(lengths), HEADS, KEY, VALUE, dtype=torch.float64)
    return [x.requires_grad_() for x in (q, k, v, decay, beta, state)]


def by_steps(lengths: tuple[int, ...], q, k, v, decay, beta, state) -> tuple[Tensor, Tensor]:
    outputs, states, row = [v[:0]], [], 0
    for text, length in enumerate(lengths):
        one = state[text : text + 1]
        for at in range(row, row + length):
            here = slice(at, at + 1)
            y, one = delta_step(q[here], k[here], v[here], decay[here], beta[here], one)
            outputs.append(y)
        states.append(one)
        row += length
    return torch.cat(outputs), torch.cat(states)


@pytest.mark.parametrize("by_channel", [False, True], ids=["a decay a head", "a decay a channel"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_chunks_equal_steps_and_so_do_their_gradients(lengths, by_channel):
    runs, given = SequenceLayout.packed(lengths), inputs(lengths, by_channel)
    chunks = Chunks.of(runs, 16 if by_channel else 64, torch.device("cpu"))
    results = [delta_chunks(*given, chunks), by_steps(lengths, *given)]
    weights = [torch.randn_like(x) for x in results[0]]
    grads = [torch.autograd.grad(sum((x * w).sum() for x, w in zip(result, weights, strict=True)), given,
                                 materialize_grads=True, allow_unused=True) for result in results]  # fmt: skip
    for got, expected in zip((*results[0], *grads[0]), (*results[1], *grads[1]), strict=True):
        torch.testing.assert_close(got, expected)


def test_a_decay_that_forgets_everything_gives_no_nan():
    given = inputs((70,), by_channel=False)
    given[3] = torch.full((70, HEADS), -1e4, dtype=torch.float64, requires_grad=True)
    chunks = Chunks.of(SequenceLayout.packed((70,)), 64, torch.device("cpu"))
    for x in torch.autograd.grad(delta_chunks(*given, chunks)[0].sum(), given):
        assert x.isfinite().all()
