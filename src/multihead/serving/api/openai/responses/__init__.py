"""/v1/responses, without a state on the server: each request has the whole conversation."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....body import read_body
from ....disconnects import while_connected
from ....errors import openai_error
from ....generation.chat import count_prompt, start_chat
from ....generation.respond import stream_response
from ....generation.sampling import Sampling
from ....request_info import cache_salt
from ....routing import route
from ....state import state_of
from .answer import ResponseAnswer
from .body import InputBody, ResponsesBody
from .events import ResponseEvents


async def responses(request: Request) -> Response:
    body = await read_body(request, ResponsesBody)
    model = await state_of(request).models.get(body.model)
    asked = body.chat_request(model, cache_salt(request, body.cache_salt))
    answer = ResponseAnswer(body, await start_chat(request, model, asked))
    if not body.stream:
        return JSONResponse(await while_connected(request, answer.whole()))
    events = ResponseEvents(answer)
    return await stream_response(answer.chat.generation, events.all(), events.failed)


async def input_tokens(request: Request) -> Response:
    """Return the number of tokens of a prompt."""
    body = await read_body(request, InputBody)
    model = await state_of(request).models.get(body.model)
    count = await count_prompt(model, body.conversation(model, Sampling()))
    return JSONResponse({"object": "response.input_tokens", "input_tokens": count})


ROUTES = [
    route("/v1/responses", responses, shape=openai_error, bodies=[ResponsesBody]),
    route("/v1/responses/input_tokens", input_tokens, shape=openai_error, bodies=[InputBody]),
]
