"""Summaries in one sentence: abstracts of SciTLDR, best of the references of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from multihead import pipeline
from multihead.pipelines.defaults import SMOLLM2
from multihead.training.evaluation import text_metrics

from .reference import generated, smollm2
from .report import Report, Score, mean

TASK, SCITLDR = "summarization", "SciTLDR dev"


def rouge_scores(found: Sequence[str], wanted: Sequence[Sequence[str]]) -> dict[str, Score]:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L, the best over the references of a row."""
    rows = [text_metrics.summarization([a], [list(golds)]) for a, golds in zip(found, wanted, strict=True)]
    return {name: mean([row[name] for row in rows], scale=1) for name in ("rouge1", "rouge2", "rougeL")}


def measure(report: Report) -> None:
    lines = (report.data / "scitldr" / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    rows = report.sample(map(json.loads, lines))
    texts, wanted = [" ".join(row["source"]) for row in rows], [row["target"] for row in rows]

    def add(system: str, found: Sequence[str]) -> None:
        report.add(TASK, SCITLDR, system, len(found), rouge_scores(found, wanted[: len(found)]))

    add("first sentence (lead-1)", [row["source"][0] for row in rows])
    pipe: Any = pipeline("summarization", SMOLLM2.name, dtype="float32")
    found = [answer["summary_text"] for answer in pipe(texts)]
    add("SmolLM2-135M, prompt", found)
    if part := report.reference:
        add("the same, reference", [answer[0]["summary_text"] for answer in generated(smollm2(), pipe, texts[:part])])
        add("the same, ours on those rows", found[:part])
