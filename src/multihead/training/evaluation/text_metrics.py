"""How good written answers are: SQuAD's exact match and F1, BLEU and chrF, ROUGE. All of them lie in 0..100."""

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
    """Exact match and F1 of words, the best over a question's answers (SQuAD 2: arXiv:1806.03822).

    Args:
        predictions: an answer each; `""` says that there is none.
        references: for each question the answers that are right: a list, one text, or SQuAD's own
            `{"text": [...], "answer_start": [...]}`. None at all: the question has no answer.

    Returns:
        `exact_match` and `f1`; where some questions have an answer and some have none, also
        `has_answer_exact_match`, `has_answer_f1` and `no_answer_accuracy`.
    """
    _paired(predictions, references)
    answered: list[tuple[float, float]] = []
    unanswerable: list[tuple[float, float]] = []
    for said, right in zip(predictions, references, strict=True):
        golds = [words for gold in _texts(right) if (words := _words(gold))]
        mine = _words(said)
        exact = float(max(mine == gold for gold in golds or [[]]))
        score = max(_overlap(mine, gold) for gold in golds or [[]])
        (answered if golds else unanswerable).append((exact, score))
    result = _means("exact_match", "f1", answered + unanswerable)
    if answered and unanswerable:
        result |= _means("has_answer_exact_match", "has_answer_f1", answered)
        result["no_answer_accuracy"] = 100 * sum(exact for exact, _ in unanswerable) / len(unanswerable)
    return result


def translation(predictions: Sequence[str], references: Sequence[str | Sequence[str]], tokenize: str = "13a") -> Scores:
    """BLEU and chrF of all texts together (sacreBLEU: arXiv:1804.08771).

    Args:
        predictions: a translation each.
        references: one text, or several, for each. Their number may differ.
        tokenize: how sacreBLEU splits words: "13a"; "zh", "ja-mecab", "ko-mecab" or "char" for languages that write
            no spaces.

    Returns:
        `bleu` and `chrf`.
    """
    _paired(predictions, references)
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
    """ROUGE: F1 of words, of pairs of words and of the longest common sequence (rouge-score, the mean over texts).

    `rougeLsum` compares line by line: both sides must have each sentence on its own line, as CNN/DailyMail's
    highlights have. A text without line ends is one sentence, and the value that of `rougeL`.

    Args:
        predictions: a summary each.
        references: one text for each, or several, of which each measure takes the best.
        stemmer: compares English stems.
        words: how a text is split, instead of the measure's own way, which knows a-z and 0-9 only.

    Returns:
        `rouge1`, `rouge2`, `rougeL`, `rougeLsum`.
    """
    _paired(predictions, references)
    scoring = optional("rouge_score.rouge_scorer", "rouge_score", "ROUGE")
    scorer = scoring.RougeScorer(
        list(ROUGE), use_stemmer=stemmer, tokenizer=None if words is None else SimpleNamespace(tokenize=words)
    )
    rows = [
        scorer.score_multi([_lines(text) for text in _texts(right)] or [""], _lines(said))
        for said, right in zip(predictions, references, strict=True)
    ]
    return {name: 100 * sum(float(row[name].fmeasure) for row in rows) / len(rows) for name in ROUGE}


def _lines(text: str) -> str:
    """A text whose lines end in one way."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _texts(right: Answers) -> list[str]:
    if isinstance(right, Mapping):
        right = right["text"]
    return [right] if isinstance(right, str) else list(right)


def _words(text: str) -> list[str]:
    """Words as SQuAD compares them: without case, ASCII punctuation and articles."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _overlap(mine: Sequence[str], gold: Sequence[str]) -> float:
    if not mine or not gold:
        return float(mine == gold)
    same = sum((Counter(mine) & Counter(gold)).values())
    return 2 * same / (len(mine) + len(gold))


def _means(first: str, second: str, rows: Sequence[tuple[float, float]]) -> Scores:
    return {name: 100 * sum(row[i] for row in rows) / len(rows) for i, name in enumerate((first, second))}


def _paired(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    if isinstance(predictions, str) or isinstance(references, str):
        raise InvalidInput("Predictions and references are lists of texts, one for each row, not one text.")
    if len(predictions) != len(references) or not len(predictions):
        raise InvalidInput(
            f"{len(predictions)} predictions and {len(references)} references: one reference for each prediction is "
            "needed, and at least one row."
        )
