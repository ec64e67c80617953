"""Typed questions with a probability for each answer: /v1/decisions (OpenAI) and /v1/systemone (the reference)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....pipelines.decision import openai, systemone
from ....pipelines.decision.fields import InvalidField
from ....pipelines.decision.prompted import LABELS, PromptedDecision
from ...body import Body, read_body
from ...disconnects import while_connected
from ...errors import ApiError, capitalize
from ...models.answers import answer
from ...models.choice import model_for
from ...notices import notice_headers
from ...responses import json_response
from ...routing import route
from ...state import state_of


class DecisionsBody(Body):
    """Body of /v1/decisions. `pipelines.decision.openai` reads the fields."""

    model: Any = None
    input: Any = None
    questions: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    safety_identifier: Any = None


class SystemOneBody(Body):
    """Body of /v1/systemone. `pipelines.decision.systemone` reads the fields."""

    model: Any = None
    state: Any = None
    questions: Any = None
    assets: Any = None


async def decisions(request: Request) -> Response:
    """Answer questions about a text or a conversation."""
    body = await read_body(request, DecisionsBody)
    return await decide(request, read(openai.read_request, body), {})


async def system_one(request: Request) -> Response:
    """Answer questions about a state; language models choose among labels, as the reference's do."""
    body = await read_body(request, SystemOneBody)
    return await decide(request, read(systemone.read_request, body), {"scoring": LABELS})


def read(reader: Callable[[Mapping[str, Any]], Any], body: Body) -> Any:
    """Return a request. Raises ApiError with the name of the field that is wrong."""
    try:
        return reader(body.model_dump(exclude_unset=True))
    except InvalidField as error:
        raise ApiError(capitalize(str(error)), param=error.param or None) from None


async def decide(request: Request, asked: Any, prompted: Mapping[str, Any]) -> Response:
    """Return the response to a request. `prompted`: options of language models."""
    model = await model_for(state_of(request).models, asked.model, "decision")
    pipe = model.pipeline("decision")
    options = prompted if isinstance(pipe, PromptedDecision) else {}
    found = await while_connected(request, answer(model, pipe, [asked.input], options))
    content = asked.answer(found.answers[0]["answers"], found.metadata.tokens)
    return json_response({**content, "model": asked.model or model.id}, headers=notice_headers(found.metadata))


def system_one_error(error: ApiError) -> JSONResponse:
    """Return an error as the reference's server does: 422 with the place of a field that is wrong."""
    if error.status != 400 or error.param is None:
        return JSONResponse({"detail": str(error)}, error.status, error.headers)
    place = ["body", *error.param.replace("[", ".").replace("]", "").split(".")]
    return JSONResponse({"detail": [{"loc": place, "msg": str(error), "type": "value_error"}]}, 422, error.headers)


ROUTES = [
    route("/v1/decisions", decisions, bodies=[DecisionsBody]),
    route("/v1/systemone", system_one, shape=system_one_error, bodies=[SystemOneBody]),
]
