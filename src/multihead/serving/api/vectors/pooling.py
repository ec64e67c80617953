"""vLLM's pooling interfaces: labels (/classify), scores of pairs (/score), vectors of any kind (/pooling)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ...body import Body, read_body
from ...disconnects import while_connected
from ...errors import ApiError
from ...models.answers import Answered, answer
from ...models.choice import model_for
from ...models.embedding import embed, token_states
from ...models.embedding_inputs import EmbeddingOptions
from ...models.ranking import pair_scores
from ...notices import notice_headers
from ...responses import json_response, to_base64, to_numbers
from ...routing import route
from ...state import state_of
from .inputs import read_texts, read_texts_or_ids


class PoolingFields(Body):
    """Fields of all three.

    Args:
        truncate_prompt_tokens: -1 cuts texts to the model's limit; default: what is too long is refused.
    """

    NEUTRAL: ClassVar = {"priority": (0,), "add_special_tokens": (True,)}
    model: str | None = None
    user: str | None = None
    truncate_prompt_tokens: int | None = Field(None, ge=-1)

    @property
    def truncation(self) -> bool:
        """Return whether texts are cut to the model's limit. Raises ApiError for another limit."""
        if self.truncate_prompt_tokens not in (None, -1):
            raise ApiError(
                "truncate_prompt_tokens is -1 here (the model's limit), or left out.", param="truncate_prompt_tokens",
                code="unsupported_value",
            )  # fmt: skip
        return self.truncate_prompt_tokens == -1


class ClassifyBody(PoolingFields):
    """Body of /classify. `use_activation` false returns logits."""

    input: Any
    use_activation: bool = True


class ScoreBody(PoolingFields):
    """Body of /score: one text with one or several, or as many of both. `queries` and `documents` are newer names."""

    NEUTRAL: ClassVar = {**PoolingFields.NEUTRAL, "use_activation": (True,)}
    text_1: Any = None
    text_2: Any = None
    queries: Any = None
    documents: Any = None
    data_1: Any = None
    data_2: Any = None

    def read(self, most: int) -> tuple[list[str], list[str]]:
        """Return both sides. Raises ApiError."""
        sides = []
        for names in (("text_1", "queries", "data_1"), ("text_2", "documents", "data_2")):
            given = [name for name in names if getattr(self, name) is not None]
            if len(given) != 1:
                raise ApiError(f"Send {names[0]} (or {' or '.join(names[1:])}), one of them.", param=names[0])
            sides.append(read_texts(getattr(self, given[0]), most, given[0]))
        return sides[0], sides[1]


class PoolingBody(PoolingFields):
    """Body of /pooling.

    Args:
        task: "token_embed" for the hidden states of each token, "embed" for one vector a text, "classify" for logits
            made probabilities.
    """

    input: Any
    task: Literal["token_embed", "embed", "classify"] = "token_embed"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)


async def classify(request: Request) -> Response:
    body = await read_body(request, ClassifyBody)
    state = state_of(request)
    texts = read_texts(body.input, state.settings.max_inputs)
    model = await model_for(state.models, body.model, "text-classification")
    pipe: Any = model.pipeline("text-classification")
    names = pipe.label_names if hasattr(pipe, "label_names") else list(pipe.labels)
    options: dict[str, Any] = {"top_k": None, "truncation": body.truncation}
    if not body.use_activation:
        options |= {"function_to_apply": "none"}
    found = await while_connected(request, answer(model, pipe, texts, options))
    rows = [
        {"index": number, "label": labels[0]["label"], "probs": in_order(labels, names), "num_classes": len(names)}
        for number, labels in enumerate(found.answers)
    ]
    return pooled("classify", body.model or model.id, rows, found)


def in_order(labels: Sequence[dict[str, Any]], names: Sequence[Any]) -> list[float]:
    """Return scores in the order of the model's labels."""
    scores = {each["label"]: each["score"] for each in labels}
    return [scores[name] for name in names]


async def score(request: Request) -> Response:
    body = await read_body(request, ScoreBody)
    state = state_of(request)
    firsts, seconds = body.read(state.settings.max_inputs)
    model = await model_for(state.models, body.model, "text-ranking")
    scores, found = await while_connected(request, pair_scores(model, firsts, seconds, body.truncation))
    rows = [{"index": number, "object": "score", "score": each} for number, each in enumerate(scores)]
    return pooled("score", body.model or model.id, rows, found)


async def pool(request: Request) -> Response:
    body = await read_body(request, PoolingBody)
    state = state_of(request)
    texts = read_texts_or_ids(body.input, state.settings.max_inputs)
    if body.task == "classify":
        return await pool_labels(request, body)
    model = await model_for(state.models, body.model, "sentence-similarity")
    options = EmbeddingOptions(truncate=0 if body.truncation else None, dimensions=body.dimensions)
    if body.task == "embed":
        found = await while_connected(request, embed(model, texts, options))
        vectors = list(found.rows)
        tokens = found.tokens
    else:
        if body.dimensions is not None:
            raise ApiError('dimensions needs task="embed": hidden states are whole.', param="dimensions")
        vectors, lengths, _ = await while_connected(request, token_states(model, texts, options))
        tokens = sum(lengths)
    name = body.model or model.id
    return await model.batcher.in_thread(lambda: pooling_response(vectors, body.encoding_format, name, tokens))


async def pool_labels(request: Request, body: PoolingBody) -> Response:
    """Return the probabilities of all labels, in the order of the model's labels."""
    state = state_of(request)
    if body.dimensions is not None:
        raise ApiError('dimensions needs task="embed".', param="dimensions")
    texts = read_texts(body.input, state.settings.max_inputs)
    model = await model_for(state.models, body.model, "text-classification")
    pipe: Any = model.pipeline("text-classification")
    names = pipe.label_names if hasattr(pipe, "label_names") else list(pipe.labels)
    options = {"top_k": None, "truncation": body.truncation}
    found = await while_connected(request, answer(model, pipe, texts, options))
    vectors = [np.array(in_order(labels, names), dtype=np.float32) for labels in found.answers]
    return pooling_response(vectors, body.encoding_format, body.model or model.id, found.metadata.tokens)


def pooling_response(vectors: Sequence[Any], encoding: str, name: str, tokens: int) -> Response:
    """Return vectors or matrices in the shape of /pooling."""
    values = [to_base64(each.reshape(1, -1))[0] if encoding == "base64" else to_numbers(each) for each in vectors]
    rows = [{"index": number, "object": "pooling", "data": value} for number, value in enumerate(values)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({
        "id": f"pool-{secrets.token_hex(12)}", "object": "list", "created": int(time.time()), "model": name,
        "data": rows, "usage": usage,
    })  # fmt: skip


def pooled(kind: str, name: str, rows: Sequence[Any], found: Answered) -> Response:
    """Return labels or scores in vLLM's shape."""
    tokens = found.metadata.tokens
    return json_response({
        "id": f"{kind}-{secrets.token_hex(12)}", "object": "list", "created": int(time.time()), "model": name,
        "data": rows, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }, headers=notice_headers(found.metadata))  # fmt: skip


ROUTES = [
    *(route(path, classify, bodies=[ClassifyBody]) for path in ("/classify", "/v1/classify")),
    *(route(path, score, bodies=[ScoreBody]) for path in ("/score", "/v1/score")),
    route("/pooling", pool, bodies=[PoolingBody]),
]  # fmt: skip
