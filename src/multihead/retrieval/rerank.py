"""Second scores of the best documents, by a model that reads each document together with the query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InvalidInput
from ..sentences.cross import CrossEncoder

Reranker = CrossEncoder | Callable[..., Any]


def rerank_hits(reranker: Reranker, query: str, hits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return results ordered by a second score. "similarity" stays, or becomes the first score.

    Args:
        reranker: a `CrossEncoder`, or a text-ranking pipeline.

    Raises:
        InvalidInput: it gives no score for each document.
    """
    if not hits:
        return []
    texts = [hit["text"] for hit in hits]
    if isinstance(reranker, CrossEncoder):
        ranked = reranker.rank(query, texts)
    else:
        ranked = reranker({"query": query, "documents": texts}, top_k=None)
    try:
        scores = {row["corpus_id"]: float(row["score"]) for row in ranked}
        pairs = [(scores[place], hit) for place, hit in enumerate(hits)]
    except (TypeError, KeyError, ValueError) as error:
        raise InvalidInput(
            f"rerank must be a CrossEncoder or a text-ranking pipeline, which give each document a score: {error!r}."
        ) from error
    pairs.sort(key=lambda pair: -pair[0])
    return [{"similarity": hit["score"], **hit, "score": score} for score, hit in pairs]
