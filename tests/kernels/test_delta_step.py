"""A decode step of a gated DeltaNet in C++ against its definition in torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from multihead.kernels import ops
from multihead.kernels.cpu import native
from multihead.kernels.cpu.backend import CpuBackend
from multihead.kernels.ragged import SequenceLayout
from multihead.nn import gated_delta_net
from multihead.nn.cache.store import BatchCache, KVCacheManager
from multihead.nn.forward_context import ForwardContext
from multihead.nn.gated_delta_net import GatedDeltaNet

from .test_native import BEST, LEVELS

SHAPES = (  # heads, key heads, key width, value width, kernel
    (1, 1, 16, 16, 1),
    (4, 2, 16, 48, 2),
    (6, 2, 32, 112, 4),
    (3, 3, 64, 64, 3),
)


@pytest.fixture(params=LEVELS)
def level(request: Any) -> Iterator[str]:
    yield native.level(request.param) or ""
    native.level(BEST)


def mixer(shape: tuple[int, ...], dtype: torch.dtype) -> GatedDeltaNet:
    torch.manual_seed(0)
    heads, key_heads, key_width, value_width, kernel = shape
    made = GatedDeltaNet(48, heads, key_heads, key_width, value_width, kernel=kernel, norm_eps=1e-5, strength=1.5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.1, 0.3)
    return made.to(dtype).eval()


def texts(made: GatedDeltaNet, dtype: torch.dtype) -> list[torch.Tensor]:
    """Outputs of five tokens of each of three sequences, the last two in steps, with other slots than their order."""
    torch.manual_seed(1)
    store = KVCacheManager([made.memory()])
    unused = store.begin()
    sequences = [store.begin() for _ in range(3)]
    outputs = []
    for lengths in ((3, 1, 2), (1, 1, 1), (1, 1, 1)):
        cache, runs = BatchCache(store, sequences), SequenceLayout.packed(lengths)
        context = ForwardContext(torch.zeros(sum(lengths), dtype=torch.long), runs, cache=cache)
        with torch.inference_mode():
            outputs.append(made(torch.randn(sum(lengths), 48).to(dtype), context, store.layers[0]))
        cache.advance(runs)
        sequences.reverse()
    unused.free()
    return outputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_in_kernels_are_their_definition(level, shape, dtype, monkeypatch):
    made, calls = mixer(shape, dtype), []
    real = CpuBackend.delta_step

    def counted(self: Any, *given: Any) -> Any:
        calls.append(real(self, *given))
        return calls[-1]

    monkeypatch.setattr(CpuBackend, "delta_step", counted)
    got = texts(made, dtype)
    assert [call is not None for call in calls] == [True, True]
    monkeypatch.setattr(gated_delta_net, "backend", lambda x: ops.BACKENDS["torch"])
    expected = texts(made, dtype)
    for one, other in zip(got, expected, strict=True):
        tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype is torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(one, other, **tolerance)
