"""/apply-template (llama.cpp): the prompt of a conversation as text."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...body import read_body
from ...generation.chat import conversation_ids
from ...routing import route
from ...state import state_of
from .chat_body import ChatBody


async def apply_template(request: Request) -> Response:
    body = await read_body(request, ChatBody)
    model = await state_of(request).models.get(body.model)
    ids = await asyncio.to_thread(conversation_ids, model, body.chat_request(model, b""))
    return JSONResponse({"prompt": model.tokenizer.decode(ids)})


ROUTES = [route("/apply-template", apply_template, bodies=[ChatBody])]
