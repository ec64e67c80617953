"""The table of precisions in docs/fast.md is that of the registry. Run this module to write it anew."""

from __future__ import annotations

import re

from multihead.checkpoints.gguf_blocks import BLOCK_TYPES
from multihead.kernels.quantization.registry import PRECISIONS
from tests.architecture.floors import ROOT

PAGE = ROOT / "docs" / "fast.md"
PLACE = re.compile(r"(?<=<!-- precisions -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table() -> str:
    rows = ["| | weights | what they multiply | accuracy |", "|---|---|---|---|"]
    rows += [f'| `"{row.name}"` | {" | ".join(row.summary)} |' for row in PRECISIONS.values()]
    rows.append('| `"auto"` | bf16 where the hardware multiplies it natively, else fp32 | | |')
    return "\n".join([*rows, ""])


def test_the_page_lists_every_precision():
    found = PLACE.search(PAGE.read_text())
    assert found is not None
    assert found[0] == table(), "run python -m tests.architecture.test_precision_table"


def test_the_page_lists_every_type_of_block():
    cells = {name for row in PAGE.read_text().splitlines() if row.startswith("| ") for name in re.split(r"[|, ]+", row)}
    assert cells >= set(BLOCK_TYPES)


if __name__ == "__main__":
    PAGE.write_text(PLACE.sub(lambda found: table(), PAGE.read_text()))
