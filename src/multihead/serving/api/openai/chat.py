"""/v1/chat/completions."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...body import read_body
from ...disconnects import while_connected
from ...errors import ApiError, openai_error
from ...generation.prompts import chat_prompt
from ...generation.request import GenerationRequest
from ...generation.sampling import new_tokens, sampling_config
from ...generation.stream import Generation
from ...models.served_model import ServedModel
from ...routing import route
from ...sse import DONE, EventStream, event
from ...state import state_of
from .sampling_fields import SamplingFields


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool | None = None


class ChatBody(SamplingFields):
    """Body of /v1/chat/completions."""

    NEUTRAL: ClassVar = {"store": (False,), "logprobs": (False,), "user": ()}
    model: str | None = None
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


async def chat_completions(request: Request) -> Response:
    body = await read_body(request, ChatBody)
    model = await state_of(request).models.get(body.model)
    generation = await start(model, body)
    if body.stream:
        settings = model.server
        await generation.first(settings.keep_alive_interval)
        return EventStream(
            stream_chunks(generation, model.id, body), lambda error: event(error_body(error)),
            keep_alive=settings.keep_alive_interval, timeout=settings.request_timeout + 60,
        )  # fmt: skip
    return JSONResponse(await while_connected(request, whole(generation, model.id)))


async def start(model: ServedModel, body: ChatBody) -> Generation:
    """Begin to generate. Raises ApiError."""
    engine, count = model.engine, body.n or 1
    slots = model.admission.enter(count)
    try:
        prompt = await asyncio.to_thread(chat_prompt, model, body.messages)
        options = {**body.sampling_options(), "max_new_tokens": new_tokens(model, len(prompt), body.limit)}
        made = GenerationRequest(prompt=prompt, config=sampling_config(model, options), n=count, stops=body.stops)
        return Generation(engine, model.tokenizer, [made], slots, model.server.request_timeout)
    except BaseException:
        slots.release()
        raise


async def whole(generation: Generation, name: str) -> dict[str, Any]:
    texts, reasons = dict[int, str](), dict[int, str]()
    async for delta in generation:
        texts[delta.index] = texts.get(delta.index, "") + delta.text
        if delta.finish is not None:
            reasons[delta.index] = delta.finish.reason
    choices = [
        {
            "index": index, "message": {"role": "assistant", "content": texts[index], "refusal": None},
            "logprobs": None, "finish_reason": reasons[index],
        }
        for index in sorted(texts)
    ]  # fmt: skip
    return {
        "id": new_id(), "object": "chat.completion", "created": generation.created, "model": name, "choices": choices,
        "usage": usage(generation),
    }  # fmt: skip


async def stream_chunks(generation: Generation, name: str, body: ChatBody) -> AsyncGenerator[str, None]:
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    head = {"id": new_id(), "object": "chat.completion.chunk", "created": generation.created, "model": name}
    more = {"usage": None} if with_usage else {}
    try:
        for index in range(body.n or 1):
            yield event({**head, "choices": [choice(index, {"role": "assistant", "content": ""})], **more})
        async for delta in generation:
            if delta.text:
                yield event({**head, "choices": [choice(delta.index, {"content": delta.text})], **more})
            if delta.finish is not None:
                yield event({**head, "choices": [choice(delta.index, {}, delta.finish.reason)], **more})
        if with_usage:
            yield event({**head, "choices": [], "usage": usage(generation)})
        yield DONE
    finally:
        generation.close()


def choice(index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def usage(generation: Generation) -> dict[str, Any]:
    prompt, completion = generation.prompt_tokens, generation.completion_tokens
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": generation.cached_tokens},
    }  # fmt: skip


def error_body(error: ApiError) -> dict[str, Any]:
    return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": error.code}}


def new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


ROUTES = [route("/v1/chat/completions", chat_completions, shape=openai_error)]
