"""What the tests of one case share, and docs/families.md from a run of them: `python -m pytest tests/parity
--write-families`."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from .case import Case, batch, eager, ours, reference

TARGET = Path(__file__).parents[2] / "docs" / "families.md"
HEADER = """# Families

`python -m pytest tests/parity -n 2 --write-families` writes this page from its own results. The tests compare every
head of every family below with the reference, on tiny random checkpoints that the reference saves, with a few configs a
family. *Outputs* is the largest difference of logits, hidden states and attentions, *gradients* that of the embeddings'
gradient. Both are divided by the largest magnitude, in float32.

| Family | `model_type` | Heads | Configs | Outputs | Gradients |
|---|---|---|---|---|---|
"""


KEPT = 24  # classes whose models stay in memory: those of a case come one after another


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns the reference's model of a case and the checkpoint that it wrote: to read, not to change."""

    @lru_cache(maxsize=KEPT)
    def folder(case: Case, end: str) -> tuple[Any, Path]:
        path = tmp_path_factory.mktemp(f"{case.name}-{end}")
        model = reference(case, end)
        model.save_pretrained(path)
        eager(model)
        return model, path

    return folder


@pytest.fixture(scope="session")
def loaded(folders: Any) -> Any:
    """Returns our model of a case's checkpoint: to compute with, not to change."""
    return lru_cache(maxsize=KEPT)(lambda case, end: ours(case, end, folders(case, end)[1]))


@pytest.fixture(scope="session")
def expected(folders: Any) -> Any:
    """Returns all that the reference's model shows of a case's batch, padded on the right."""

    @lru_cache(maxsize=KEPT)
    def outputs(case: Case, end: str) -> Any:
        shown = {"output_hidden_states": case.hidden} | ({"output_attentions": True} if case.attentions else {})
        with torch.no_grad():
            return folders(case, end)[0](**batch(case, end), **shown)

    return outputs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of each case one after another, in all modules that share its checkpoint."""
    numbers: dict[str, int] = {}
    cases = {n: item.callspec.params["case"].name for n, item in enumerate(items) if shares(item)}
    places = sorted(cases, key=lambda n: numbers.setdefault(cases[n], len(numbers)))
    for place, item in zip(cases, [items[n] for n in places], strict=True):
        items[place] = item


def shares(item: Any) -> bool:
    given = item.callspec.params if hasattr(item, "callspec") else {}
    return "folders" in item.fixturenames and isinstance(given.get("case"), Case)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-families", action="store_true", help="write docs/families.md from this run's results")


class Results:
    """Collects what the tests measured, from all workers."""

    def __init__(self) -> None:
        self.worst: dict[str, dict[str, float]] = defaultdict(dict)
        self.configs: dict[str, set[str]] = defaultdict(set)
        self.ends: dict[str, list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" or not report.passed:
            return
        found: dict[str, Any] = dict(report.user_properties)
        if "measured" not in found:
            return
        kind, case, end, what, worst = found["measured"]
        self.worst[kind][what] = max(self.worst[kind].get(what, 0.0), worst)
        self.configs[kind].add(case)
        if end not in self.ends[kind]:
            self.ends[kind].append(end)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        from multihead.models.common.registry import FAMILIES

        rows = []
        for kind in sorted(self.worst, key=lambda kind: FAMILIES[kind].name.lower()):
            entry = FAMILIES[kind]
            heads = ", ".join(f"`{name}`" for name in sorted(self.ends[kind]))
            worst = self.worst[kind]
            errors = [f"{worst[what]:.0e}" if what in worst else "" for what in ("outputs", "gradients")]
            rows.append(f"| {entry.name} | `{kind}` | {heads} | {len(self.configs[kind])} | {' | '.join(errors)} |")
        TARGET.write_text(HEADER + "\n".join(rows) + "\n" + halves() + absent(), encoding="utf-8")


def halves() -> str:
    """Write the table of multimodal families whose text half is loaded."""
    from multihead.models.common.registry import FAMILIES
    from multihead.models.common.wrappers import WRAPPERS

    from . import coverage

    title = """
## Text halves of multimodal checkpoints

The language model of these checkpoints is loaded; what belongs to images and sound is not read. Where the text config
names another family of the table above, that family is taken.

| `model_type` | Usual family of the language model |
|---|---|
"""
    ready = sorted(kind for kind in WRAPPERS if coverage.text_half(kind) in FAMILIES)
    return title + "".join(f"| `{kind}` | `{coverage.text_half(kind)}` |\n" for kind in ready)


def absent() -> str:
    """Write the table of the reference's text families and heads that are not here."""
    from . import coverage

    reasons: dict[str, list[str]] = defaultdict(list)
    heads = [name for _, name in coverage.missing_heads()]
    known = {**coverage.REASONS, **coverage.WRAPPER_REASONS, **coverage.HEAD_REASONS}
    for name in (*coverage.missing_types(), *coverage.missing_wrappers(), *heads):
        reasons[known[name]].append(f"`{name}`")
    rows = (f"| {reason} | {', '.join(sorted(set(names)))} |\n" for reason, names in sorted(reasons.items()))
    return "\n## Not implemented, and why\n\n| Why | `model_type` or class |\n|---|---|\n" + "".join(rows)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--write-families") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results())
