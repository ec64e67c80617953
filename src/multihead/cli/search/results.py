"""Results of a search: JSON lines, and a page on a terminal with bars and the best sentence of each document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ...pipelines.splitting import split_sentences
from ...retrieval.embedding import EmbeddingOptions, embed_texts
from ...retrieval.index import Index
from ...retrieval.vectors import unit_rows

BAR_WIDTH = 24  # characters of a full bar
SENTENCES = 64  # of a document that are compared with the query
SHOWN = 360  # characters of a document on a terminal
Hit = dict[str, Any]
Span = tuple[int, int]


def best_sentences(index: Index, query: Any, hits: Sequence[Hit]) -> list[Span]:
    """Return (start, end) of the sentence of each document that is most similar to a query.

    Args:
        query: vector (width,).
    """
    spans = [split_sentences(hit["text"])[:SENTENCES] or [(0, len(hit["text"]))] for hit in hits]
    texts = [hit["text"][start:end] for hit, own in zip(hits, spans, strict=True) for start, end in own]
    options = EmbeddingOptions(prompt=index.info.prompt, truncate_dim=index.info.truncate_dim)
    found = embed_texts(index.encoder, texts, options)
    scores = np.full(len(texts), -np.inf)
    scores[found.numbers] = unit_rows(found.vectors) @ unit_rows(query[None])[0]
    best, begin = [], 0
    for own in spans:
        best.append(own[int(np.argmax(scores[begin : begin + len(own)]))])
        begin += len(own)
    return best


def draw_results(console: Console, query: str, hits: Sequence[Hit], best: Sequence[Span]) -> None:
    """Print the documents of a query: rank, score with a bar, id, and the text around the best sentence."""
    console.print(Text(query, style="bold"))
    if not hits:
        console.print(Text("  nothing found", style="dim"))
    top = max([abs(hit["score"]) for hit in hits], default=1.0) or 1.0
    for rank, (hit, span) in enumerate(zip(hits, best, strict=True), 1):
        bar = "█" * round(BAR_WIDTH * max(hit["score"], 0.0) / max(top, 1.0 if "similarity" not in hit else top))
        head = Text(f"{rank:>3} {hit['score']:7.3f} ")
        head.append(f"{bar:<{BAR_WIDTH}} ", style="cyan")
        head.append(str(hit["id"]), style="dim")
        console.print(head)
        console.print(Padding(excerpt(hit["text"], span), (0, 0, 0, 4)))


def excerpt(text: str, span: Span) -> Text:
    """Return a text around a span, which is bold; "…" where something is left out."""
    start, end = span
    room = max(SHOWN - (end - start), 0)
    first = max(start - room // 3, 0)
    last = min(max(first + SHOWN, min(end, start + SHOWN)), len(text))
    first = text.rfind(" ", 0, first) + 1 if first else 0
    shown = Text("… " if first else "")
    shown.append(" ".join(text[first:start].split()) + (" " if text[first:start].strip() else ""))
    shown.append(" ".join(text[start : min(end, last)].split()), style="bold yellow")
    after = " ".join(text[min(end, last) : last].split())
    shown.append((" " if after else "") + after + (" …" if last < len(text) else ""))
    return shown


def result_entry(number: int, query: str, hits: Sequence[Hit], best: Sequence[Span] | None) -> dict[str, Any]:
    """Return a query with its results, as a line of JSON has them; with "best_sentence" if spans are given."""
    if best is not None:
        hits = [
            {**hit, "best_sentence": {"start": start, "end": end, "text": hit["text"][start:end]}}
            for hit, (start, end) in zip(hits, best, strict=True)
        ]
    return {"row": number, "query": query, "results": list(hits)}
