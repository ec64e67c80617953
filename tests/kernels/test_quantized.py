"""Quantization formats: how near their weights are, what packing keeps, and products with them."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import pytest
import torch

from multihead.errors import InvalidInput, UnsupportedOption
from multihead.kernels.quantization import base, nf4
from multihead.kernels.quantization.base import empty_packed, format_of, pack, stack_rows
from multihead.kernels.quantization.matmul import dequantized_linear
from multihead.kernels.quantization.nf4 import VALUES
from multihead.kernels.quantization.panels import from_panels, interleave, to_panels
from multihead.kernels.quantization.registry import FORMATS, PRECISIONS

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
    torch.testing.assert_close(torch.tensor(VALUES, dtype=torch.float64), values / values.max(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_near_by_half_a_step_of_its_row(shape):
    w, int8 = weight(*shape), format_of("int8")
    matrix = int8.encode(w)
    assert matrix.codes.dtype == torch.int8
    error = (int8.dequantize(matrix, shape) - w).abs()
    assert (error <= w.abs().amax(1, keepdim=True) / 254 * 1.001).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_nf4_takes_the_nearest_value_of_its_block(shape):
    w = weight(*shape)
    matrix = format_of("nf4").encode(w)
    assert matrix.codes.dtype == torch.uint8
    assert matrix.codes.numel() == 32 * -(-w.numel() // 64)
    found = format_of("nf4").dequantize(matrix, shape).flatten()
    for block, result in zip(w.flatten().split(64), found.split(64), strict=True):
        levels = torch.tensor(VALUES) * block.abs().max()
        nearest = levels[(block[:, None] - levels).abs().argmin(1)]
        torch.testing.assert_close(result, nearest)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_packing_keeps_what_was_quantized(name, shape):
    w, format = weight(*shape), format_of(name)
    packed = pack(w, name)
    assert packed.shape == shape
    assert packed.format is format
    torch.testing.assert_close(format.weight(packed), format.dequantize(format.encode(w), shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_matrix_without_memory_is_laid_out_as_one_with(name, shape):
    """A file with prepared weights is read into such a matrix."""

    def layout(packed):
        return [x if x is None else (x.shape, x.dtype) for x in (packed.codes, packed.scales, packed.minima)]

    empty = empty_packed(name, shape)
    assert empty.codes.is_meta
    assert layout(empty) == layout(pack(weight(*shape), name))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("join", [stack_rows, interleave])
def test_parts_of_a_product_are_quantized_as_they_are_alone(name, join):
    gate, up = weight(40, 64), weight(40, 64) * 3
    found = format_of(name).weight(pack([gate, up], name, join))
    alone = join(*(format_of(name).weight(pack(x, name)) for x in (gate, up)))
    torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_quantizing_twice_changes_nothing(name):
    format = format_of(name)
    once = format.dequantize(format.encode(weight(16, 24)), (16, 24))
    torch.testing.assert_close(format.dequantize(format.encode(once), (16, 24)), once, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", FORMATS)
def test_slices_do_not_show(name, monkeypatch):
    format = format_of(name)
    whole = format.encode(weight(32, 40))
    expected = format.dequantize(whole, (32, 40), torch.bfloat16)
    monkeypatch.setattr(nf4, "SLICE", 3)
    monkeypatch.setattr(base, "SLICE", 3 * 40)
    again = format.encode(weight(32, 40))
    assert all(
        one is None if one is other else torch.equal(one, other) for one, other in zip(whole, again, strict=True)
    )
    assert torch.equal(format.dequantize(again, (32, 40), torch.bfloat16), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_of_zeros_stays_zero(name):
    format = format_of(name)
    assert not format.dequantize(format.encode(torch.zeros(2, 64)), (2, 64)).any()


@pytest.mark.parametrize("name", FORMATS)
def test_a_product_and_its_gradients_are_those_of_the_decoded_weight(name):
    format = format_of(name)
    matrix = format.encode(weight(16, 24))
    w = format.dequantize(matrix, (16, 24))
    x, bias = weight(5, 24).requires_grad_(), weight(16).requires_grad_()
    out = dequantized_linear(x, format, matrix, (16, 24), bias)
    torch.testing.assert_close(out, x @ w.T + bias)
    out.sin().sum().backward()
    found = x.grad, bias.grad
    x.grad = bias.grad = None
    (x @ w.T + bias).sin().sum().backward()
    torch.testing.assert_close(found, (x.grad, bias.grad), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_the_graph_keeps_codes_alone(name):
    matrix = format_of(name).encode(weight(64, 64))
    x = weight(2, 64).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        dequantized_linear(x, format_of(name), matrix, (64, 64))
    assert {t.data_ptr() for t in kept} <= {t.data_ptr() for t in matrix if t is not None}


@pytest.mark.parametrize("name", FORMATS)
def test_autocast_decides_the_precision(name):
    matrix = format_of(name).encode(weight(16, 24))
    x = weight(5, 24).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = dequantized_linear(x, format_of(name), matrix, (16, 24))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad.dtype == torch.float32


def test_other_formats_and_other_numbers_are_refused():
    with pytest.raises(UnsupportedOption, match="'int3' is none of bf16, int8"):
        format_of("int3")
    for name in FORMATS:
        if name != "bf16":  # which holds infinity
            with pytest.raises(InvalidInput, match="not all finite"):
                format_of(name).encode(torch.tensor([[1.0, math.inf]]))


def test_precisions_name_formats_that_there_are():
    for row in PRECISIONS.values():
        for name in (row.weights, row.head):
            assert name in (None, "file", *FORMATS)
    assert [pickle.loads(pickle.dumps(format_of(name))) for name in FORMATS] == [format_of(name) for name in FORMATS]


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_a_prepared_model_imports_no_compiler(precision, saved, bert, tmp_path):
    """Some operations on the meta device import torch's compiler, which takes a second of the first forward pass."""
    code = f"""if True:
        import sys, torch, multihead
        model = multihead.AutoModelForMaskedLM.from_pretrained({str(bert)!r}, precision={precision!r})
        if {saved}:
            model.save_pretrained({str(tmp_path)!r})
            model = multihead.AutoModelForMaskedLM.from_pretrained({str(tmp_path)!r})
        model(torch.tensor([[5, 6]]))
        print("torch._dynamo" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("begin", [0, 1, 2])
@pytest.mark.parametrize(("dtype", "depth"), [(torch.bfloat16, 2), (torch.uint8, 4)])
def test_panels_of_a_matrix_at_any_place_in_memory(begin: int, dtype: torch.dtype, depth: int) -> None:
    stored = torch.randint(0, 200, (128 * 64 + 2,)).to(dtype)
    x = stored[begin : begin + 128 * 64].view(128, 64)
    packed = to_panels(x, 32, depth)
    # (panels, steps, outputs of a panel, inputs of a step)
    assert torch.equal(packed.view(2, 64 // depth, 64, depth)[1, 3, 5], x[69, 3 * depth : 4 * depth])
    assert torch.equal(from_panels(packed, 64, 32, depth), x)
