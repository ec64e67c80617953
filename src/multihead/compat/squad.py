"""Metrics of answers to questions, as SQuAD counts them: exact match, and F1 over words (arXiv:1606.05250)."""

from __future__ import annotations

import re
import string
from collections import Counter

ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(s: str) -> str:
    """Return a text in small letters, without punctuation, articles and double spaces."""
    plain = "".join(character for character in s.lower() if character not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", plain).split())


def get_tokens(s: str) -> list[str]:
    """Return the words of a normalized text."""
    return normalize_answer(s).split() if s else []


def compute_exact(a_gold: str, a_pred: str) -> int:
    """Return 1 for equal normalized texts, else 0."""
    return int(normalize_answer(a_gold) == normalize_answer(a_pred))


def compute_f1(a_gold: str, a_pred: str) -> float:
    """Return F1 over words; of texts without words, 1 where both have none."""
    gold, found = get_tokens(a_gold), get_tokens(a_pred)
    if not gold or not found:
        return int(gold == found)
    shared = sum((Counter(gold) & Counter(found)).values())
    if not shared:
        return 0
    precision, recall = shared / len(found), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
