"""Weights in 8 and 4 bits: how near they are, and products with them."""

from __future__ import annotations

import math

import pytest
import torch

from multihead.errors import InvalidInput, UnsupportedOption
from multihead.kernels import quantized
from multihead.kernels.quantized import NF4, dequantize, product, quantize

SHAPES = [(3, 5), (16, 24), (64, 64), (7, 129)]


def weight(*shape):
    torch.manual_seed(0)
    return torch.randn(shape)


def test_the_code_book_is_the_normal_distributions_quantiles():
    """QLoRA, section 3: 8 positive and 7 negative quantiles and zero, over the largest."""

    def quantiles(count):
        p = torch.linspace(0.9677083, 0.5, count, dtype=torch.float64)[:-1]
        return math.sqrt(2) * torch.erfinv(2 * p - 1)

    values = torch.cat([quantiles(9), torch.zeros(1, dtype=torch.float64), -quantiles(8)]).sort().values
    torch.testing.assert_close(torch.tensor(NF4, dtype=torch.float64), values / values.max(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_near_by_half_a_step_of_its_row(shape):
    w = weight(*shape)
    codes, scales = quantize(w, "int8")
    assert codes.dtype == torch.int8
    error = (dequantize(codes, scales, shape, torch.float32) - w).abs()
    assert (error <= w.abs().amax(1, keepdim=True) / 254 * 1.001).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_takes_the_nearest_value_of_its_block(shape):
    w = weight(*shape)
    codes, scales = quantize(w, "int4")
    assert codes.dtype == torch.uint8
    assert codes.numel() == 32 * -(-w.numel() // 64)
    found = dequantize(codes, scales, shape, torch.float32).flatten()
    for block, result in zip(w.flatten().split(64), found.split(64), strict=True):
        levels = torch.tensor(NF4) * block.abs().max()
        nearest = levels[(block[:, None] - levels).abs().argmin(1)]
        torch.testing.assert_close(result, nearest)


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_what_codes_can_say_comes_back_exactly(kind):
    codes, scales = quantize(weight(16, 24), kind)
    once = dequantize(codes, scales, (16, 24), torch.float32)
    again, _ = quantize(once, kind)
    assert torch.equal(codes, again)


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_slices_do_not_show(kind, monkeypatch):
    codes, scales = quantize(weight(32, 40), kind)
    whole = dequantize(codes, scales, (32, 40), torch.bfloat16)
    monkeypatch.setattr(quantized, "SLICE", 3)
    again, more = quantize(weight(32, 40), kind)
    assert torch.equal(codes, again)
    assert torch.equal(scales, more)
    assert torch.equal(dequantize(codes, scales, (32, 40), torch.bfloat16), whole)


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_a_row_of_zeros_stays_zero(kind):
    codes, scales = quantize(torch.zeros(2, 64), kind)
    assert not dequantize(codes, scales, (2, 64), torch.float32).any()


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_a_product_and_its_gradients_are_those_of_the_decoded_weight(kind):
    codes, scales = quantize(weight(16, 24), kind)
    w = dequantize(codes, scales, (16, 24), torch.float32)
    x, bias = weight(5, 24).requires_grad_(), weight(16).requires_grad_()
    out = product(x, codes, scales, (16, 24), bias)
    torch.testing.assert_close(out, x @ w.T + bias)
    out.sin().sum().backward()
    found = x.grad, bias.grad
    x.grad = bias.grad = None
    (x @ w.T + bias).sin().sum().backward()
    torch.testing.assert_close(found, (x.grad, bias.grad), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_the_graph_keeps_codes_alone(kind):
    codes, scales = quantize(weight(64, 64), kind)
    x = weight(2, 64).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        product(x, codes, scales, (64, 64))
    assert {t.data_ptr() for t in kept} <= {codes.data_ptr(), scales.data_ptr()}


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_autocast_decides_the_precision(kind):
    codes, scales = quantize(weight(16, 24), kind)
    x = weight(5, 24).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = product(x, codes, scales, (16, 24))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad.dtype == torch.float32


def test_other_kinds_and_other_numbers_are_refused():
    with pytest.raises(UnsupportedOption, match="int8 or int4, not 'int3'"):
        quantize(weight(2, 2), "int3")
    for kind in quantized.KINDS:
        with pytest.raises(InvalidInput, match="not all finite"):
            quantize(torch.tensor([[1.0, math.inf]]), kind)
