"""Request bodies: JSON read under a limit, checked by pydantic models that refuse every field they do not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import from_json
from starlette.requests import Request

from ..errors import nearest
from .errors import ApiError

T = TypeVar("T", bound="Body")
KINDS = frozenset({"str", "int", "float", "bool", "none", "dict", "list"})


class Body(BaseModel):
    """Base of request bodies.

    Class attributes:
        NOT_COMPUTED: field -> why a value other than null is refused. Such a field is no attribute.
        NEUTRAL: field -> values that change nothing and are therefore accepted; others are refused.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False
    )
    NOT_COMPUTED: ClassVar[Mapping[str, str]] = {}
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for name, why in cls.NOT_COMPUTED.items():
            if data.pop(name, None) is not None:
                raise ApiError(f"{name}: {why}", param=name, code="unsupported_parameter")
        for name, values in cls.NEUTRAL.items():
            value = data.pop(name, None)
            # by type too, since 0 == False
            if value is not None and not any(type(value) is type(one) and value == one for one in values):
                known = ", ".join(map(repr, values))
                raise ApiError(
                    f"{name}={value!r:.80} has no effect here and is refused. Leave it out, or send one of: {known}.",
                    param=name, code="unsupported_value",
                )  # fmt: skip
        return data


async def read_body(request: Request, kind: type[T]) -> T:
    """Return the body of a request. Raises ApiError with the name of a field that is wrong or not computed.

    The limit of its size is kept by `middleware.limits`.
    """
    raw = await request.body()
    return parse_body(raw, kind)


def parse_body(raw: bytes, kind: type[T]) -> T:
    """Return a body from JSON. Raises ApiError."""
    try:
        if b"NaN" in raw or b"Infinity" in raw:  # no JSON, but pydantic takes them where a field is `Any`
            from_json(raw, allow_inf_nan=False)
        body = kind.model_validate_json(raw)
        json.loads(raw, object_pairs_hook=check_unique)  # pydantic takes the last of several values
        return body
    except ValidationError as error:
        raise first_error(error, kind) from None
    except ValueError as error:
        raise ApiError(f"The body is not JSON: {error}.", code="invalid_json") from None


def check_unique(pairs: list[tuple[str, Any]]) -> None:
    """Raise ApiError for a field that an object of the body has twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ApiError(f"{twice!r:.80} stands twice in one object; give it once.", param=twice, code="duplicate_field")


def first_error(error: ValidationError, kind: type[BaseModel]) -> ApiError:
    """Return the first fault that pydantic found as an error that names its field."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    # of a union, the fault of the kind that was sent says more than "must be a text" of another one
    same = [fault for fault in faults if fault["loc"][:1] == faults[0]["loc"][:1]]
    found = next((fault for fault in same if not fault["type"].endswith("_type")), faults[0])
    # the other parts are the kinds of a union, which no field is called
    path = [part for part in found["loc"] if isinstance(part, int) or (part.isidentifier() and part not in KINDS)]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    if found["type"] == "json_invalid":
        return ApiError(f"The body is not JSON: {found['msg']}.", code="invalid_json")
    if found["type"] == "extra_forbidden":
        hint = nearest(str(found["loc"][-1]), kind.model_fields) if len(found["loc"]) == 1 else ""
        return ApiError(
            f"{param} is not a field of this request. {hint}".strip(), param=param, code="unknown_parameter"
        )
    message = found["msg"].removeprefix("Value error, ")
    return ApiError(f"{param or 'The body'}: {message}.".replace("..", "."), param=param or None)
