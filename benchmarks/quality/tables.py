"""Questions about tables: `tables.json`, 20 tables of as many subjects, whose last four tuning did not see.

An answer of several cells is right in any order, a number whatever its signs and its separators. Where the table does
not answer, the right answer is empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multihead import pipeline
from multihead.pipelines.defaults import MINILM, SMOLLM2
from multihead.pipelines.tables.cells import parse_number

from .report import Report, mean

TASK = "table-question-answering"
KINDS = ("look-up", "reverse look-up", "count", "sum", "average", "extreme", "comparison", "filter", "no answer")


def equal(found: str, wanted: str) -> bool:
    """Return whether an answer is right."""
    if sorted(map(plain, found.split(", "))) == sorted(map(plain, wanted.split(", "))):
        return True
    a, b = parse_number(found), parse_number(wanted)
    return a is not None and b is not None and abs(a.value - b.value) <= 1e-4 * max(1.0, abs(b.value))


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip().casefold())


def measure(report: Report) -> None:
    tables = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    systems = {
        "MiniLM, computed queries": pipeline(TASK, MINILM.name),
        "computed queries, words alone": pipeline(TASK, SMOLLM2.name, retriever=None),
        "SmolLM2-135M reads named rows": pipeline(TASK, SMOLLM2.name, answer_by="model"),
    }
    for split in ("tuning", "held out"):
        chosen = report.sample(table for table in tables if table["split"] == split)
        for system, pipe in systems.items():
            add(report, split, system, pipe, chosen)


def add(report: Report, split: str, system: str, pipe: Any, tables: Sequence[Any]) -> None:
    """Answer all questions about some tables and add the scores by kind of question."""
    right: dict[str, list[float]] = {kind: [] for kind in KINDS}
    wrong = []  # an answer that is given and not right
    for table in tables:
        cells = dict(zip(table["columns"], zip(*table["rows"], strict=True), strict=True))
        answers = pipe([{"table": cells, "query": query} for _, query, _ in table["questions"]])
        for (kind, _, wanted), found in zip(table["questions"], answers, strict=True):
            good = equal(found["answer"], wanted)
            right[kind].append(good)
            wrong.append(not good and found["answer"] != "")
    every = [each for own in right.values() for each in own]
    scores = {"exact": mean(every), "wrong": mean(wrong)} | {kind: mean(own) for kind, own in right.items()}
    report.add(TASK, f"own tables, {split}", system, len(every), scores, tuned=split == "tuning")
