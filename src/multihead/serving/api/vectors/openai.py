"""/v1/embeddings (OpenAI), with vLLM's further fields."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ...body import Body, read_body
from ...disconnects import while_connected
from ...errors import ApiError
from ...models.choice import model_for
from ...models.embedding import Embeddings, embed
from ...models.embedding_inputs import EmbeddingOptions, input_type_prompt
from ...responses import json_response, to_base64, to_numbers
from ...routing import route
from ...state import state_of
from .inputs import read_texts_or_ids


class EmbeddingRequest(Body):
    """Body of /v1/embeddings.

    Args:
        truncate_prompt_tokens: tokens where a longer text is cut; -1 for the model's limit. Default: it is refused.
        truncation_side: the side that is cut. add_special_tokens: to texts.
        prompt_name: of the text that the checkpoint puts before each text. input_type: Cohere's name of one.
    """

    NEUTRAL: ClassVar = {
        "embed_dtype": ("float32",), "endianness": ("native", "little"), "priority": (0,), "use_activation": (True,),
    }  # fmt: skip
    NOT_COMPUTED: ClassVar = {
        "messages": "embeddings are computed of texts; send `input`.",
        "late_chunking_params": "late chunking is not computed.",
    }
    input: Any
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None
    truncate_prompt_tokens: int | None = Field(None, ge=-1)
    truncation_side: Literal["left", "right"] | None = None
    add_special_tokens: bool = True
    prompt_name: str | None = None
    input_type: str | None = None


async def create_embeddings(request: Request) -> Response:
    body = await read_body(request, EmbeddingRequest)
    state = state_of(request)
    texts = read_texts_or_ids(body.input, state.settings.max_inputs)
    model = await model_for(state.models, body.model, "sentence-similarity")
    if body.prompt_name is not None and body.input_type is not None:
        raise ApiError("input_type is another name of prompt_name: send one of them.", param="input_type")
    cut = body.truncate_prompt_tokens
    if cut == 0:
        raise ApiError(
            "truncate_prompt_tokens is a number of tokens from 1, or -1 for the model's limit.",
            param="truncate_prompt_tokens",
        )
    options = EmbeddingOptions(
        dimensions=body.dimensions, side=body.truncation_side, special=body.add_special_tokens,
        truncate=0 if cut == -1 else cut,
        prompt_name=body.prompt_name or input_type_prompt(model, body.input_type),
    )  # fmt: skip

    name = body.model or model.id

    async def answer() -> Response:
        found = await embed(model, texts, options)
        return await model.batcher.in_thread(lambda: embedding_list(found, name, body.encoding_format))

    return await while_connected(request, answer())


def embedding_list(found: Embeddings, name: str, encoding: str) -> Response:
    """Return embeddings in OpenAI's shape."""
    vectors = to_base64(found.rows) if encoding == "base64" else to_numbers(found.rows)
    data = [{"object": "embedding", "index": number, "embedding": vector} for number, vector in enumerate(vectors)]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return json_response({"object": "list", "data": data, "model": name, "usage": usage})


ROUTES = [
    route(path, create_embeddings, bodies=[EmbeddingRequest]) for path in ("/v1/embeddings", "/embeddings")
]  # fmt: skip
