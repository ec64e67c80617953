"""Questions about a paragraph: XQuAD in English."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from multihead import pipeline
from multihead.pipelines.defaults import SMOLLM2
from multihead.training.evaluation import text_metrics

from .reference import generated, smollm2
from .report import Report, Score, mean

TASK, XQUAD = "question-answering", "XQuAD en"


def squad_scores(found: Sequence[str], wanted: Sequence[Sequence[str]]) -> dict[str, Score]:
    """Return exact match and F1 by SQuAD's rules (Rajpurkar et al., 2016)."""
    rows = [text_metrics.question_answering([a], [list(golds)]) for a, golds in zip(found, wanted, strict=True)]
    return {name: mean([row[name] for row in rows], scale=1) for name in ("exact_match", "f1")}


def measure(report: Report) -> None:
    articles = json.loads((report.data / "xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]
    rows = report.sample((qa, p["context"]) for article in articles for p in article["paragraphs"] for qa in p["qas"])
    items = [{"question": qa["question"], "context": context} for qa, context in rows]
    wanted = [[answer["text"] for answer in qa["answers"]] for qa, _ in rows]

    def add(system: str, answers: Sequence[Any]) -> None:
        found = [answer["answer"] for answer in answers]
        report.add(TASK, XQUAD, system, len(found), squad_scores(found, wanted[: len(found)]))

    pipe: Any = pipeline("question-answering", SMOLLM2.name, dtype="float32")
    found = pipe(items)
    add("SmolLM2-135M, prompt", found)
    if part := report.reference:
        add("the same, reference", generated(smollm2(), pipe, items[:part]))
        add("the same, ours on those rows", found[:part])
