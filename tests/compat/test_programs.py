"""Sections of the field's introductory course as programs: the same answers over the reference and over multihead.

A program of `programs/` is written for the reference. It runs as it is, and with the change of one word. It finds the
folder of tiny checkpoints as `models`, a folder to write in as `work`, labeled texts as `rows`, and leaves `answer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import transformers

from tests.compat import tiny_models

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
ROWS = [{"text": text, "label": number % 2} for number, text in enumerate(tiny_models.TEXTS[:4] * 2)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    tiny_models.main(folder)
    return folder


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    yield
    transformers.logging.set_verbosity(level)
    datasets.enable_progress_bars()


def answer(program: Path, module: str, models: Path, work: Path) -> Any:
    """Run a program over a module and return its answer."""
    text = program.read_text(encoding="utf-8").replace("transformers", module)
    names = {"models": str(models), "work": str(work / module), "rows": [dict(row) for row in ROWS], "__name__": module}
    (work / module).mkdir()
    exec(compile(text, str(program), "exec"), names)
    return names["answer"]


def compare(found: Any, expected: Any) -> None:
    """Assert that two answers are equal, numbers to four places."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            compare(found[name], expected[name])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            compare(one, other)
    else:
        assert found == (pytest.approx(expected, rel=1e-4, abs=1e-4) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_section_of_the_course(program, checkpoints, tmp_path):
    expected = answer(program, "transformers", checkpoints, tmp_path)
    compare(answer(program, "multihead", checkpoints, tmp_path), expected)
