"""Decode steps of mixers with a state in C++ give what their layers give in torch, at every level of the processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from multihead.kernels.cpu import native
from multihead.kernels.cpu.backend import CpuBackend
from multihead.kernels.cpu.native import library
from multihead.nn.cache.store import BatchCache, KVCacheManager
from multihead.nn.forward_context import ForwardContext
from multihead.nn.gated_convolution import GatedConvolution
from multihead.nn.ragged import SequenceLayout, positions_in_sequences
from multihead.nn.state_space import Gate, GatedNorm, Mamba2

from .test_native import BEST, LEVELS, close

pytestmark = pytest.mark.skipif(library() is None, reason=f"no C++ kernels: {native.why_not()}")


@pytest.fixture(params=LEVELS)
def level(request: Any) -> Iterator[str]:
    yield native.level(request.param) or ""
    native.level(BEST)


def mamba(gate: nn.Module, **options: Any) -> nn.Module:
    return Mamba2(20, 6, 5, 32, 3, kernel=4, gate=gate, **options)


MIXERS: dict[str, Any] = {
    "mamba": lambda: mamba(GatedNorm(30, 3, 1e-5)),
    "mamba-norm-first": lambda: mamba(GatedNorm(30, 1, 1e-5, after=True), conv_bias=False, limits=(0.3, 0.9)),
    "mamba-gate-gelu": lambda: mamba(Gate(), act="gelu", scales=(1.1, 0.9, 1.2, 0.8, 1.0, 0.7)),
    "convolution": lambda: GatedConvolution(37, 3),
    "convolution-biased": lambda: GatedConvolution(16, 1, bias=True),
}


def texts(mixer: nn.Module, dtype: torch.dtype, kernels: bool) -> list[torch.Tensor]:
    """Read three texts, the second of which begins later, then forked and continued one token at a time."""
    memory, calls = mixer.memory(), []
    store = KVCacheManager([memory])
    sequences = [store.begin() for _ in range(3)]

    def run(batch: list[int], lengths: tuple[int, ...], seed: int) -> None:
        held, runs = [sequences[i] for i in batch], SequenceLayout.packed(lengths)
        width = mixer.out.weight.shape[0]
        x = torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(seed)).to(dtype)
        cache = BatchCache(store, held)
        places = positions_in_sequences(runs, x.device, tuple(one.length for one in held))
        context = ForwardContext(places, runs, cache=cache)
        calls.append(mixer(x, context, memory))
        cache.advance(runs)

    off = mock.Mock(return_value=None)
    patched = {} if kernels else {"mamba_step": off, "convolution_step": off}
    with torch.inference_mode(), mock.patch.multiple(CpuBackend, **patched) if patched else mock.MagicMock():
        run([0, 2], (5, 3), 1)
        run([2, 0], (1, 1), 2)
        run([0, 1, 2], (1, 1, 1), 3)  # the second has no state yet
        sequences.append(sequences[2].fork())
        for seed in range(4, 8):
            run([3, 1, 0], (1, 1, 1), seed)
        sequences[2].free()
        sequences[2] = store.begin()  # its slot has held another text
        run([2, 1], (1, 1), 9)
        run([2, 1], (1, 1), 10)
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MIXERS)
def test_steps_of_a_mixer_equal_its_definition(level: str, name: str, dtype: torch.dtype) -> None:
    mixer = MIXERS[name]()
    with torch.no_grad():
        for i, (_, parameter) in enumerate(sorted(mixer.named_parameters())):
            parameter.normal_(0.1, 0.4, generator=torch.Generator().manual_seed(i))
    mixer.to(dtype)
    kind = "mamba_step" if isinstance(mixer, Mamba2) else "convolution_step"
    with mock.patch.object(CpuBackend, kind, wraps=getattr(CpuBackend, kind)) as counted:
        got = texts(mixer, dtype, kernels=True)
    assert counted.call_count == 6  # of the eight decode steps, those whose texts all have states
    expected = texts(mixer, dtype, kernels=False)
    for one, other in zip(got, expected, strict=True):
        close(one, other, 3e-6 if dtype is torch.float32 else 2e-2)


@pytest.mark.parametrize("name", ["mamba", "convolution"])
def test_changed_weights_hooks_and_gradients_are_seen(name: str) -> None:
    mixer = MIXERS[name]()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_(0.1, 0.4)
    before = texts(mixer, torch.float32, kernels=True)
    with torch.no_grad():
        mixer.convolution.weight.mul_(2.0)
    after = texts(mixer, torch.float32, kernels=True)
    close(after[-1], texts(mixer, torch.float32, kernels=False)[-1], 3e-6)
    assert not torch.allclose(before[-1], after[-1])
    hook = mixer.convolution.register_forward_hook(lambda module, given, result: result * 0)
    assert not torch.allclose(texts(mixer, torch.float32, kernels=True)[-1], after[-1])
    hook.remove()
