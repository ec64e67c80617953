"""Sentiment: film reviews by the adapter of the package, by a prompt, by vectors of labels, and by the majority.

SST-2's dev sentences are reported in two parts for the adapter, because most are among its training rows. The prompts
were chosen on 300 sentences of SST-2's train set.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multihead import pipeline
from multihead.pipelines.calibration_fit import expected_calibration_error
from multihead.pipelines.defaults import MINILM, SENTIMENT, SMOLLM2

from .reference import scored, smollm2
from .report import Report, Score, auroc, bootstrap, mean

TASK, SST2 = "sentiment", "SST-2 dev"
NEAR, FAR = 0.7, 0.5  # shares of common words: of sentences that are taken for the same one, and for different ones
Pair = tuple[str, str]


def measure(report: Report) -> None:
    dev, train = (report.sample(read_sst2(report.data / "sst2" / f"{name}.tsv")) for name in ("dev", "train"))
    measure_adapter(report, dev, train)
    measure_prompt(report, dev)
    vectors: Any = pipeline("zero-shot-classification", MINILM.name)
    answers = vectors([text for text, _ in dev], ["negative", "positive"])
    found = [positive(zip(answer["labels"], answer["scores"], strict=True)) for answer in answers]
    add(report, SST2, "MiniLM, vectors of labels", dev, found)


def read_sst2(path: Path) -> list[Pair]:
    """Return the sentences and labels of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [(text, label) for label, text in (line.split("\t") for line in lines)]


def positive(scores: Any) -> float:
    """Return the score of "positive" among (label, score)."""
    return float({label.lower(): score for label, score in scores}["positive"])


def add(report: Report, data: str, system: str, rows: Sequence[Pair], scores: Sequence[float]) -> None:
    """Report accuracy, AUROC and the calibration error of the probabilities of "positive"."""
    wanted = np.array([label == "positive" for _, label in rows[: len(scores)]])
    found = np.array(scores)
    right, sure = (found > 0.5) == wanted, torch.tensor(np.maximum(found, 1 - found))
    measured: dict[str, Score] = {"accuracy": mean(right)}
    if len(set(scores)) > 1:
        measured["AUROC"] = auroc(scores, wanted.tolist())
        measured["ECE"] = bootstrap(
            len(found), lambda n: 100 * expected_calibration_error(sure[n], torch.tensor(right)[n])
        )
    report.add(TASK, data, system, len(found), measured)


def measure_adapter(report: Report, dev: Sequence[Pair], train: Sequence[Pair]) -> None:
    """Report the adapter on sentences that it was trained on, and on others."""
    overlap = Overlap(report.data / "sentence_polarity")
    parts = {
        f"{SST2}, trained on": [row for row in dev if overlap(row[0]) >= NEAR],
        f"{SST2}, not trained on": [row for row in dev if overlap(row[0]) < NEAR],
        "SST-2 train, not trained on": [row for row in train if overlap(row[0]) < FAR],
    }
    pipe: Any = pipeline("text-classification", SENTIMENT.name, top_k=None, dtype="float32")
    for data, rows in parts.items():
        if not rows:
            continue
        for system, calibration in (("sentiment adapter", True), ("sentiment adapter, uncalibrated", False)):
            answers = pipe([text for text, _ in rows], calibration=calibration)
            scores = [positive((label["label"], label["score"]) for label in answer) for answer in answers]
            add(report, data, system, rows, scores)


class Overlap:
    """Share of the words that a sentence has in common with the most similar one of the sentence polarity data."""

    def __init__(self, folder: Path) -> None:
        lines = [line for name in ("pos.txt", "neg.txt") for line in (folder / name).open(encoding="utf-8")]
        self.same = {"".join(words_of(line)) for line in lines}
        self.words = [set(words_of(line)) for line in lines]
        self.places: dict[str, list[int]] = defaultdict(list)
        for number, words in enumerate(self.words):
            for word in words:
                self.places[word].append(number)

    def __call__(self, text: str) -> float:
        if "".join(words_of(text)) in self.same:
            return 1.0
        words = set(words_of(text))
        rare = sorted(words, key=lambda word: len(self.places[word]))[:6]
        near = Counter(number for word in rare for number in self.places[word]).most_common(20)
        return max((len(words & self.words[n]) / len(words | self.words[n]) for n, _ in near), default=0.0)


def words_of(text: str) -> list[str]:
    """Return the words of a sentence without letter case, accents and punctuation."""
    plain = text.replace("-LRB-", "(").replace("-RRB-", ")")
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode().lower()
    return re.findall("[a-z0-9]+", plain)


def measure_prompt(report: Report, dev: Sequence[Pair]) -> None:
    """Report the majority and a language model, with its ways to calibrate; the reference with the same prompts."""
    texts, labels = (list(side) for side in zip(*dev, strict=True))
    most = max(set(labels), key=labels.count)
    add(report, SST2, "majority", dev, [float(most == "positive")] * len(dev))
    pipe: Any = pipeline("sentiment-analysis", SMOLLM2.name, top_k=None, dtype="float32")
    for system, calibration in (("reference texts", True), ("batch", "batch"), ("none", False)):
        answers = pipe(texts, calibration=calibration)
        scores = [positive((label["label"], label["score"]) for label in answer) for answer in answers]
        add(report, SST2, f"SmolLM2-135M, calibration: {system}", dev, scores)
        if calibration is True and (part := report.reference):
            add(report, SST2, "the same, ours on some rows", dev, scores[:part])
            base = torch.stack(scored(smollm2(), pipe, pipe.reference_texts)).mean(0)
            theirs = [(own - base).view(-1, 2).mean(0).softmax(-1)[1] for own in scored(smollm2(), pipe, texts[:part])]
            add(report, SST2, "the same, reference on those rows", dev, [float(score) for score in theirs])
