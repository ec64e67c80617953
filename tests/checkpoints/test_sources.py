"""Whatever way a parameter is stored, writing and reading it gives it back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from multihead.checkpoints.gguf_blocks import BLOCK_TYPES
from multihead.checkpoints.key_map import KeyMap
from multihead.checkpoints.tensor_sources import (
    Flat,
    Interleaved,
    Part,
    PerHead,
    Shaped,
    Slice,
    Source,
    Stacked,
    Transposed,
)
from multihead.errors import CheckpointMismatch
from multihead.kernels.quantization.block_tensor import BlockTensor
from multihead.models.common.gguf import Shifted
from tests.blocks import blocks


class Holder(nn.Module):
    """Parameters `a`, `b`, ... of these shapes."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in zip("abcdef", shapes, strict=False):
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))


@pytest.mark.parametrize(
    ("shapes", "rows", "stored"),
    [
        ([(3, 5)], {"a": Transposed("x")}, {"x": (5, 3)}),
        ([(3,)], {"a": Transposed("x")}, {"x": (3,)}),
        ([(7,)], {"a": Flat("x")}, {"x": (1, 7)}),
        ([(4, 6), (2, 6), (2, 6)], {n: Part("x", (4, 2, 2), i) for i, n in enumerate("abc")}, {"x": (8, 6)}),
        ([(4, 6), (2, 6)], {n: Part("x", (4, 2), i, True) for i, n in enumerate("ab")}, {"x": (6, 6)}),
        ([(4,), (2,)], {n: Part("x", (4, 2), i) for i, n in enumerate("ab")}, {"x": (6,)}),
        ([(12, 5)] * 3, {n: PerHead("x", 3, (1, 1, 1), i) for i, n in enumerate("abc")}, {"x": (36, 5)}),
        ([(24, 5), (6, 5), (6, 5)], {n: PerHead("x", 2, (4, 1, 1), i) for i, n in enumerate("abc")}, {"x": (36, 5)}),
        ([(24,), (6,), (6,)], {n: PerHead("x", 2, (4, 1, 1), i) for i, n in enumerate("abc")}, {"x": (36,)}),
        ([(4, 3, 5)], {"a": Stacked("x.#.w", 4)}, {f"x.{n}.w": (3, 5) for n in range(4)}),
        (
            [(2, 6, 5)],
            {"a": Stacked("x.#.w", 2, ("#.v",))},
            {f"x.{n}.{k}": (3, 5) for n in range(2) for k in "wv"},
        ),
        ([(12, 5)], {"a": Interleaved("x", 2)}, {"x": (12, 5)}),
        ([(18,)], {"a": Interleaved("x", 2, rotated=4)}, {"x": (18,)}),
        ([(3, 8)], {"a": Interleaved("x", 1, axis=1)}, {"x": (3, 8)}),
        ([(6, 4)], {"a": Shaped("x", ours=(6, 4), theirs=(4, 2, 3), order=(1, 2, 0))}, {"x": (4, 2, 3)}),
        ([(6, 4)], {"a": Shaped("x", ours=(6, 4), theirs=(2, 3, 4))}, {"x": (2, 3, 4)}),
    ],
    ids=str,
)
def test_what_is_written_is_read_back(shapes, rows, stored):
    module, other = Holder(*shapes), Holder(*shapes)
    table = KeyMap(rows)
    tensors = table.export(module)
    assert {name: tuple(x.shape) for name, x in tensors.items()} == stored
    table.load(other, tensors, source="here")
    for name, parameter in module.named_parameters():
        assert torch.equal(other.get_parameter(name), parameter), name
    again = table.export(other)
    assert all(torch.equal(again[name], x) for name, x in tensors.items())


def test_the_order_of_interleaved_rows_is_pair_by_pair():
    stored = torch.arange(8.0)[:, None]  # two heads of four channels: pairs (0, 1), (2, 3)
    assert Interleaved("x", 2).read(stored).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert Interleaved("x", 1, rotated=4).read(stored).flatten().tolist() == [0, 2, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "row",
    [Part("x", (4, 4), 0), PerHead("x", 3, (1, 1, 1), 0), Interleaved("x", 3), Transposed("x"), Stacked("x.#", 2)],
    ids=str,
)
def test_a_stored_tensor_of_another_size_is_a_mismatch(row):
    tensors = {"x": torch.zeros(5, 7), "x.0": torch.zeros(5), "x.1": torch.zeros(5)}
    with pytest.raises(CheckpointMismatch) as found:
        KeyMap({"a": row}).load(Holder((4, 7)), tensors, source="here")
    assert found.value.misshapen


@pytest.mark.parametrize(
    ("row", "shape"),
    [(Shaped("x", (8,), (2, 4)), (4, 2)), (Shaped("x", (-1,), (1, 1, -1, 1)), (2, 2, 2, 1)),
     (Shaped("x", (4, 6), (3, 4, 2), (1, 0, 2)), (4, 3, 2))],
    ids=str,
)  # fmt: skip
def test_a_stored_tensor_of_other_axes_is_a_mismatch_though_it_has_as_many_numbers(row, shape):
    """Rows of other heads would be read in silence."""
    with pytest.raises(CheckpointMismatch) as found:
        KeyMap({"a": row}).load(Holder(row.ours if -1 not in row.ours else (8,)), {"x": torch.zeros(shape)}, source="")
    assert found.value.misshapen


def test_each_absent_part_of_a_stack_is_named():
    with pytest.raises(CheckpointMismatch) as found:
        KeyMap({"a": Stacked("x.#.w", 3)}).load(Holder((3, 2)), {"x.1.w": torch.zeros(2)}, source="here")
    assert found.value.missing == ("a (x.0.w)", "a (x.2.w)")


@pytest.mark.parametrize(
    ("source", "shape", "kept"),
    [
        (Source("x"), (6, 64), True),
        (Part("x", (4, 1, 3), 2), (8, 64), True),
        (PerHead("x", 2, (2, 1, 1), 0), (24, 64), True),
        (Slice("x", 3, 1), (3, 4, 64), True),
        (Interleaved("x", 2), (12, 64), True),
        (Interleaved("x", 2, rotated=4, first=1), (12, 64), True),
        (Interleaved("x", 2, axis=1), (6, 64), False),
        (Part("x", (32, 32), 1, True), (6, 64), False),
        (Transposed("x"), (6, 64), False),
        (Shaped("x", ours=(12, 32), theirs=(6, 64)), (6, 64), False),
        (Shifted("x"), (6, 64), False),
    ],
    ids=str,
)
def test_blocks_stay_whole_where_rows_are_moved_and_become_numbers_elsewhere(source, shape, kept):
    count = math.prod(shape[:-1])
    stored = BlockTensor(torch.from_numpy(blocks("Q8_0", count, shape[-1])).view(*shape[:-1], -1), BLOCK_TYPES["Q8_0"])
    found = source.read_stored(stored)
    assert isinstance(found, BlockTensor) == kept
    assert torch.equal(found.numbers(), source.read(stored.numbers()))
