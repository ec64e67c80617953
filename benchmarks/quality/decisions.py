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
PREDICATES = {  # domain -> questions, each with the label of the texts of which it is true
    "topic": {"Is it about sports?": "sports", "Is it about cooking?": "cooking"},
    "sentiment": {"Is it positive?": "positive"},
    "intent": {"Does the customer want a refund?": "refund", "Is it about a delivery?": "delivery"},
    "urgency": {"Is it urgent?": "urgent"},
}
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
    for system, pipe, options in systems:
        ask(report, system, pipe, **options)


def ask(report: Report, system: str, pipe: Any, **options: Any) -> None:
    """Report predicates about the four domains: accuracy, mean AUROC of the questions, and surprise (nats)."""
    found: list[float] = []
    truth: list[bool] = []
    ranked: list[float] = []
    for domain, questions in PREDICATES.items():
        texts, labels = read(domain, "test")
        for instructions, label in questions.items():
            asked = [{"type": "predicate", "instructions": instructions}]
            answers = pipe([{"input": text, "questions": asked} for text in texts], **options)
            own = [answer["answers"][0]["probability"] for answer in answers]
            wanted = [each == label for each in labels]
            ranked.append(auroc(own, wanted).value)
            found, truth = [*found, *own], [*truth, *wanted]
    given, marks = np.array(found), np.array(truth)
    surprise = -np.log(np.clip(np.where(marks, given, 1 - given), 1e-12, 1))
    scores = {"accuracy": mean((given > 0.5) == marks), "surprise": mean(surprise, 1.0)}
    report.add(TASK, f"6 predicates, AUROC {np.mean(ranked):.1f}", system, len(found), scores)


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
