"""Parameters of Hugging Face's inference interface as options of pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....pipelines.base import Pipeline
from ....pipelines.generation_base import FIELDS, GenerationPipeline
from ....pipelines.similarity import EmbeddingPipeline
from ...errors import ApiError
from ...models.choice import model_for
from ...models.embedding_inputs import encoder_of
from ...models.parameters import checked_parameters
from ...state import ServerState

TRUNCATION = {"do_not_truncate": False, "longest_first": True, "only_first": True}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {  # of the hub, where they are not the pipeline's
    "text-classification": {"top_k": None},
    "token-classification": {"aggregation_strategy": "simple"},
}
NEUTRAL: Mapping[str, tuple[Any, ...]] = {  # of tables: whether and how questions are batched changes no answer
    "padding": (True, False, "do_not_pad", "longest", "max_length"), "sequential": (True, False),
}  # fmt: skip


def pipeline_options(task: str, pipe: Pipeline, given: Mapping[str, Any], state: ServerState) -> dict[str, Any]:
    """Return options of a pipeline's call. Raises ApiError with the name of a parameter that is wrong."""
    given = dict(given)
    if task == "table-question-answering":
        given.pop("model", None)  # huggingface_hub repeats the address of the request there
        for name, values in NEUTRAL.items():
            if name in given and given.pop(name) not in values:
                raise ApiError(f"parameters.{name} can be {', '.join(map(str, values))}.", param=f"parameters.{name}")
        if isinstance(pipe, EmbeddingPipeline) and given.get("truncation") is False:
            del given["truncation"]
    if isinstance(pipe, GenerationPipeline):
        given = with_generate_parameters(given)
    truncation = given.get("truncation")
    if isinstance(truncation, str):
        if truncation not in TRUNCATION:
            raise ApiError(f"parameters.truncation can be {', '.join(TRUNCATION)}.", param="parameters.truncation")
        given["truncation"] = TRUNCATION[truncation]
    options = {**DEFAULTS.get(task, {}), **checked_parameters(pipe, given, state.settings)}
    if isinstance(pipe, GenerationPipeline) and "max_time" not in options:
        options["max_time"] = state.settings.request_timeout
    return options


def with_generate_parameters(given: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with those of `generate_parameters` beside the others. Raises ApiError."""
    inner = given.pop("generate_parameters", None) or {}
    if not isinstance(inner, dict):
        raise ApiError("parameters.generate_parameters is an object.", param="parameters.generate_parameters")
    for name in inner:
        if name not in FIELDS:
            raise ApiError(
                f"parameters.generate_parameters has no {name!r:.80}: it holds fields of a generation config.",
                param=f"parameters.generate_parameters.{name:.80}", code="unknown_parameter",
            )  # fmt: skip
        if name in given:
            raise ApiError(f"{name} is given twice, also in generate_parameters.", param=f"parameters.{name:.80}")
    return {**given, **{name: value for name, value in inner.items() if value is not None}}


async def with_retriever(task: str, pipe: Pipeline, options: dict[str, Any], state: ServerState) -> dict[str, Any]:
    """Return options whose retriever is a sentence encoder of this server: the one that is named, else the first.

    Raises:
        ApiError: there is no model of this name, or it is none.
    """
    own = getattr(type(pipe).Options, "__dataclass_fields__", {})
    if "retriever" not in own:
        return options
    name = options.pop("retriever", None)
    if name is None and task == "question-answering":  # judges passages by their words, unless one is named
        return options
    try:
        encoder = encoder_of(await model_for(state.models, name, "sentence-similarity"))
    except ApiError:
        if name is not None:
            raise
        return options  # the pipeline's own default
    return {**options, "retriever": encoder}
