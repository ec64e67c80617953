"""Hugging Face's inference interface: POST /models/{id}, /models/{id}/pipeline/{task}, /pipeline/{task}, and /."""

from __future__ import annotations

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from ...body import read_body
from ...models.choice import model_for, task_of
from ...routing import route
from ...state import state_of
from ..openai.chat import chat_completions
from ..openai.chat_body import ChatBody
from .body import InferenceBody, checked_task
from .errors import inference_error
from .tasks import answer_task


async def by_model(request: Request) -> Response:
    """Answer with the model in the path, by its own task unless the shape of the inputs is of another one."""
    body = await read_body(request, InferenceBody)
    state = state_of(request)
    model = await state.models.get(request.path_params["name"])
    task = body.task(model.task) or model.task
    return await answer_task(request, model, task, body)


async def by_task(request: Request) -> Response:
    """Answer a task, with the model in the path if there is one."""
    task = checked_task(request.path_params["task"])
    body = await read_body(request, InferenceBody)
    model = await model_for(state_of(request).models, request.path_params.get("name"), task)
    return await answer_task(request, model, task, body)


async def by_shape(request: Request) -> Response:
    """Answer with the model that the inputs fit best; where any would do, with the first."""
    body = await read_body(request, InferenceBody)
    models = state_of(request).models
    first = models.resolve(None)
    task = body.task(await task_of(models, first))
    model = await models.get() if task is None else await model_for(models, None, task)
    return await answer_task(request, model, task or model.task, body)


async def chat_by_model(request: Request) -> Response:
    """Answer a conversation (OpenAI's shape) with the model in the path, as huggingface_hub asks with its address."""
    raw = await request.body()
    try:
        body = from_json(raw)
    except ValueError:
        body = None
    if isinstance(body, dict):  # anything else is refused by the handler
        raw = to_json({**body, "model": request.path_params["name"]})
    left = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> Message:
        return left.pop() if left else await request.receive()

    return await chat_completions(Request(request.scope, receive))


ROUTES = [
    route("/models/{name:path}/v1/chat/completions", chat_by_model, bodies=[ChatBody]),
    route("/models/{name:path}/pipeline/{task}", by_task, shape=inference_error, bodies=[InferenceBody]),
    route("/pipeline/{task}", by_task, shape=inference_error, bodies=[InferenceBody]),
    route("/models/{name:path}", by_model, shape=inference_error, bodies=[InferenceBody]),
    route("/", by_shape, shape=inference_error, bodies=[InferenceBody]),
]
