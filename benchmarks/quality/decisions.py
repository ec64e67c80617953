"""Decisions: choices by words, by letters and by vectors, and predicates, with the calibration of their probabilities.

The prompts were chosen on the development texts of `zero_shot.py`; the other texts are held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from multihead import pipeline
from multihead.pipelines.calibration_fit import expected_calibration_error
from multihead.pipelines.defaults import MINILM, SMOLLM2

from .labels import read_sst2
from .report import Report, Score, auroc, bootstrap, mean
from .zero_shot import DOMAINS, read

TASK = "decision"
SENTIMENT = "What is the sentiment of the review?"
ASKED = {
    "topic": "What is the topic of the text?", "sentiment": "What is the sentiment of the text?",
    "intent": "What does the customer want?", "urgency": "How urgent is the message?",
}  # fmt: skip
PREDICATES = ("The review is positive.", "Is the review positive?")
REVIEWS = 100


def measure(report: Report) -> None:
    writer: Any = pipeline("decision", SMOLLM2.name, dtype="float32")
    encoder: Any = pipeline("decision", MINILM.name, dtype="float32", truncation=True)
    systems: list[tuple[str, Any, Mapping[str, Any]]] = [
        ("SmolLM2-135M, words", writer, {"scoring": "words"}),
        ("SmolLM2-135M, labels", writer, {"scoring": "labels"}),
        ("MiniLM", encoder, {}),
    ]
    reviews = report.sample(read_sst2(report.data / "sst2" / "dev.tsv"))[:REVIEWS]
    groups = [(ASKED[domain], *read(domain, "test")) for domain in DOMAINS]
    texts, labels = zip(*reviews, strict=True)
    for system, pipe, options in systems:
        four = [choose(pipe, *group, **options) for group in groups]
        add(report, "four domains", system, [row for own in four for row in own])
        add(report, "SST-2 dev", system, choose(pipe, SENTIMENT, texts, labels, **options))
    for system, pipe in (("SmolLM2-135M", writer), ("MiniLM", encoder)):
        for instructions in PREDICATES:
            questions = [{"type": "predicate", "instructions": instructions}]
            answers = pipe([{"input": text, "questions": questions} for text in texts])
            found = [answer["answers"][0]["probability"] for answer in answers]
            wanted = [label == "positive" for label in labels]
            right = [(p > 0.5) == w for p, w in zip(found, wanted, strict=True)]
            scores = {"accuracy": mean(right), "AUROC": auroc(found, wanted)}
            report.add(TASK, f"SST-2 dev: {instructions}", system, len(found), scores)


def choose(
    pipe: Any, instructions: str, texts: Sequence[str], labels: Sequence[str], **options: Any
) -> list[tuple[float, float, float]]:
    """Return whether each choice is right, its probability, and the surprise (nats) of the right one."""
    choices = [{"value": label} for label in sorted(set(labels))]
    questions = [{"type": "choice", "instructions": instructions, "choices": choices}]
    answers = pipe([{"input": text, "questions": questions} for text in texts], **options)
    rows = []
    for answer, label in zip(answers, labels, strict=True):
        given = {row["value"]: row["probability"] for row in answer["answers"][0]["probabilities"]}
        best = max(given, key=given.__getitem__)
        rows.append((float(best == label), given[best], -float(np.log(max(given[label], 1e-12)))))
    return rows


def add(report: Report, data: str, system: str, rows: Sequence[tuple[float, float, float]]) -> None:
    """Report accuracy, calibration error and the mean surprise."""
    right, sure, surprise = (np.array(column) for column in zip(*rows, strict=True))
    scores: dict[str, Score] = {"accuracy": mean(right)}
    confidence, correct = torch.tensor(sure), torch.tensor(right)
    scores["ECE"] = bootstrap(len(rows), lambda n: 100 * expected_calibration_error(confidence[n], correct[n]))
    scores["surprise"] = mean(surprise, 1.0)
    report.add(TASK, data, system, len(rows), scores)
