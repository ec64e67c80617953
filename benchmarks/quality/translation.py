"""Translation: facts kept, sentence splitting, Multi30k's captions to Portuguese and back, to French by a prompt.

translation_facts_*.txt are lines of language, tab, text; ⟦ and ⟧ enclose what a translation must have unchanged.
sentences_*.txt are lines of language, tab, sentences between bars. What is called tuning was looked at while the
pipeline was written; the held-out texts were written before and read after. Both are by one author.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multihead import pipeline
from multihead.pipelines.defaults import ENGLISH_PORTUGUESE, PORTUGUESE_ENGLISH, SMOLLM2
from multihead.pipelines.splitting import split_sentences
from multihead.training.evaluation import text_metrics

from .report import Report, Score, bootstrap, mean

TASK, MULTI30K = "translation", "Multi30k 2016 test"
HERE = Path(__file__).parent
UNSPACED = frozenset(("zh", "ja", "my", "km", "bo"))  # languages that write no space between sentences
Splitter = Callable[[str, str], Sequence[str]]  # language, text -> sentences


def bleu_scores(found: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Return corpus BLEU and chrF (sacreBLEU: arXiv:1804.08771)."""

    def statistic(name: str) -> Any:
        def score(rows: np.ndarray) -> float:
            return text_metrics.translation([found[n] for n in rows], [wanted[n] for n in rows])[name]

        return score

    return {name: bootstrap(len(found), statistic(name), samples=100) for name in ("bleu", "chrf")}


def read_rows(name: str) -> list[tuple[str, str]]:
    """Return (language, text) of each line of a file of this folder."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [(language, text) for language, _, text in (line.partition("\t") for line in lines)]


def facts_kept(pipe: Any, rows: Sequence[str], **options: Any) -> list[bool]:
    """Return whether each marked part of the texts is in their translations."""
    answers = pipe([re.sub("[⟦⟧]", "", text) for text in rows], **options)
    return [
        " ".join(fact.split()) in " ".join(answer["translation_text"].split())
        for text, answer in zip(rows, answers, strict=True)
        for fact in re.findall("⟦(.*?)⟧", text)
    ]


def measure_facts(report: Report, translators: dict[str, Any]) -> None:
    """Measure how many marked parts of texts are kept as they are."""
    for part in ("tuning", "heldout"):
        rows = report.sample(read_rows(f"translation_facts_{part}.txt"))
        for how, options in (("", {}), (", text as it is", {"protect_words": False})):
            kept: list[bool] = []
            for language, pipe in translators.items():
                kept += facts_kept(pipe, [text for own, text in rows if own == language], **options)
            report.add(TASK, f"facts, {part}", f"Marian tiny11{how}", len(kept), {"kept": mean(kept)},
                       tuned=part == "tuning")  # fmt: skip


def boundaries(sentences: Sequence[str]) -> set[int]:
    """Return the places between sentences, counted in characters that are no white space."""
    ends = np.cumsum([len(re.sub(r"\s", "", sentence)) for sentence in sentences]).tolist()
    return set(ends[:-1])


def boundary_scores(rows: Sequence[tuple[str, str]], split: Splitter) -> dict[str, Score]:
    """Return F1 of sentence boundaries, and the share of texts with all of them right."""
    counts = []
    for language, text in rows:
        wanted = text.split("|")
        joined = ("" if language in UNSPACED else " ").join(wanted)
        a, b = boundaries([own for own in split(language, joined) if own.strip()]), boundaries(wanted)
        counts.append((len(a & b), len(a - b), len(b - a)))
    table = np.asarray(counts)

    def f1(numbers: np.ndarray) -> float:
        right, false, missed = table[numbers].sum(0)
        return float(200 * right / max(2 * right + false + missed, 1))

    return {"boundary_f1": bootstrap(len(table), f1), "exact": mean(table[:, 1:].sum(1) == 0)}


def splitters() -> dict[str, Splitter]:
    """Return our splitter and the libraries that are installed; theirs are told the language."""
    found: dict[str, Splitter] = {"split_sentences": lambda _, text: [text[a:b] for a, b in split_sentences(text)]}
    try:
        import sentencex

        found["sentencex"] = lambda language, text: list(sentencex.segment(language, text))
    except ImportError:
        pass
    try:
        import pysbd
        from pysbd.languages import LANGUAGE_CODES

        found["pysbd"] = lambda language, text: pysbd.Segmenter(
            language=language if language in LANGUAGE_CODES else "en", clean=False
        ).segment(text)
    except ImportError:
        pass
    return found


def measure_sentences(report: Report) -> None:
    """Measure sentence boundaries, beside the libraries that are installed."""
    for part in ("tuning", "heldout"):
        rows = report.sample(read_rows(f"sentences_{part}.txt"))
        for name, split in splitters().items():
            scores = boundary_scores(rows, split)
            report.add(TASK, f"sentences, {part}", name, len(rows), scores, tuned=part == "tuning")


def measure(report: Report) -> None:
    sides = {
        side: (report.data / "multi30k" / f"test_2016_flickr.{side}").read_text(encoding="utf-8").splitlines()
        for side in ("en", "fr")
    }
    english, french = (list(side) for side in zip(*report.sample(zip(*sides.values(), strict=True)), strict=True))
    there: Any = pipeline("translation_en_to_pt", ENGLISH_PORTUGUESE.name)
    back: Any = pipeline("translation_pt_to_en", PORTUGUESE_ENGLISH.name)
    measure_facts(report, {"en": there, "pt": back})
    measure_sentences(report)
    half = [answer["translation_text"] for answer in there(english)]
    found = [answer["translation_text"] for answer in back(half)]
    report.add(TASK, MULTI30K, "Marian tiny11, en-pt-en", len(found), bleu_scores(found, english))
    pipe: Any = pipeline("translation_en_to_fr", SMOLLM2.name)
    found = [answer["translation_text"] for answer in pipe(english[:200], max_new_tokens=64)]
    report.add(TASK, MULTI30K, "SmolLM2-135M, prompt, en-fr", len(found), bleu_scores(found, french[:200]))
