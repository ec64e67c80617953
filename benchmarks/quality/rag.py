"""Answers from documents: XQuAD's first eight articles, which the shipped answerer did not see, among all paragraphs.

Articles 9 to 13 are those that the constants of pipelines/question_answering/rag.py were fitted on (`recipes.py rag`).
Questions are asked with all paragraphs as documents, and without the paragraphs of their article: then no document has
the answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from multihead import pipeline
from multihead.pipelines.defaults import ANSWERS, MINILM, SMOLLM2
from multihead.pipelines.encoders import EncoderSlot
from multihead.pipelines.question_answering.documents import DocumentStore

from .question_answering import squad_scores
from .report import Report, mean

TASK, DATA = "retrieval-augmented-generation", "XQuAD en"
TUNED, HELD_OUT = "articles 9-13", "articles 1-8"
PARTS = {TUNED: range(8, 13), HELD_OUT: range(8)}


def measure(report: Report) -> None:
    articles = json.loads((report.data / "xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]
    texts = [(number, p["context"]) for number, article in enumerate(articles) for p in article["paragraphs"]]
    encoder = EncoderSlot().get(MINILM.name)
    assert encoder is not None
    store = DocumentStore([text for _, text in texts], encoder)

    @cache
    def without(article: int) -> DocumentStore:
        return DocumentStore([text for own, text in texts if own != article], encoder)

    systems = {
        "MiniLM answers": pipeline(TASK, ANSWERS.name, retriever=encoder),
        "SmolLM2-135M, prompt": pipeline(TASK, SMOLLM2.name, retriever=encoder),
    }
    for part, numbers in PARTS.items():
        rows = report.sample(
            (n, qa, p["context"]) for n in numbers for p in articles[n]["paragraphs"] for qa in p["qas"]
        )
        recall(report, part, rows, store)
        for system, pipe in systems.items():
            answers(report, part, system, pipe, rows, store, without)


def recall(report: Report, part: str, rows: Sequence[Any], store: DocumentStore) -> None:
    """Add how often the right paragraph is among the first passages."""
    hits = store.search([qa["question"] for _, qa, _ in rows], 10)
    ranks = [[p.document.text for p in own] for own in hits]
    scores = {
        f"recall@{k}": mean([context in own[:k] for own, (_, _, context) in zip(ranks, rows, strict=True)])
        for k in (1, 3, 5, 10)
    }
    report.add(TASK, f"{DATA}, {part}", "MiniLM retrieval", len(rows), scores, tuned=part == TUNED)


def answers(
    report: Report, part: str, system: str, pipe: Any, rows: Sequence[Any], store: DocumentStore, without: Any
) -> None:
    """Add the scores of answers, always given and with declined questions, and how many are declined rightly."""
    wanted = [[answer["text"] for answer in qa["answers"]] for _, qa, _ in rows]
    questions = [qa["question"] for _, qa, _ in rows]
    always = pipe([{"question": q, "documents": store} for q in questions], min_score=0)
    given = pipe([{"question": q, "documents": store} for q in questions])
    missing = pipe([{"question": q, "documents": without(n)} for q, (n, _, _) in zip(questions, rows, strict=True)])
    scores = {
        **{f"{name}, always": s for name, s in squad_scores([a["answer"] for a in always], wanted).items()},
        **squad_scores([a["answer"] for a in given], wanted),
        "answered": mean([a["answer"] != "" for a in given]),
        "declined without a document": mean([a["answer"] == "" for a in missing]),
        "with a source": mean([bool(a["sources"]) for a in given if a["answer"]]),
    }
    report.add(TASK, f"{DATA}, {part}", system, len(rows), scores, tuned=part == TUNED)
