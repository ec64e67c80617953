"""Metrics of generated text, all in 0..100: exact match and F1 of SQuAD, BLEU and chrF, ROUGE."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any

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
        golds = [words for gold in _texts(right) if (words := _words(gold))]
        own = _words(prediction)
        exact = float(max(own == gold for gold in golds or [[]]))
        score = max(_word_f1(own, gold) for gold in golds or [[]])
        (answered if golds else unanswerable).append((exact, score))
    result = _means("exact_match", "f1", answered + unanswerable)
    if answered and unanswerable:
        result |= _means("has_answer_exact_match", "has_answer_f1", answered)
        result["no_answer_accuracy"] = 100 * sum(exact for exact, _ in unanswerable) / len(unanswerable)
    return result


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
    _check_pairs(predictions, references)
    bleu = optional("sacrebleu.metrics.bleu", "sacrebleu", "BLEU")
    chrf = optional("sacrebleu.metrics.chrf", "sacrebleu", "chrF")
    rows = [_texts(right) for right in references]
    if not all(rows):
        raise InvalidInput("A translation has no reference to compare it with; leave that row out.")
    streams = [list(stream) for stream in zip_longest(*rows)]
    return {
        "bleu": float(bleu.BLEU(tokenize=tokenize).corpus_score(list(predictions), streams).score),
        "chrf": float(chrf.CHRF().corpus_score(list(predictions), streams).score),
    }


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
    _check_pairs(predictions, references)
    scoring = optional("rouge_score.rouge_scorer", "rouge_score", "ROUGE")
    scorer = scoring.RougeScorer(
        list(ROUGE), use_stemmer=stemmer, tokenizer=None if words is None else SimpleNamespace(tokenize=words)
    )
    rows = [
        scorer.score_multi([_lines(text) for text in _texts(right)] or [""], _lines(prediction))
        for prediction, right in zip(predictions, references, strict=True)
    ]
    return {name: 100 * sum(float(row[name].fmeasure) for row in rows) / len(rows) for name in ROUGE}


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
