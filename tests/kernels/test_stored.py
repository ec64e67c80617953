"""Tensors in a file's blocks: their numbers, their codes, and what packing makes of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from multihead.checkpoints.gguf_blocks import BLOCK_TYPES
from multihead.errors import InvalidInput
from multihead.kernels.quantization.base import PackedWeight, pack
from multihead.kernels.quantization.block_tensor import BlockTensor
from multihead.kernels.quantization.panels import GROUP, PANEL, interleave
from multihead.kernels.quantization.registry import FILE_FORMAT, FORMATS
from tests.blocks import blocks

SAME = ("Q4_0", "Q4_1", "Q5_0", "Q8_0")  # types that lose nothing at all


def made(kind: str, rows: int = 70, columns: int = 512, seed: int = 0) -> BlockTensor:
    return BlockTensor(torch.from_numpy(blocks(kind, rows, columns, seed)), BLOCK_TYPES[kind])


def weight(packed: PackedWeight) -> torch.Tensor:
    return packed.format.weight(packed)


@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_what_a_file_has_is_kept_within_a_stated_bound(kind):
    stored = made(kind)
    found, expected = weight(pack(stored, FILE_FORMAT)), stored.numbers()
    if kind in SAME:
        assert torch.equal(found, expected)
        return
    apart = (found - expected).abs().view(70, -1, GROUP)
    largest = expected.abs().view(70, -1, GROUP).amax(-1, keepdim=True)
    if (
        kind == "Q4_K"
    ):  # scale and minimum rounded to half precision, 2^-11 of each; their sum is at most 5 of `largest`
        assert (apart <= 5 * 2**-11 * largest).all()
    else:  # half a step of 8 bits, and the scale's own rounding
        assert (apart <= largest / 254 * 1.02).all()


@pytest.mark.parametrize(("kind", "held"), [("Q4_0", "int4"), ("Q4_1", "int4"), ("Q4_K", "int4"), ("Q8_0", "int8g")])
def test_codes_are_those_of_the_file(kind, held):
    stored = made(kind)
    codes, _, minima = stored.matrix()
    found = pack(stored, held)
    both = found.codes.view(2, -1, 1, GROUP // 8, PANEL, 4) if held == "int4" else None
    flat = found.codes.view(2, -1, PANEL, 4) if both is None else torch.cat([both & 15, both >> 4], 2).flatten(1, 3)
    laid = flat.transpose(1, 2).reshape(-1, 512)[:70]
    assert torch.equal(laid.int() - (128 if held == "int8g" else 0), codes.int())
    assert (minima is None) == (found.minima is None)
    assert found.format.name == pack(stored, FILE_FORMAT).format.name == held


@pytest.mark.parametrize(
    ("kinds", "widest"),
    [
        (("Q4_K", "Q4_0"), "int4"), (("Q4_K", "Q6_K"), "int8g"), (("Q4_0", "Q5_0", "Q8_0"), "int8g"),
        (("Q4_1", "F32"), "bf16"),
    ],
)  # fmt: skip
def test_the_widest_kind_serves_all_parts_of_a_product(kinds, widest):
    parts = [torch.randn(70, 512) * 0.1 if kind == "F32" else made(kind, seed=n) for n, kind in enumerate(kinds)]
    found = pack(parts, FILE_FORMAT)
    assert found.format.name == widest
    expected = torch.cat([x.numbers() if isinstance(x, BlockTensor) else x for x in parts])
    assert found.shape == expected.shape
    assert (weight(found) - expected).abs().max() <= expected.abs().max() / 250


def test_gate_and_up_are_interleaved_in_codes_too():
    gate, up = made("Q4_K", 40), made("Q4_K", 40, seed=1)
    found = pack([gate, up], FILE_FORMAT, interleave)
    expected = interleave(*(weight(pack(x, "int4")) for x in (gate, up)))
    assert torch.equal(weight(found), expected)


def test_four_bits_of_a_file_are_not_rounded_again():
    for kind in ("Q4_0", "Q4_1"):
        stored = made(kind)
        assert torch.equal(weight(pack(stored, "int4")), stored.numbers())
    stored = made("Q4_K")
    kept, anew = (weight(pack(x, "int4")) - stored.numbers() for x in (stored, stored.numbers()))
    assert kept.square().mean() < anew.square().mean() / 100


@pytest.mark.parametrize("kind", FORMATS)
def test_other_kinds_are_rounded_from_the_numbers(kind):
    stored = made("Q6_K")
    one, other = pack(stored, kind), pack(stored.numbers(), kind)
    assert torch.equal(weight(one), weight(other))


def test_torch_computes_with_the_numbers():
    stored = made("Q5_K")
    x, expected = torch.randn(3, 512), stored.numbers()
    assert torch.equal(F.linear(x, torch.nn.Parameter(stored)), F.linear(x, expected))
    assert torch.equal(torch.cat([stored, stored])[5:80], torch.cat([expected, expected])[5:80])
    assert torch.equal(stored.to(torch.bfloat16), stored.numbers(torch.bfloat16))
    assert type(stored + 1) is torch.Tensor
    assert type(stored.detach()) is BlockTensor


def test_scales_that_are_no_numbers_are_refused():
    held = torch.from_numpy(blocks("Q8_0", 4, 64))
    held[2, :2] = torch.tensor([255, 255], dtype=torch.uint8)
    with pytest.raises(InvalidInput, match="not all finite"):
        pack(BlockTensor(held, BLOCK_TYPES["Q8_0"]), FILE_FORMAT)
