"""/v1/chat/completions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...body import read_body
from ...disconnects import while_connected
from ...errors import openai_error
from ...generation.chat import count_prompt, start_chat
from ...generation.respond import stream_response
from ...request_info import cache_salt
from ...routing import route
from ...state import state_of
from .chat_answer import ChatAnswer
from .chat_body import ChatBody
from .errors import error_event


async def chat_completions(request: Request) -> Response:
    body = await read_body(request, ChatBody)
    model = await state_of(request).models.get(body.model)
    asked = body.chat_request(model, cache_salt(request, body.cache_salt))
    answer = ChatAnswer(body, asked, await start_chat(request, model, asked))
    if not body.stream:
        return JSONResponse(await while_connected(request, answer.whole()))
    return await stream_response(answer.chat.generation, answer.chunks(), error_event)


async def input_tokens(request: Request) -> Response:
    """Return the number of tokens of a conversation's prompt, as llama.cpp does."""
    body = await read_body(request, ChatBody)
    model = await state_of(request).models.get(body.model)
    return JSONResponse({"input_tokens": await count_prompt(model, body.chat_request(model, b""))})


ROUTES = [
    route("/v1/chat/completions", chat_completions, shape=openai_error, bodies=[ChatBody]),
    route("/v1/chat/completions/input_tokens", input_tokens, shape=openai_error, bodies=[ChatBody]),
]
