"""Every task of the library in the shapes of Hugging Face's inference interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ....errors import nearest
from ....pipelines.answers import Metadata
from ....pipelines.catalog import canonical_name
from ....sentences.encoder import SentenceEncoder
from ...disconnects import while_connected
from ...errors import ApiError
from ...models.answers import answer
from ...models.embedding import embed
from ...models.embedding_inputs import EmbeddingOptions
from ...models.served_model import ServedModel
from ...notices import notice_headers
from ...responses import json_response, to_base64, to_numbers
from ...state import state_of
from ..vectors.inputs import read_texts
from .body import InferenceBody
from .generation import generate, generate_parameters, is_generation
from .parameters import pipeline_options, with_retriever

Shape = Callable[[Any], Any]
KEYS: Mapping[str, Sequence[str]] = {  # task -> keys of an input; rows of a pipeline may have others, requests may not
    "question-answering": ("question", "context", "documents"),
    "retrieval-augmented-generation": ("question", "documents"),
    "table-question-answering": ("table", "query", "question"),
    "sentence-similarity": ("source_sentence", "sentences"),
    "text-ranking": ("query", "documents"),
    "text-classification": ("text", "text_pair"),
}
RECORDS = ("summarization", "translation", "text2text-generation")  # a list of texts has a flat list of records


def ranked_labels(found: Any) -> Any:
    """Return labels with their scores as the hub does."""
    return [{"label": name, "score": score} for name, score in zip(found["labels"], found["scores"], strict=True)]


SHAPES: Mapping[str, Shape] = {"zero-shot-classification": ranked_labels}


async def answer_task(request: Request, model: ServedModel, task: str, body: InferenceBody) -> Response:
    """Return the answer of a model to a request. Raises ApiError."""
    name = canonical_name(task)
    if name == "feature-extraction" and isinstance(model.model, SentenceEncoder):
        return await sentence_embeddings(request, model, body)
    state = state_of(request)
    given = body.given()
    if name == "text-generation" and isinstance(body.inputs, str) and (body.stream or is_generation(given)):
        return await generate(request, model, body.inputs, generate_parameters(given), bool(body.stream))
    if body.stream:
        raise ApiError("stream is of text-generation from one text.", param="stream", code="unsupported_parameter")
    if name == "feature-extraction":
        given = feature_parameters(given)
    pipe = model.pipeline(task)
    items, single = items_of(name, body.inputs, state.settings.max_inputs)
    options = await with_retriever(name, pipe, pipeline_options(name, pipe, given, state), state)
    found = await while_connected(request, answer(model, pipe, items, options))
    shape = SHAPES.get(name, lambda each: each)
    answers = [shape(each) for each in found.answers]
    if not single and name in RECORDS and all(isinstance(each, list) and len(each) == 1 for each in answers):
        answers = [each[0] for each in answers]
    content = answers[0] if single else answers
    # a single text's labels are a list of lists, as the hub returns them
    content = [content] if single and name == "text-classification" else content
    return await model.batcher.in_thread(lambda: render(content, found.metadata))


def render(content: Any, metadata: Metadata) -> Response:
    return json_response(content, headers=notice_headers(metadata))


def items_of(task: str, inputs: Any, most: int) -> tuple[list[Any], bool]:
    """Return the items of a request, and whether it has one alone, not in a list. Raises ApiError."""
    chat = task == "text-generation" and isinstance(inputs, list) and inputs and isinstance(inputs[0], dict)
    if not isinstance(inputs, list) or chat:
        return several_questions(task, inputs), True
    if not inputs:
        raise ApiError("inputs is an empty list.", param="inputs")
    if len(inputs) > most:
        raise ApiError(f"inputs has {len(inputs)} inputs, and a request takes at most {most}.", param="inputs")
    items = [several_questions(task, each)[0] for each in inputs]
    return items, False


def several_questions(task: str, item: Any) -> list[Any]:
    """Return an item in a list. Raises ApiError for unknown keys, and for documents by paths: no file is read."""
    if isinstance(item, dict):
        unknown = next((key for key in item if key not in KEYS.get(task, item)), None)
        if unknown is not None:
            raise ApiError(
                f"inputs.{unknown:.80} is not read by {task}. {nearest(unknown, KEYS[task])}",
                param=f"inputs.{unknown:.80}", code="unknown_parameter",
            )  # fmt: skip
        documents = item.get("documents")
        if documents is not None and not isinstance(documents, list):
            raise ApiError("inputs.documents is a list of texts.", param="inputs.documents")
        if task == "table-question-answering" and "question" in item and "query" not in item:
            item = {**{key: value for key, value in item.items() if key != "question"}, "query": item["question"]}
    return [item]


def feature_parameters(given: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of hidden states. Raises ApiError for those of sentence embeddings."""
    for name in ("normalize", "prompt_name", "dimensions", "truncation_direction", "encoding_format"):
        if given.get(name) is not None:
            raise ApiError(
                f"{name} is of sentence embeddings, and this model gives the hidden states of each token. Name a "
                "sentence encoder.", param=name, code="unsupported_parameter",
            )  # fmt: skip
    given = dict(given)
    if "truncate" in given:
        given["truncation"] = given.pop("truncate")
    return given


async def sentence_embeddings(request: Request, model: ServedModel, body: InferenceBody) -> Response:
    """Return one embedding a text."""
    given = body.given()
    known = {"normalize": bool, "prompt_name": str, "truncate": bool, "truncation_direction": str, "dimensions": int,
             "encoding_format": str}  # fmt: skip
    for name, value in given.items():
        if name not in known:
            raise ApiError(
                f"feature-extraction by a sentence encoder has no parameter {name!r:.80}; it has "
                f"{', '.join(known)}.", param=f"parameters.{name:.80}", code="unknown_parameter",
            )  # fmt: skip
        if type(value) is not known[name]:
            raise ApiError(f"{name} must be of type {known[name].__name__}.", param=name)
    side = check_choice(given, "truncation_direction", ("left", "right"))
    encoding = check_choice(given, "encoding_format", ("float", "base64"))
    texts = read_texts(body.inputs, state_of(request).settings.max_inputs, "inputs")
    options = EmbeddingOptions(
        normalize=given.get("normalize"), prompt_name=given.get("prompt_name"), dimensions=given.get("dimensions"),
        truncate=0 if given.get("truncate") else None, side=side,
    )  # fmt: skip

    async def work() -> Response:
        found = await embed(model, texts, options)
        write = to_base64 if encoding == "base64" else to_numbers
        return await model.batcher.in_thread(lambda: json_response(write(found.rows)))

    return await while_connected(request, work())


def check_choice(given: Mapping[str, Any], name: str, values: tuple[str, ...]) -> str | None:
    """Return one of several words, in lower case; None if it is not given. Raises ApiError."""
    value = given.get(name)
    if value is None:
        return None
    if value.lower() not in values:
        raise ApiError(f"{name} is {' or '.join(values)}, not {value!r:.80}.", param=name)
    return str(value.lower())
