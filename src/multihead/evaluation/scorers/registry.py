"""The scorer of each task."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import UnsupportedOption
from ...pipelines.catalog import canonical_name
from .base import Scorer
from .classification import ClassificationScorer, ZeroShotScorer
from .decisions import DecisionScorer
from .generated import SummaryScorer, TextScorer, TranslationScorer
from .language import LanguageScorer, MaskScorer
from .question_answering import DocumentScorer, QuestionScorer, TableScorer
from .ranking import RankingScorer, SimilarityScorer
from .tokens import TokenScorer

SCORERS: Mapping[str, type[Scorer]] = {
    "text-classification": ClassificationScorer,
    "zero-shot-classification": ZeroShotScorer,
    "decision": DecisionScorer,
    "token-classification": TokenScorer,
    "question-answering": QuestionScorer,
    "retrieval-augmented-generation": DocumentScorer,
    "table-question-answering": TableScorer,
    "fill-mask": MaskScorer,
    "summarization": SummaryScorer,
    "translation": TranslationScorer,
    "text2text-generation": TextScorer,
    "text-generation": LanguageScorer,
    "sentence-similarity": SimilarityScorer,
    "text-ranking": RankingScorer,
}


def scorer_class(task: str) -> type[Scorer]:
    """Return the scorer of a task by its name or an alias. Raises UnsupportedOption for one without right answers."""
    name = canonical_name(task)
    if name not in SCORERS:
        raise UnsupportedOption(
            f"{name} has no right answers to compare with. Evaluate its vectors by a task that uses them: "
            "sentence-similarity (pairs with a score) or text-ranking (queries with documents)."
        )
    return SCORERS[name]
