"""Scores of documents for a query, and of pairs of texts, by a reranker or a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import nn

from ...pipelines.similarity import CrossRanking, RankingPipeline
from ...sentences.cross import CrossEncoder
from ..errors import ApiError
from .answers import Answered, answer
from .served_model import ServedModel

_unscaled: WeakKeyDictionary[ServedModel, CrossRanking] = WeakKeyDictionary()


@dataclass
class Ranking:
    """Documents of a query.

    Args:
        order: numbers of the documents, best first; those that say nothing to the model are left out.
        scores: number -> score.
    """

    order: Sequence[int]
    scores: dict[int, float]
    answered: Answered


async def rank(
    model: ServedModel, query: str, documents: Sequence[str], *, truncation: bool = True, logits: bool = False
) -> Ranking:
    """Return the documents by how well they match a query.

    Args:
        truncation: False refuses what is too long. logits: a reranker's scores before its activation.
    """
    found = await rank_all(model, [(query, documents)], truncation=truncation, logits=logits)
    return found[0]


async def rank_all(
    model: ServedModel, groups: Sequence[tuple[str, Sequence[str]]], *, truncation: bool = True, logits: bool = False
) -> list[Ranking]:
    """Return the same for several queries, each with its documents."""
    pipe = unscaled_ranking(model) if logits else ranking(model)
    items = [{"query": query, "documents": list(documents)} for query, documents in groups]
    answered = await answer(model, pipe, items, {"return_documents": False, "truncation": truncation})
    found = []
    for rows in answered.answers:
        order = [row["corpus_id"] for row in rows]
        found.append(Ranking(order, {row["corpus_id"]: row["score"] for row in rows}, answered))
    return found


def ranking(model: ServedModel) -> RankingPipeline:
    """Return the pipeline that ranks with a model. Raises ApiError if there is none."""
    pipe = model.pipeline("text-ranking")
    assert isinstance(pipe, RankingPipeline)
    return pipe


def unscaled_ranking(model: ServedModel) -> RankingPipeline:
    """Return the same with a reranker's logits as scores. The cosines of a sentence encoder have no other form."""
    pipe = ranking(model)
    if not isinstance(pipe, CrossRanking):
        return pipe
    if model not in _unscaled:
        encoder = CrossEncoder(pipe.encoder.model, pipe.tokenizer, activation_fn=nn.Identity())
        _unscaled[model] = CrossRanking(encoder, pipe.tokenizer, "text-ranking")
    return _unscaled[model]


async def pair_scores(
    model: ServedModel, firsts: Sequence[str], seconds: Sequence[str], truncation: bool
) -> tuple[list[float], Answered]:
    """Return the score of each pair: of one text with each of several, or of as many texts, pair by pair.

    Raises:
        ApiError: other numbers of texts, or a text that says nothing to the model.
    """
    if len(firsts) == 1:
        groups = [(firsts[0], seconds)]
    elif len(firsts) == len(seconds):
        groups = [(first, [second]) for first, second in zip(firsts, seconds, strict=True)]
    else:
        raise ApiError(
            f"There are {len(firsts)} first and {len(seconds)} second texts: send one first text, or as many of both.",
            param="text_1",
        )
    found = await rank_all(model, groups, truncation=truncation)
    scores: list[float] = []
    for ranking_, (_, documents) in zip(found, groups, strict=True):
        if missing := [number for number in range(len(documents)) if number not in ranking_.scores]:
            raise ApiError(
                f"Text {len(scores) + missing[0]} says nothing to the model: {documents[missing[0]][:80]!r}."
            )
        scores += [ranking_.scores[number] for number in range(len(documents))]
    return scores, found[0].answered
