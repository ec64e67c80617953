"""Summaries in one sentence: abstracts of SciTLDR, best of the references of each.

Prompts and the choice of sentences were tuned on rows of SciTLDR's training part only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from multihead import pipeline
from multihead.pipelines.defaults import MINILM, SMOLLM2
from multihead.pipelines.splitting import split_sentences
from multihead.pipelines.summarization.length import ends_sentence
from multihead.training.evaluation import text_metrics

from .reference import generated, smollm2
from .report import Report, Score, difference, mean

TASK, SCITLDR = "summarization", "SciTLDR dev"
PLAIN = {
    "prompt": "Summarize the following text in one short sentence.\n\n{text}",
    "max_new_tokens": 96,
    "whole_sentences": False,
}


def rouge_rows(found: Sequence[str], wanted: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L of each row, the best over its references."""
    return [text_metrics.summarization([a], [list(golds)]) for a, golds in zip(found, wanted, strict=True)]


def form_scores(found: Sequence[str]) -> dict[str, Score]:
    """Return the share of summaries that end with a sentence, and of those that are one sentence."""
    return {
        "ends with a sentence": mean([ends_sentence(text) for text in found]),
        "one sentence": mean([len(split_sentences(text)) == 1 for text in found]),
    }


def measure(report: Report) -> None:
    lines = (report.data / "scitldr" / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    rows = report.sample(map(json.loads, lines))
    texts, wanted = [" ".join(row["source"]) for row in rows], [row["target"] for row in rows]
    lead = [row["source"][0] for row in rows]
    lead_scores = rouge_rows(lead, wanted)

    def add(system: str, found: Sequence[str]) -> None:
        own = rouge_rows(found, wanted[: len(found)])
        scores = {name: mean([row[name] for row in own], scale=1) for name in ("rouge1", "rouge2", "rougeL")}
        both = zip(own, lead_scores, strict=False)
        ours, theirs = zip(*((a["rougeL"], b["rougeL"]) for a, b in both), strict=True)
        gain = {"rougeL over lead-1": difference(ours, theirs, scale=1)}
        report.add(TASK, SCITLDR, system, len(found), {**scores, **gain, **form_scores(found)})

    def summaries(pipe: Any, inputs: Sequence[str], **options: Any) -> list[str]:
        return [answer["summary_text"] for answer in pipe(inputs, **options)]

    add("first sentence (lead-1)", lead)
    add("MiniLM, extractive", summaries(pipeline("summarization", MINILM.name, mode="extractive"), texts))
    pipe: Any = pipeline("summarization", SMOLLM2.name, dtype="float32")
    found = summaries(pipe, texts)
    add("SmolLM2-135M, prompt", found)
    add("SmolLM2-135M, plain prompt, 96 tokens", summaries(pipe, texts, **PLAIN))
    if part := report.reference:
        add("prompt, reference", [answer[0]["summary_text"] for answer in generated(smollm2(), pipe, texts[:part])])
        add("prompt, ours on those rows", found[:part])
