"""Metrics of generated text, all in 0..100: exact match and F1 of SQuAD, BLEU and chrF, ROUGE."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ...errors import InvalidInput
from ..optional_packages import optional
from .metrics import Scores

Answers = str | Sequence[str] | Mapping[str, Any]
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def question_answering(predictions: Sequence[str], references: Sequence[Answers]) -> Scores:
    """Compute exact match and word F1, the best over the answers of a question (SQuAD 2: arXiv:1806.03822).

    Args:
        predictions: one answer a question; `""` means no answer.
        references: correct answers of each question: a list, one text, or SQuAD's
            `{"text": [...], "answer_start": [...]}`. An empty list means that the question has no answer.

    Returns:
        `exact_match` and `f1`; if some questions have an answer and some have none, also
        `has_answer_exact_match`, `has_answer_f1` and `no_answer_accuracy`.
    """
    _check_pairs(predictions, references)
    answered: list[tuple[float, float]] = []
    unanswerable: list[tuple[float, float]] = []
    for prediction, right in zip(predictions, references, strict=True):
        row = answer_scores(prediction, right)
        (answered if row.has_answer else unanswerable).append((row.exact_match, row.f1))
    result = _means("exact_match", "f1", answered + unanswerable)
    if answered and unanswerable:
        result |= _means("has_answer_exact_match", "has_answer_f1", answered)
        result["no_answer_accuracy"] = 100 * sum(exact for exact, _ in unanswerable) / len(unanswerable)
    return result


class AnswerScores(NamedTuple):
    """Exact match and word F1 of one answer, from 0 to 1, and whether its question has an answer."""

    exact_match: float
    f1: float
    has_answer: bool


def answer_scores(prediction: str, right: Answers) -> AnswerScores:
    """Score one answer as `question_answering` does."""
    golds = [words for gold in _texts(right) if (words := _words(gold))]
    own = _words(prediction)
    exact = float(max(own == gold for gold in golds or [[]]))
    return AnswerScores(exact, max(_word_f1(own, gold) for gold in golds or [[]]), bool(golds))


def translation(predictions: Sequence[str], references: Sequence[str | Sequence[str]], tokenize: str = "13a") -> Scores:
    """Compute corpus BLEU and chrF (sacreBLEU: arXiv:1804.08771).

    Args:
        predictions: one translation a row.
        references: one text or several texts for each row; their number may differ.
        tokenize: tokenizer of sacreBLEU: "13a"; "zh", "ja-mecab", "ko-mecab" or "char" for languages without
            spaces.

    Returns:
        `bleu` and `chrf`.
    """
    return {
        each.name: each.score(np.asarray(each.rows, dtype=float).sum(0))
        for each in translation_statistics(predictions, references, tokenize)
    }


@dataclass(frozen=True)
class CorpusStatistics:
    """Counts of n-grams that add up to a metric of a corpus.

    Args:
        rows: counts of each row (rows, k). score: the metric of their sum (k,).
    """

    name: str
    rows: list[list[float]]
    score: Callable[[Any], float]


def translation_statistics(
    predictions: Sequence[str], references: Sequence[str | Sequence[str]], tokenize: str = "13a"
) -> list[CorpusStatistics]:
    """Return the statistics of BLEU and chrF; the arguments are those of `translation`."""
    _check_pairs(predictions, references)
    bleu = optional("sacrebleu.metrics.bleu", "sacrebleu", "BLEU").BLEU(tokenize=tokenize)
    chrf = optional("sacrebleu.metrics.chrf", "sacrebleu", "chrF").CHRF()
    rows = [_texts(right) for right in references]
    if not all(rows):
        raise InvalidInput("A translation has no reference to compare it with; leave that row out.")
    streams = [list(stream) for stream in zip_longest(*rows)]

    def statistics(name: str, metric: Any) -> CorpusStatistics:
        counts = metric._extract_corpus_statistics(list(predictions), streams)
        return CorpusStatistics(
            name, counts, lambda sums: float(metric._compute_score_from_stats([int(n) for n in sums]).score)
        )

    return [statistics("bleu", bleu), statistics("chrf", chrf)]


def summarization(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    stemmer: bool = True,
    words: Callable[[str], list[str]] | None = None,
) -> Scores:
    """Compute ROUGE: F1 of words, of bigrams and of the longest common subsequence (rouge-score, mean over texts).

    `rougeLsum` compares line by line: both sides must have one sentence a line, as the highlights of CNN/DailyMail. For
    texts without line breaks it equals `rougeL`.

    Args:
        predictions: one summary a row.
        references: one text for each row, or several texts, of which each metric takes the best.
        stemmer: compare English stems.
        words: function that splits a text; the default of rouge-score keeps only a-z and 0-9.

    Returns:
        `rouge1`, `rouge2`, `rougeL`, `rougeLsum`.
    """
    rows = rouge_rows(predictions, references, stemmer=stemmer, words=words)
    return {name: 100 * sum(row[name] for row in rows) / len(rows) for name in ROUGE}


def rouge_rows(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    stemmer: bool = True,
    words: Callable[[str], list[str]] | None = None,
) -> list[Scores]:
    """Return ROUGE of each row, from 0 to 1; the arguments are those of `summarization`."""
    _check_pairs(predictions, references)
    scoring = optional("rouge_score.rouge_scorer", "rouge_score", "ROUGE")
    scorer = scoring.RougeScorer(
        list(ROUGE), use_stemmer=stemmer, tokenizer=None if words is None else SimpleNamespace(tokenize=words)
    )
    rows = (
        scorer.score_multi([_lines(text) for text in _texts(right)] or [""], _lines(prediction))
        for prediction, right in zip(predictions, references, strict=True)
    )
    return [{name: float(row[name].fmeasure) for name in ROUGE} for row in rows]


def repetition(text: str, n: int = 4) -> float:
    """Return the share of word n-grams that occurred earlier in the text (Welleck et al., 2020, arXiv:1908.04319).

    NaN for a text of fewer than `n` words.
    """
    words = text.split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else math.nan


def _lines(text: str) -> str:
    """Return a text with uniform line breaks."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _texts(right: Answers) -> list[str]:
    if isinstance(right, Mapping):
        right = right["text"]
    return [right] if isinstance(right, str) else list(right)


def _words(text: str) -> list[str]:
    """Return the words of a text as SQuAD compares them: lowercase, without ASCII punctuation and articles."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _word_f1(words: Sequence[str], gold: Sequence[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    same = sum((Counter(words) & Counter(gold)).values())
    return 2 * same / (len(words) + len(gold))


def _means(first: str, second: str, rows: Sequence[tuple[float, float]]) -> Scores:
    return {name: 100 * sum(row[i] for row in rows) / len(rows) for i, name in enumerate((first, second))}


def _check_pairs(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    if isinstance(predictions, str) or isinstance(references, str):
        raise InvalidInput("Predictions and references are lists of texts, one for each row, not one text.")
    if len(predictions) != len(references) or not len(predictions):
        raise InvalidInput(
            f"{len(predictions)} predictions and {len(references)} references: one reference for each prediction is "
            "needed, and at least one row."
        )
