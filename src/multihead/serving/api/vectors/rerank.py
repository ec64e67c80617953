"""Reranking: Cohere's and Jina's shape, which vLLM shares, and on /rerank TEI's, which has `texts`."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ...body import Body, parse_body
from ...disconnects import while_connected
from ...errors import ApiError
from ...models.choice import model_for
from ...models.ranking import Ranking, rank
from ...models.served_model import ServedModel
from ...notices import notice_headers
from ...responses import json_response
from ...routing import route
from ...state import state_of
from .errors import cohere_error, rerank_error
from .inputs import check_count, has_field, json_name
from .tei import RERANK as TEI_RERANK


class RerankBody(Body):
    """Body of a rerank request.

    Args:
        top_n: documents, best first; default: all. max_tokens_per_doc: tokens of a document that are read at most.
        return_documents: adds the text of each document.
    """

    NEUTRAL: ClassVar = {"priority": (0,), "rank_fields": (["text"],), "truncation": (True,), "use_activation": (True,)}
    NOT_COMPUTED: ClassVar = {
        "max_chunks_per_doc": "a document is read up to the model's limit; split longer ones yourself.",
        "relevant_spans": "spans of documents are not computed.",
    }
    query: str
    documents: list[Any] = Field(min_length=1)
    model: str | None = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    max_tokens_per_doc: int | None = Field(None, ge=1)
    user: str | None = None


async def rerank(request: Request) -> Response:
    body = parse_body(await request.body(), RerankBody)
    state = state_of(request)
    check_count(body.documents, state.settings.max_inputs, "documents")
    documents = [document_text(each, number) for number, each in enumerate(body.documents)]
    model = await model_for(state.models, body.model, "text-ranking")

    async def answer() -> Ranking:
        read = documents
        if body.max_tokens_per_doc is not None:
            most = body.max_tokens_per_doc
            read = await model.batcher.in_thread(lambda: first_tokens(model, documents, most))
        return await rank(model, body.query, read)

    found = await while_connected(request, answer())
    return rerank_response(found, body, documents, body.model or model.id)


def rerank_response(found: Ranking, body: RerankBody, documents: list[str], name: str) -> Response:
    """Return a ranking in the shape that Cohere, Jina and vLLM share."""
    results: list[dict[str, Any]] = []
    for number in found.order[: body.top_n]:
        text = {"document": {"text": documents[number]}} if body.return_documents else {}
        results.append({"index": number, "relevance_score": found.scores[number], **text})
    metadata = found.answered.metadata
    content = {
        "id": f"rerank-{secrets.token_hex(12)}", "model": name, "results": results,
        "usage": {"prompt_tokens": metadata.tokens, "total_tokens": metadata.tokens},
        "meta": {
            "api_version": {"version": "2"}, "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": metadata.tokens},
        },
    }  # fmt: skip
    return json_response(content, headers=notice_headers(metadata))


def document_text(document: Any, number: int) -> str:
    """Return the text of a document: a string, or {"text": ...}. Raises ApiError."""
    if isinstance(document, dict):
        unknown = next((name for name in document if name != "text"), None)
        if unknown is not None:
            raise ApiError(
                f"documents[{number}].{unknown:.80} is not read: a document is a text, or an object with `text` alone.",
                param=f"documents[{number}]", code="unknown_parameter",
            )  # fmt: skip
        document = document.get("text")
    if not isinstance(document, str):
        raise ApiError(
            f"documents[{number}] must be a text or {{\"text\": ...}}, not {json_name(document)}.",
            param=f"documents[{number}]",
        )  # fmt: skip
    return document


def first_tokens(model: ServedModel, texts: list[str], most: int) -> list[str]:
    """Return the part of each text that its first tokens are."""
    limits = {"max_length": most, "stride": 0, "strategy": "longest_first", "direction": "right"}
    encodings = model.tokenizer.run(texts, words=False, special=False, limits=limits)
    return [
        text[: encoding.offsets[-1][1]] if encoding.overflowing else text
        for text, encoding in zip(texts, encodings, strict=True)
    ]


RERANK = route("/v1/rerank", rerank, shape=rerank_error, bodies=[RerankBody])


async def rerank_either(request: Request) -> Response:
    """Answer /rerank in the shape of the body: TEI's has `texts`, all others have `documents`."""
    own = TEI_RERANK if has_field(await request.body(), "texts") else RERANK
    response: Response = await own.endpoint(request)
    return response


ROUTES = [
    route("/rerank", rerank_either, shape=rerank_error, others=[RERANK, TEI_RERANK]), RERANK,
    route("/v2/rerank", rerank, shape=cohere_error, bodies=[RerankBody]),
]  # fmt: skip
