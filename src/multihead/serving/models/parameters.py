"""Parameters of a pipeline's call from a request: their types, their bounds, and what only Python may give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ...errors import nearest
from ...pipelines.base import Pipeline
from ...pipelines.generation_base import FIELDS, GenerationPipeline
from ..errors import ApiError
from ..settings import ServerSettings

PYTHON_ONLY: Mapping[str, str] = {
    **dict.fromkeys(("batch_size", "token_budget", "progress"), "the server makes the batches of all requests"),
    **dict.fromkeys(("return_tensors", "streamer", "stopping_criteria", "logits_processor"), "it needs Python"),
    **dict.fromkeys(("assistant_model", "assistant_tokenizer", "reranker"), "it is a model of the process's own"),
    "generation_config": "send its fields as parameters of their own",
    "generation": "send its fields as parameters of their own",
    "use_cache": "a server always has a cache", "compile_config": "a server always runs its own code",
}  # fmt: skip
ANY_TYPES: Mapping[str, Any] = {  # of options that a pipeline types as Any
    "candidate_labels": str | list[str], "targets": str | list[str], "calibration": bool,
    "documents": list[str | dict[str, Any]], "tools": list[dict[str, Any]], "retriever": str,
    "tokenizer_kwargs": dict[str, Any], "tokenize_kwargs": dict[str, Any],
}  # fmt: skip
LARGEST = 2**31 - 1
MOST: Mapping[str, int] = {  # values from which a request costs far more than its length says
    "num_beams": 64, "num_beam_groups": 64, "max_new_tokens": 1 << 17, "max_length": 1 << 17, "passages": 256,
    "top_k": 1 << 20, "max_answer_len": 4096, "max_seq_len": 1 << 15, "max_question_len": 1 << 15,
}  # fmt: skip


def checked_parameters(pipe: Pipeline, given: Mapping[str, Any], settings: ServerSettings) -> dict[str, Any]:
    """Return options of a pipeline's call. Raises ApiError with the name of what is wrong or only Python may give."""
    options: Any = type(pipe).Options
    known = own_options(options)
    more = FIELDS if isinstance(pipe, GenerationPipeline) else frozenset()
    most = {**MOST, "num_return_sequences": settings.max_n}
    for name, value in given.items():
        param = f"parameters.{name:.80}"
        if name in PYTHON_ONLY:
            raise ApiError(f"{param} cannot be sent: {PYTHON_ONLY[name]}.", param=param, code="unsupported_parameter")
        if name not in known and name not in more:
            names = sorted((known.keys() | more) - PYTHON_ONLY.keys())
            raise ApiError(
                f"{pipe.task} has no parameter {name!r:.80}. {nearest(name, names)}", param=param,
                code="unknown_parameter",
            )  # fmt: skip
        if name in known:
            check_type(known[name], value, param)
        largest = most.get(name, LARGEST)
        if isinstance(value, (int, float)) and not -LARGEST <= value <= largest:
            raise ApiError(f"{param} is {value}, and may be {largest} at most.", param=param)
    return dict(given)


@cache
def own_options(options: Any) -> Mapping[str, TypeAdapter[Any]]:
    """Return the options of a class of pipelines that a request may set, with what checks their types."""
    hints = get_type_hints(options)
    strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
    names = [each.name for each in fields(options) if each.name not in PYTHON_ONLY]
    return {name: TypeAdapter(ANY_TYPES.get(name, hints[name]) | None, config=strict) for name in names}


def check_type(adapter: TypeAdapter[Any], value: Any, param: str) -> None:
    """Raise ApiError for a value of another type."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        message = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
        raise ApiError(f"{param}: {message}.", param=param) from None
