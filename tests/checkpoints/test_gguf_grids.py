"""The tables of GGUF's blocks of one to three bits are those of the format. Run this module to write them anew."""

from __future__ import annotations

import base64
import re
import textwrap
import zlib

import gguf
import numpy
import pytest
from gguf import quants

from multihead.checkpoints import gguf_grids
from tests.architecture.floors import ROOT

TYPES = ("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
MODULE = ROOT / "src" / "multihead" / "checkpoints" / "gguf_grids.py"
HEADER = ROOT / "src" / "multihead" / "native" / "grids.h"
TEXT = re.compile(r"(?<=    # written by tests/checkpoints/test_gguf_grids.py\n).*?(?=\n\))", re.DOTALL)


def table(kind: str) -> numpy.ndarray:
    """The format's table: a row of codes each entry, packed into 16 bits, the first code lowest."""
    row = getattr(quants, kind)
    row.init_grid()
    grid = row.grid.reshape(row.grid_shape)
    codes = (grid[..., None] == numpy.array(row.grid_map, numpy.float32)).argmax(-1)  # (entries, codes of an entry)
    bits = 16 // row.grid_shape[1]
    return (codes << numpy.arange(0, 16, bits)[: row.grid_shape[1]]).sum(1).astype("<u2")


def text() -> str:
    """All tables, compressed, as lines of Python."""
    raw = zlib.compress(b"".join(table(kind).tobytes() for kind in TYPES), 9)
    return "\n".join(f'    "{line}"' for line in textwrap.wrap(base64.b85encode(raw).decode(), 112))


def header() -> str:
    """All tables in C++."""
    out = [
        "// Rows of the grids of GGUF's blocks of one to three bits: eight codes of two bits (IQ1, IQ2), or four codes",
        "// of four bits (IQ3), the first lowest. Written by tests/checkpoints/test_gguf_grids.py.",
        "#pragma once", "", "#include <cstdint>", "", "namespace {", "",
    ]  # fmt: skip
    for kind in TYPES:
        numbers = table(kind)
        rows = textwrap.wrap(", ".join(f"0x{n:04x}" for n in numbers), 116)
        out += [f"const uint16_t {kind}_GRID[{len(numbers)}] = {{", *(f"    {row}" for row in rows), "};", ""]
    return "\n".join([*out, "}  // namespace", ""])


@pytest.mark.parametrize("kind", TYPES)
def test_rows_are_those_of_the_format(kind):
    row = getattr(quants, kind)
    row.init_grid()
    codes = gguf_grids.grid(kind).numpy()
    values = codes if kind != "IQ1_S" else codes.astype(numpy.float32) / 8
    assert numpy.array_equal(values, row.grid.reshape(row.grid_shape))


def test_the_kernels_have_the_same_tables():
    assert HEADER.read_text() == header(), "run python -m tests.checkpoints.test_gguf_grids"


def test_every_type_with_a_table_is_here():
    named = {
        kind.name for kind in gguf.GGMLQuantizationType if getattr(getattr(quants, kind.name, None), "grid_hex", 0)
    }
    assert named == {*TYPES, "IQ1_M"}  # which has the table of IQ1_S


if __name__ == "__main__":
    MODULE.write_text(TEXT.sub(lambda found: text(), MODULE.read_text()))
    HEADER.write_text(header())
