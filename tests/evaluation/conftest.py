"""Pipelines of tiny checkpoints, and labeled files for them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import transformers

from multihead import pipeline
from tests.conftest import written

TEXTS = ["the fox jumps", "a lazy dog", "the quick brown fox", "over the dog", "the dog jumps over", "a fox"]


def lines(path, rows):
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def pipe(classifier):
    """Classifier of three labels: bad, fair, good."""
    return pipeline("text-classification", classifier, dtype="float32")


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """Folder of a question answerer."""
    return written(tmp_path_factory.mktemp("reader"), transformers.BertForQuestionAnswering)


@pytest.fixture
def reviews(tmp_path, pipe) -> Path:
    """Twelve texts whose labels are the classifier's own answers, but for three of them."""
    names = ["bad", "fair", "good"]
    rows = []
    for number, text in enumerate([*TEXTS, *(f"{text} again" for text in TEXTS)]):
        best = pipe([text])[0]["label"]
        label = names[(names.index(best) + 1) % 3] if number in (1, 5, 8) else best
        rows.append([text, label, "web" if number % 2 else "shop"])
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label", "source"], *rows])
    return path
