"""Cohere's embeddings and tokens, versions 1 and 2."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ....sentences.quantization import quantize_embeddings
from ...body import Body, read_body
from ...disconnects import while_connected
from ...errors import ApiError
from ...models.choice import model_for
from ...models.embedding import Embeddings, embed
from ...models.embedding_inputs import EmbeddingOptions, input_type_prompt
from ...responses import json_response, to_base64, to_numbers
from ...routing import route
from ...state import state_of
from .errors import cohere_error
from .inputs import read_texts
from .tokens import decode_ids

TYPES = ("float", "base64", "binary", "ubinary")


class TextContent(Body):
    type: Literal["text"]
    text: str


class EmbedInput(Body):
    content: list[TextContent] = Field(min_length=1, max_length=1)


class EmbedBody(Body):
    """Body of /v1/embed and /v2/embed.

    Args:
        truncate: "END" and "START" cut the end or the start of a text that is too long; "NONE" refuses it.
        max_tokens: tokens where a text is cut.
    """

    NEUTRAL: ClassVar = {"priority": (0,)}
    NOT_COMPUTED: ClassVar = {"images": "images are not read; send `texts`."}
    model: str | None = None
    texts: list[Any] | None = None
    inputs: list[EmbedInput] | None = None
    input_type: str | None = None
    embedding_types: list[str] | None = None
    output_dimension: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    truncate: Literal["NONE", "START", "END"] = "END"

    def read(self, most: int) -> list[str]:
        """Return the texts. Raises ApiError for none, or for both `texts` and `inputs`."""
        if (self.texts is None) == (self.inputs is None):
            raise ApiError("Send `texts`, a list of texts (or `inputs`, but not both).", param="texts")
        given = self.texts if self.inputs is None else [each.content[0].text for each in self.inputs]
        return read_texts(given, most, "texts" if self.inputs is None else "inputs")

    def check_types(self) -> list[str]:
        """Return the types of embeddings. Raises ApiError for one that is not computed."""
        for name in self.embedding_types or ():
            if name in ("int8", "uint8"):
                raise ApiError(
                    f"embedding_types: {name} needs the ranges of a collection's numbers, which one request does not "
                    "have. Ask for float, and quantize the collection (multihead.quantize_embeddings).",
                    param="embedding_types", code="unsupported_value",
                )  # fmt: skip
            if name not in TYPES:
                raise ApiError(
                    f"embedding_types has {name!r:.80}; it takes {', '.join(TYPES)}.", param="embedding_types"
                )
        return self.embedding_types or ["float"]


async def create_embeddings(request: Request) -> Response:
    body = await read_body(request, EmbedBody)
    state = state_of(request)
    texts, kinds = body.read(state.settings.max_inputs), body.check_types()
    model = await model_for(state.models, body.model, "sentence-similarity")
    cut = body.max_tokens if body.max_tokens is not None else None if body.truncate == "NONE" else 0
    options = EmbeddingOptions(
        dimensions=body.output_dimension, truncate=cut, side="left" if body.truncate == "START" else "right",
        prompt_name=input_type_prompt(model, body.input_type),
    )  # fmt: skip
    by_type = body.embedding_types is not None or request.url.path.endswith("/v2/embed")

    async def answer() -> Response:
        found = await embed(model, texts, options)
        return await model.batcher.in_thread(lambda: embed_response(found, texts, kinds, by_type))

    return await while_connected(request, answer())


def embed_response(found: Embeddings, texts: list[str], kinds: list[str], by_type: bool) -> Response:
    """Return embeddings in Cohere's shape: by their types, or as one list."""
    vectors: Any = {kind: typed(found, kind) for kind in kinds}
    return json_response({
        "id": secrets.token_hex(16), "response_type": "embeddings_by_type" if by_type else "embeddings_floats",
        "embeddings": vectors if by_type else vectors["float"], "texts": texts,
        "meta": {
            "api_version": {"version": "2" if by_type else "1"}, "billed_units": {"input_tokens": found.tokens},
            "tokens": {"input_tokens": found.tokens},
        },
    })  # fmt: skip


def typed(found: Embeddings, kind: str) -> Any:
    """Return the embeddings of one type."""
    if kind == "base64":
        return to_base64(found.rows)
    return to_numbers(found.rows if kind == "float" else np.asarray(quantize_embeddings(found.rows, kind)))


class TokenizeBody(Body):
    text: str
    model: str | None = None


class DetokenizeBody(Body):
    tokens: list[int]
    model: str | None = None


async def tokenize(request: Request) -> Response:
    body = await read_body(request, TokenizeBody)
    model = await state_of(request).models.get(body.model)
    ids = await model.batcher.in_thread(lambda: model.tokenizer.encode_ids([body.text], special=False)[0])
    strings = model.tokenizer.convert_ids_to_tokens(list(ids))
    return json_response({"tokens": ids, "token_strings": strings, "meta": {"api_version": {"version": "1"}}})


async def detokenize(request: Request) -> Response:
    body = await read_body(request, DetokenizeBody)
    model = await state_of(request).models.get(body.model)
    text = await model.batcher.in_thread(lambda: decode_ids(model, body.tokens, False))
    return json_response({"text": text, "meta": {"api_version": {"version": "1"}}})


ROUTES = [
    route("/v2/embed", create_embeddings, shape=cohere_error, bodies=[EmbedBody]),
    route("/v1/embed", create_embeddings, shape=cohere_error, bodies=[EmbedBody]),
    route("/v1/tokenize", tokenize, shape=cohere_error, bodies=[TokenizeBody]),
    route("/v1/detokenize", detokenize, shape=cohere_error, bodies=[DetokenizeBody]),
]  # fmt: skip
