"""/v1/completions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...body import read_body
from ...disconnects import while_connected
from ...errors import openai_error
from ...generation.request import GenerationRequest
from ...generation.sampling import generation_request
from ...generation.stream import start
from ...request_info import cache_salt, info_of
from ...routing import route
from ...sse import EventStream
from ...state import state_of
from .completion_answer import CompletionAnswer
from .completion_body import CompletionBody
from .errors import error_event


async def completions(request: Request) -> Response:
    body = await read_body(request, CompletionBody)
    model = await state_of(request).models.get(body.model)
    settings = model.server
    body.check(settings.max_inputs, settings.max_n)
    sampling = body.sampling(cache_salt(request, body.cache_salt))

    def make() -> list[GenerationRequest]:
        return [generation_request(model, prompt, sampling) for prompt in body.prompt_ids(model)]

    generation = await start(model, info_of(request), body.drafts * len(body.prompts), make)
    answer = CompletionAnswer(body, generation)
    if not body.stream:
        return JSONResponse(await while_connected(request, answer.whole()))
    await generation.first(settings.keep_alive_interval)
    return EventStream(
        answer.chunks(), error_event, keep_alive=settings.keep_alive_interval, timeout=settings.request_timeout + 60
    )


ROUTES = [route("/v1/completions", completions, shape=openai_error, bodies=[CompletionBody])]
