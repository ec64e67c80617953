"""/v1/completions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...body import read_body
from ...disconnects import while_connected
from ...errors import openai_error
from ...generation.request import GenerationRequest
from ...generation.respond import stream_response
from ...generation.sampling import generation_request, longest_prompt
from ...generation.stream import start
from ...request_info import cache_salt, info_of
from ...routing import route
from ...state import state_of
from .completion_answer import CompletionAnswer
from .completion_body import CompletionBody
from .errors import error_event


async def completions(request: Request) -> Response:
    body = await read_body(request, CompletionBody)
    model = await state_of(request).models.get(body.model)
    body.check(model.server.max_inputs, model.server.max_n)
    sampling = body.sampling(cache_salt(request, body.cache_salt))

    def make() -> list[GenerationRequest]:
        prompts = body.prompt_ids(model, longest_prompt(model, sampling))
        return [generation_request(model, prompt, sampling) for prompt in prompts]

    generation = await start(model, info_of(request), body.drafts * len(body.prompts), make)
    answer = CompletionAnswer(body, generation)
    if not body.stream:
        return JSONResponse(await while_connected(request, answer.whole()))
    return await stream_response(generation, answer.chunks(), error_event)


ROUTES = [route("/v1/completions", completions, shape=openai_error, bodies=[CompletionBody])]
