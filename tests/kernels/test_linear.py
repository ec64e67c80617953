"""However a product is computed, it is the same product."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from multihead.errors import UnsupportedOption
from multihead.kernels.cpu import linear as weights
from multihead.kernels.cpu import native
from multihead.kernels.ops import linear
from multihead.kernels.torch.backend import TorchBackend

LEVELS = ("plain", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx", "amx_emulated")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("inputs", "outputs"), [(24, 40), (1100, 40), (24, 9000), (24, 8192)])
@pytest.mark.parametrize("bias", [False, True])
def test_every_number_of_rows_gives_the_product(dtype, inputs, outputs, bias):
    torch.manual_seed(0)
    weight, added = torch.randn(outputs, inputs).to(dtype), torch.randn(outputs).to(dtype) if bias else None
    for rows in (0, 1, 2, 3, 8, 12, 15, 16, 17, 32, 33, 40):
        x = torch.randn(rows, inputs).to(dtype)
        with torch.inference_mode():
            got = linear(x, weight, added)
        expected = F.linear(x.double(), weight.double(), None if added is None else added.double())
        assert got.is_contiguous()
        assert got.dtype == dtype
        near = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float64: 1e-9}[dtype]
        torch.testing.assert_close(got.double(), expected, rtol=near, atol=near * inputs**0.5)


def test_gradients_flow():
    x, weight = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.detach().sum(0).expand(4, 3))


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    best = native.level()
    if best is None:
        pytest.skip(f"no C++ kernels: {native.why_not()}")
    try:
        native.level(request.param)
    except UnsupportedOption:
        pytest.skip("this processor has not these instructions")
    monkeypatch.setattr(weights, "ROWS", dict.fromkeys(LEVELS, (64, 64)))
    yield request.param
    native.level(best)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(5, 3), (33, 18), (100, 70), (576, 130), (3001, 33)])
def test_a_weight_as_it_is_stored_gives_the_product(level, dtype, inputs, outputs, columns, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(TorchBackend, "linear", lambda *args: pytest.fail("computed by torch"))
    weight, bias = torch.randn(outputs, inputs).to(dtype), torch.randn(outputs).to(dtype)
    if columns:
        weight = torch.cat([weight, weight]).t().contiguous().t()[:outputs]  # part of a matrix (inputs, outputs)
    for rows in (1, 2, 3, 4, 5, 6, 7, 8):
        x = torch.randn(rows, inputs + 7).to(dtype)[:, 3 : 3 + inputs]  # rows of a wider tensor
        with torch.inference_mode():
            got = linear(x, weight, bias)
        expected = x.double() @ weight.double().t() + bias.double()
        near = 5e-6 if dtype is torch.float32 else 8e-3
        assert (got.double() - expected).abs().max() <= near * expected.abs().max()


def test_what_the_kernels_do_not_read_is_torchs(monkeypatch):
    if native.library() is None:
        pytest.skip(f"no C++ kernels: {native.why_not()}")
    seen, own = [], TorchBackend.linear
    monkeypatch.setattr(TorchBackend, "linear", lambda *args: seen.append(1) or own(*args))
    x, weight = torch.randn(2, 8), torch.randn(4, 8)
    with torch.inference_mode():
        linear(torch.randn(9, 8), torch.randn(8, 4).t())  # more rows than are quicker so
        linear(x, torch.randn(4, 16)[:, ::2])
        linear(x.t().contiguous().t(), weight)
        linear(x.double(), weight.double())
        linear(x.half(), weight.half())
        linear(x[:0], weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(x, weight).dtype is torch.bfloat16
        with pytest.raises(RuntimeError):
            linear(x, torch.randn(4, 9))
        with pytest.raises(RuntimeError):
            linear(x, weight.bfloat16())
    assert len(seen) == 9
