"""/api/chat and /api/generate."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...body import read_body
from ...disconnects import while_connected
from ...generation.chat import Chat, start_chat
from ...generation.prompts import text_prompts
from ...generation.request import GenerationRequest
from ...generation.respond import stream_response
from ...generation.sampling import generation_request, longest_prompt
from ...generation.stream import start
from ...models.served_model import ServedModel
from ...parsers import OutputParser
from ...request_info import cache_salt, info_of
from ...routing import route
from ...sse import LINES
from ...state import state_of
from .answer import Answer, ChatShape, GenerateShape, Shape
from .body import GenerateBody, OllamaBody, OllamaChatBody
from .errors import error_line, ollama_error


async def chat(request: Request) -> Response:
    body = await read_body(request, OllamaChatBody)
    begin = time.monotonic()
    model = await loaded(request, body)
    shape = ChatShape()
    if not body.messages:
        return only_loaded(body, shape)
    asked = body.chat_request(model, cache_salt(request))
    return await respond(request, body, Answer(shape, await start_chat(request, model, asked), begin))


async def generate(request: Request) -> Response:
    body = await read_body(request, GenerateBody)
    begin = time.monotonic()
    model = await loaded(request, body)
    shape = GenerateShape()
    if not body.prompt:
        return only_loaded(body, shape)
    if body.raw or model.tokenizer.chat_template is None:
        body.check_raw()
        started = await start_raw(request, model, body, body.prompt)
    else:
        started = await start_chat(request, model, body.chat_request(model, cache_salt(request)))
    return await respond(request, body, Answer(shape, started, begin))


async def loaded(request: Request, body: OllamaBody) -> ServedModel:
    """Return the model of a request, which stays loaded as long as the request says. Raises ApiError."""
    seconds, models = body.keep_seconds, state_of(request).models
    model = await models.get(body.name)
    if body.keep_alive is not None:
        models.keep(body.name, seconds)
    return model


def only_loaded(body: OllamaBody, shape: Shape) -> Response:
    """Return the answer to a request without a prompt, which loads a model or lets it go."""
    reason = "unload" if body.keep_seconds == 0 else "load"
    return JSONResponse(shape.record(body.model, shape.text(), done=True, done_reason=reason))


async def start_raw(request: Request, model: ServedModel, body: GenerateBody, prompt: str) -> Chat:
    """Begin to continue a prompt as it is. Raises ApiError."""
    sampling = body.sampling(model, cache_salt(request))

    def make() -> list[GenerationRequest]:
        ids = text_prompts(model, [prompt], longest_prompt(model, sampling))[0]
        return [generation_request(model, ids, sampling)]

    return Chat(model, await start(model, info_of(request), 1, make), [OutputParser()], True)


async def respond(request: Request, body: OllamaBody, answer: Answer) -> Response:
    if body.stream is False:
        return JSONResponse(await while_connected(request, answer.whole()))
    return await stream_response(answer.chat.generation, answer.lines(), error_line, comments=False, media_type=LINES)


ROUTES = [
    route("/api/chat", chat, shape=ollama_error, bodies=[OllamaChatBody]),
    route("/api/generate", generate, shape=ollama_error, bodies=[GenerateBody]),
]
