"""Search: the paragraph that answers a question, among all paragraphs of XQuAD in English.

The tokens and constants of hybrid search were chosen on articles 0, 2, 4, ...; scores are of the questions of the other
articles. SQuAD's questions were written with the paragraph in sight, so they repeat its words more than questions of
users do, which favors BM25. The package index has no cross-encoder, so reranking is not measured.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from typing import Any

from multihead import Index, SentenceEncoder
from multihead.pipelines.defaults import MINILM

from .report import Report, Score, mean

TASK, XQUAD = "retrieval", "XQuAD en, questions to paragraphs"
DEEP = 100  # results of which a rank is taken


def retrieval_scores(ranks: Sequence[int | None]) -> dict[str, Score]:
    """Return recall at 1, 5 and 10 and the mean reciprocal rank of ranks from 0; None for not found."""
    scores = {f"R@{k}": mean([rank is not None and rank < k for rank in ranks]) for k in (1, 5, 10)}
    return {**scores, "MRR": mean([0.0 if rank is None else 1 / (rank + 1) for rank in ranks])}


def read_xquad(report: Report) -> tuple[list[str], list[tuple[str, int]]]:
    """Return all paragraphs, and (question, number of its paragraph) of the articles with odd numbers."""
    articles = json.loads((report.data / "xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]
    paragraphs, questions = list[str](), list[tuple[str, int]]()
    for number, article in enumerate(articles):
        for paragraph in article["paragraphs"]:
            if number % 2:
                questions += [(qa["question"], len(paragraphs)) for qa in paragraph["qas"]]
            paragraphs.append(paragraph["context"])
    return paragraphs, report.sample(questions)


def ranks_of(results: Sequence[Sequence[dict[str, Any]]], golds: Sequence[int]) -> list[int | None]:
    """Return the place of the right paragraph in each list of results."""
    places = [[hit["corpus_id"] for hit in hits] for hits in results]
    return [own.index(gold) if gold in own else None for own, gold in zip(places, golds, strict=True)]


def by_words(paragraphs: Sequence[str], questions: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Return the results of BM25 over words, with bm25s's own rules of words and its English stop words."""
    import bm25s

    scorer = bm25s.BM25()
    scorer.index(bm25s.tokenize(list(paragraphs), show_progress=False), show_progress=False)
    found, _ = scorer.retrieve(
        bm25s.tokenize(list(questions), show_progress=False), k=min(DEEP, len(paragraphs)), show_progress=False
    )
    return [[{"corpus_id": int(row)} for row in rows] for rows in found]


def by_reference(encoder: SentenceEncoder, paragraphs: Sequence[str], questions: Sequence[str]) -> Any:
    """Return the results of sentence-transformers with the same weights."""
    import sentence_transformers

    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(folder)
        theirs = sentence_transformers.SentenceTransformer(folder, device="cpu")
        return sentence_transformers.util.semantic_search(
            theirs.encode_query(list(questions)), theirs.encode_document(list(paragraphs)), top_k=DEEP
        )


def measure(report: Report) -> None:
    paragraphs, rows = read_xquad(report)
    questions, golds = [question for question, _ in rows], [gold for _, gold in rows]

    def add(system: str, results: Sequence[Sequence[dict[str, Any]]]) -> None:
        golds_of_these = golds[: len(results)]
        report.add(TASK, XQUAD, system, len(results), retrieval_scores(ranks_of(results, golds_of_these)))

    add("BM25 of words", by_words(paragraphs, questions))
    encoder = SentenceEncoder.from_pretrained(MINILM.name)
    for precision in ("float32", "int8", "binary"):
        index = Index.build(paragraphs, encoder, precision=precision)
        add(f"all-MiniLM-L6-v2, {precision}", index.search(questions, DEEP))
        if precision == "float32":
            words = index.make_lexical().search(questions, encoder.tokenizer, DEEP)
            add("BM25 of the encoder's tokens", [[{"corpus_id": row} for row in own] for own in words])
            add("all-MiniLM-L6-v2, hybrid", index.search(questions, DEEP, hybrid=True))
    if part := report.reference:
        add("all-MiniLM-L6-v2, reference", by_reference(encoder, paragraphs, questions[:part]))
