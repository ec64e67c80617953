"""Sentiment: SST-2's dev sentences by a prompt, by vectors of labels, and by the majority."""

from __future__ import annotations

from typing import Any

from multihead import pipeline
from multihead.pipelines.defaults import MINILM, SMOLLM2

from .reference import scored, smollm2
from .report import Report, mean

TASK, SST2 = "sentiment", "SST-2 dev"
HYPOTHESES = {"a negative review": "NEGATIVE", "a positive review": "POSITIVE"}


def measure(report: Report) -> None:
    lines = (report.data / "sst2" / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = report.sample(line.split("\t") for line in lines)
    wanted, texts = (list(side) for side in zip(*rows, strict=True))
    wanted = [label.upper() for label in wanted]

    def add(system: str, found: list[str]) -> None:
        right = [a == b for a, b in zip(found, wanted, strict=False)]
        report.add(TASK, SST2, system, len(found), {"accuracy": mean(right)})

    add("majority", [max(set(wanted), key=wanted.count)] * len(wanted))
    pipe: Any = pipeline("sentiment-analysis", SMOLLM2.name, dtype="float32")
    found = [answer["label"] for answer in pipe(texts)]
    add("SmolLM2-135M, prompt", found)
    if part := report.reference:
        names, neutral = list(pipe.labels), scored(smollm2(), pipe, [pipe.neutral])[0]
        theirs = [names[int((own - neutral).argmax())] for own in scored(smollm2(), pipe, texts[:part])]
        add("the same, reference", theirs)
        add("the same, ours on those rows", found[:part])
    vectors: Any = pipeline("zero-shot-classification", MINILM.name)
    answers = vectors(texts, list(HYPOTHESES), hypothesis_template="This is {}.")
    add("MiniLM, vectors of labels", [HYPOTHESES[answer["labels"][0]] for answer in answers])
