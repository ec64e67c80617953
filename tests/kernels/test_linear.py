"""However a product is computed, it is the same product."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from multihead.kernels.linear import linear


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
