"""Prepared models of every family: joining steps changes nothing, and packing no more than its rounding does.

Joining is tested with weights that are held exactly; what packed codes compute is tested in tests/kernels.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from multihead.errors import InvalidInput
from multihead.kernels.cpu import native
from multihead.kernels.quantization.base import QuantizationFormat
from multihead.kernels.quantization.coded_tensor import QuantizedMatrix
from multihead.kernels.quantization.int8 import Int8
from multihead.nn.own_names import own_parameters
from multihead.runtime.fused_linear_cpu import FusedLinear
from multihead.runtime.prepare import products

from .case import Case, batch, ours, writes
from .cases import PAIRS
from .test_families import close

FIRST = [(case, end) for n, (case, end) in enumerate(PAIRS) if n == 0 or PAIRS[n - 1][0] is not case]
TALKERS = [(case, end) for case, end in PAIRS if writes(case, end)]
CHOSEN = [pair for pair in dict.fromkeys([*FIRST, *TALKERS]) if pair[0].made.model_type != "squeezebert"]

FIRST_PACKED = [
    next(pair for pair in reversed(CHOSEN) if pair[0] is case) for case in dict.fromkeys(c for c, _ in CHOSEN)
]


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of the weights as they are, in torch."""

    monkeypatch.setattr(Int8, "code_dtype", torch.float32)
    monkeypatch.setattr(Int8, "quantize", lambda self, weight: QuantizedMatrix(weight.contiguous()))
    monkeypatch.setattr(Int8, "dequantize", lambda self, matrix, shape, dtype=torch.float32: matrix.codes)
    for name in ("pack", "unpack", "round_inputs"):
        monkeypatch.setattr(Int8, name, getattr(QuantizationFormat, name))
    monkeypatch.setattr(native, "library", lambda: None)


def outputs(model: Any, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {k: v for k, v in model(**inputs).items() if isinstance(v, torch.Tensor) and k != "loss"}


@pytest.mark.parametrize(("case", "end"), CHOSEN, ids=[f"{case.name}/{end}" for case, end in CHOSEN])
def test_joined_steps_give_what_separate_ones_give(folders, exact, case: Case, end: str):
    _, path = folders(case, end)
    model, inputs = ours(case, end, path), batch(case, end)
    expected = outputs(model, inputs)
    # a head may carry weights that are saved again, and computes nothing with them
    count = sum(p.numel() for name, p in own_parameters(model) if ".carried." not in name)
    model.prepare("int8", dtype=torch.float32)
    assert any(products(model)), "nothing was packed"
    assert model.num_parameters() >= count, "parameters went missing"
    for name, value in outputs(model, inputs).items():
        close(value, expected[name], name, max(case.tolerance, 1e-5))


@pytest.mark.parametrize(("case", "end"), FIRST_PACKED, ids=[case.name for case, _ in FIRST_PACKED])
def test_packed_models_run_in_states_of_half_precision(folders, case: Case, end: str):
    model = ours(case, end, folders(case, end)[1]).prepare("int8", dtype=torch.bfloat16)
    assert all(x.isfinite().all() for x in outputs(model, batch(case, end)).values() if x.is_floating_point())
    if model.can_generate():
        model.generate([[5, 6, 7, 8]], max_new_tokens=5, do_sample=False)


def test_a_model_without_linear_layers_says_so(folders):
    case, end = next((case, end) for case, end in PAIRS if case.made.model_type == "squeezebert")
    with pytest.raises(InvalidInput, match="no linear layers"):
        ours(case, end, folders(case, end)[1]).prepare("int8")


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_most_of_a_layer_is_joined(folders, kind):
    case, end = next((case, end) for case, end in PAIRS if case.made.model_type == kind)
    model = ours(case, end, folders(case, end)[1]).prepare("bf16")
    layer = model.backbone.layers[0]
    assert sum(isinstance(part, FusedLinear) for part in layer.modules()) == 4
    assert not [name for name, _ in own_parameters(layer)], "norms are part of the products"
