"""Anthropic's interface: /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...body import read_body
from ...disconnects import while_connected
from ...generation.chat import count_prompt, start_chat
from ...generation.respond import stream_response
from ...request_info import cache_salt
from ...routing import route
from ...state import state_of
from .answer import MessageAnswer
from .body import ConversationBody, MessagesBody
from .errors import anthropic_error, error_event


async def messages(request: Request) -> Response:
    body = await read_body(request, MessagesBody)
    model = await state_of(request).models.get(body.model)
    answer = MessageAnswer(await start_chat(request, model, body.chat_request(model, cache_salt(request))))
    if not body.stream:
        return JSONResponse(await while_connected(request, answer.whole()))
    return await stream_response(answer.chat.generation, answer.events(), error_event)


async def count_tokens(request: Request) -> Response:
    body = await read_body(request, ConversationBody)
    model = await state_of(request).models.get(body.model)
    return JSONResponse({"input_tokens": await count_prompt(model, body.chat_request(model))})


ROUTES = [
    route("/v1/messages", messages, shape=anthropic_error, bodies=[MessagesBody]),
    route("/v1/messages/count_tokens", count_tokens, shape=anthropic_error, bodies=[ConversationBody]),
]
