"""Translation: Multi30k's captions to Portuguese and back by the small translators, to French by a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from multihead import pipeline
from multihead.pipelines.defaults import ENGLISH_PORTUGUESE, PORTUGUESE_ENGLISH, SMOLLM2
from multihead.training.evaluation import text_metrics

from .report import Report, Score, bootstrap

TASK, MULTI30K = "translation", "Multi30k 2016 test"


def bleu_scores(found: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Return corpus BLEU and chrF (sacreBLEU: arXiv:1804.08771)."""

    def statistic(name: str) -> Any:
        def score(rows: np.ndarray) -> float:
            return text_metrics.translation([found[n] for n in rows], [wanted[n] for n in rows])[name]

        return score

    return {name: bootstrap(len(found), statistic(name), samples=100) for name in ("bleu", "chrf")}


def measure(report: Report) -> None:
    sides = {
        side: (report.data / "multi30k" / f"test_2016_flickr.{side}").read_text(encoding="utf-8").splitlines()
        for side in ("en", "fr")
    }
    english, french = (list(side) for side in zip(*report.sample(zip(*sides.values(), strict=True)), strict=True))
    there: Any = pipeline("translation_en_to_pt", ENGLISH_PORTUGUESE.name)
    back: Any = pipeline("translation_pt_to_en", PORTUGUESE_ENGLISH.name)
    half = [answer["translation_text"] for answer in there(english)]
    found = [answer["translation_text"] for answer in back(half)]
    report.add(TASK, MULTI30K, "Marian tiny11, en-pt-en", len(found), bleu_scores(found, english))
    pipe: Any = pipeline("translation_en_to_fr", SMOLLM2.name)
    found = [answer["translation_text"] for answer in pipe(english[:200], max_new_tokens=64)]
    report.add(TASK, MULTI30K, "SmolLM2-135M, prompt, en-fr", len(found), bleu_scores(found, french[:200]))
