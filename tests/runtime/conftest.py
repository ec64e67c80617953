"""Fixtures of decode steps by the C++ kernels."""

from __future__ import annotations

from typing import Any

import pytest

from multihead.kernels.cpu import linear
from multihead.runtime.cpu_decode import CpuDecodeStep


@pytest.fixture
def at_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is faster for so many texts, too."""
    monkeypatch.setattr(linear, "ROWS", dict.fromkeys(linear.ROWS, (64, 64)))
    monkeypatch.setattr(linear, "COLUMNS", 64)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Texts of each step that the kernels have made."""
    made: list[int] = []
    run = CpuDecodeStep.run

    def counted(self: CpuDecodeStep, *args: Any) -> Any:
        out = run(self, *args)
        made.extend([out[2].shape[1]] * len(out[2]))
        return out

    monkeypatch.setattr(CpuDecodeStep, "run", counted)
    return made
