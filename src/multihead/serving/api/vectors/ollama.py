"""Ollama's embeddings."""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ...body import Body, read_body
from ...disconnects import while_connected
from ...errors import ApiError
from ...models.embedding import embed
from ...models.embedding_inputs import EmbeddingOptions
from ...models.served_model import ServedModel
from ...responses import json_response, to_numbers
from ...routing import route
from ...state import state_of
from ..ollama.durations import seconds_of
from ..ollama.errors import ollama_error
from .inputs import read_texts


class LoadedBody(Body):
    """Fields of both forms.

    Args:
        options: `num_ctx` is the number of tokens that are read of a text; no other one changes an embedding.
        keep_alive: how long the model stays loaded, in seconds or as "5m".
    """

    model: str
    options: dict[str, Any] | None = None
    keep_alive: str | float | None = None

    @property
    def context(self) -> int | None:
        """Tokens that are read of a text. Raises ApiError for other options."""
        given = {name: value for name, value in (self.options or {}).items() if value is not None}
        context = given.pop("num_ctx", None)
        if given:
            name = f"options.{next(iter(given)):.80}"
            raise ApiError(f"{name} changes no embedding; leave it out.", param=name, code="unsupported_parameter")
        if context is not None and (type(context) is not int or context < 1):
            raise ApiError("options.num_ctx is a number of tokens from 1.", param="options.num_ctx")
        return context

    async def loaded(self, request: Request) -> ServedModel:
        """Return the model, which stays loaded as long as the request says. Raises ApiError."""
        models, seconds = state_of(request).models, seconds_of(self.keep_alive)
        model = await models.get(self.model)
        if self.keep_alive is not None:
            models.keep(self.model, seconds)
        return model


class EmbedBody(LoadedBody):
    """Body of /api/embed; a text that is too long is cut unless `truncate` is false, as Ollama does."""

    input: Any
    truncate: bool = True
    dimensions: int | None = Field(None, ge=1)


class EmbeddingsBody(LoadedBody):
    """Body of /api/embeddings, the older form: one text, whose embedding is not scaled."""

    prompt: str


async def create_embeddings(request: Request) -> Response:
    body, begin = await read_body(request, EmbedBody), time.perf_counter_ns()
    state = state_of(request)
    texts = read_texts(body.input, state.settings.max_inputs)
    context = body.context
    model = await body.loaded(request)
    loaded = time.perf_counter_ns()
    options = EmbeddingOptions(
        dimensions=body.dimensions, normalize=True, truncate=(context or 0) if body.truncate else None, most=context
    )

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
    options = EmbeddingOptions(truncate=body.context or 0)
    model = await body.loaded(request)
    found = await while_connected(request, embed(model, [body.prompt], options))
    return json_response({"embedding": found.rows[0].tolist()})


ROUTES = [
    route("/api/embed", create_embeddings, shape=ollama_error, bodies=[EmbedBody]),
    route("/api/embeddings", create_embedding, shape=ollama_error, bodies=[EmbeddingsBody]),
]
