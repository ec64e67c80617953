"""Ollama's embeddings."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ...body import Body, read_body
from ...disconnects import while_connected
from ...models.embedding import embed
from ...models.embedding_inputs import EmbeddingOptions
from ...responses import json_response, to_numbers
from ...routing import route
from ...state import state_of
from .errors import ollama_error
from .inputs import read_texts

NOT_COMPUTED = {"keep_alive": "the server's idle_timeout says when a model is unloaded."}
NEUTRAL: dict[str, tuple[Any, ...]] = {"options": ({},)}


class EmbedBody(Body):
    """Body of /api/embed; a text that is too long is cut unless `truncate` is false, as Ollama does."""

    NOT_COMPUTED: ClassVar = NOT_COMPUTED
    NEUTRAL: ClassVar = NEUTRAL
    model: str
    input: Any
    truncate: bool = True
    dimensions: int | None = Field(None, ge=1)


class EmbeddingsBody(Body):
    """Body of /api/embeddings, the older form: one text, whose embedding is not scaled."""

    NOT_COMPUTED: ClassVar = NOT_COMPUTED
    NEUTRAL: ClassVar = NEUTRAL
    model: str
    prompt: str


async def create_embeddings(request: Request) -> Response:
    body, begin = await read_body(request, EmbedBody), time.perf_counter_ns()
    state = state_of(request)
    texts = read_texts(body.input, state.settings.max_inputs)
    model = await state.models.get(body.model)
    loaded = time.perf_counter_ns()
    options = EmbeddingOptions(dimensions=body.dimensions, normalize=True, truncate=0 if body.truncate else None)

    async def answer() -> Response:
        found = await embed(model, texts, options)
        content = {
            "model": body.model, "embeddings": to_numbers(found.rows), "prompt_eval_count": found.tokens,
            "total_duration": time.perf_counter_ns() - begin, "load_duration": loaded - begin,
        }  # fmt: skip
        return await model.batcher.in_thread(lambda: json_response(content))

    return await while_connected(request, answer())


async def create_embedding(request: Request) -> Response:
    body = await read_body(request, EmbeddingsBody)
    model = await state_of(request).models.get(body.model)
    found = await while_connected(request, embed(model, [body.prompt], EmbeddingOptions(truncate=0)))
    return json_response({"embedding": found.rows[0].tolist()})


ROUTES = [
    route("/api/embed", create_embeddings, shape=ollama_error, bodies=[EmbedBody]),
    route("/api/embeddings", create_embedding, shape=ollama_error, bodies=[EmbeddingsBody]),
]
