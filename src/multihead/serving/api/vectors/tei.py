"""The interface of Hugging Face's Text Embeddings Inference. `model` is added: its servers have one model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from ...._version import __version__
from ...body import Body, read_body
from ...disconnects import while_connected
from ...errors import ApiError
from ...models.answers import answer
from ...models.batcher import Times
from ...models.choice import model_for
from ...models.embedding import embed, token_states
from ...models.embedding_inputs import EmbeddingOptions
from ...models.ranking import rank
from ...models.served_model import ServedModel
from ...notices import notice_headers
from ...responses import json_response, to_numbers
from ...routing import route
from ...state import state_of
from .errors import tei_error
from .inputs import check_count, read_texts, read_texts_or_ids

Direction = Literal["Left", "Right", "left", "right"]


class TruncatedBody(Body):
    """Fields of all requests that read texts.

    Args:
        truncate: reads the beginning of a text that is too long, instead of refusing it.
        truncation_direction: the side that is cut.
    """

    model: str | None = None
    truncate: bool = False
    truncation_direction: Direction | None = None

    def embedding_options(self, **more: Any) -> EmbeddingOptions:
        side = None if self.truncation_direction is None else self.truncation_direction.lower()
        return EmbeddingOptions(truncate=0 if self.truncate else None, side=side, **more)

    def check_direction(self, model: ServedModel) -> None:
        """Raise ApiError for a side that this task does not cut."""
        side = self.truncation_direction
        if side is not None and side.lower() != model.tokenizer.truncation_side:
            raise ApiError(
                f"truncation_direction={side!r} is not computed for this task: texts are cut at the "
                f"{model.tokenizer.truncation_side}.", param="truncation_direction", code="unsupported_value",
            )  # fmt: skip


class EmbedBody(TruncatedBody):
    inputs: Any
    prompt_name: str | None = None
    normalize: bool = True
    dimensions: int | None = None


class EmbedAllBody(TruncatedBody):
    inputs: Any
    prompt_name: str | None = None


class PredictBody(TruncatedBody):
    inputs: Any
    raw_scores: bool = False


class RerankBody(TruncatedBody):
    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False


class SimilarityInputs(Body):
    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Body):
    truncate: bool = False
    truncation_direction: Direction | None = None
    prompt_name: str | None = None


class SimilarityBody(Body):
    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None
    model: str | None = None


async def create_embeddings(request: Request) -> Response:
    body, begin = await read_body(request, EmbedBody), time.perf_counter()
    state = state_of(request)
    texts = read_texts_or_ids(body.inputs, state.settings.max_inputs, "inputs")
    model = await model_for(state.models, body.model, "sentence-similarity")
    options = body.embedding_options(
        normalize=body.normalize, dimensions=body.dimensions, prompt_name=body.prompt_name
    )  # fmt: skip
    found = await while_connected(request, embed(model, texts, options))
    headers = timing(model, begin, found.times, texts, found.tokens)
    return await model.batcher.in_thread(lambda: json_response(to_numbers(found.rows), headers=headers))


async def embed_all(request: Request) -> Response:
    body, begin = await read_body(request, EmbedAllBody), time.perf_counter()
    state = state_of(request)
    texts = read_texts_or_ids(body.inputs, state.settings.max_inputs, "inputs")
    model = await model_for(state.models, body.model, "sentence-similarity")
    options = body.embedding_options(prompt_name=body.prompt_name)
    rows, lengths, times = await while_connected(request, token_states(model, texts, options))
    headers = timing(model, begin, times, texts, sum(lengths))
    return await model.batcher.in_thread(lambda: json_response([own.tolist() for own in rows], headers=headers))


async def embed_sparse(request: Request) -> Response:
    raise ApiError(
        "Sparse embeddings need a checkpoint with a SPLADE head, and heads of this kind are not computed here. POST "
        "/embed returns dense ones.", code="unsupported_task",
    )  # fmt: skip


async def predict(request: Request) -> Response:
    body, begin = await read_body(request, PredictBody), time.perf_counter()
    state = state_of(request)
    items, single = read_sequences(body.inputs, state.settings.max_inputs)
    model = await model_for(state.models, body.model, "text-classification")
    body.check_direction(model)
    pipe = model.pipeline("text-classification")
    options: dict[str, Any] = {"top_k": None, "truncation": body.truncate}
    if body.raw_scores:
        options |= {"function_to_apply": "none"}
    found = await while_connected(request, answer(model, pipe, items, options))
    rows = [[{"score": each["score"], "label": each["label"]} for each in row] for row in found.answers]
    texts = [text for item in items for text in (item.values() if isinstance(item, dict) else (item,))]
    headers = {**timing(model, begin, found.times, texts, found.metadata.tokens), **notice_headers(found.metadata)}
    return json_response(rows[0] if single else rows, headers=headers)


def read_sequences(value: Any, most: int) -> tuple[list[Any], bool]:
    """Return texts or pairs of texts: of a text, a pair of texts as a list, or a list of lists of one or two.

    Raises:
        ApiError: anything else.
    """
    rows = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    check_count(rows, most, "inputs")
    items: list[Any] = []
    for number, row in enumerate(rows):
        texts = read_texts(row, 2, "inputs" if rows[0] is value else f"inputs[{number}]")
        items.append(texts[0] if len(texts) == 1 else {"text": texts[0], "text_pair": texts[1]})
    return items, rows[0] is value


async def rerank(request: Request) -> Response:
    body, begin = await read_body(request, RerankBody), time.perf_counter()
    state = state_of(request)
    texts = read_texts(body.texts, state.settings.max_inputs, "texts")
    model = await model_for(state.models, body.model, "text-ranking")
    body.check_direction(model)
    work = rank(model, body.query, texts, truncation=body.truncate, logits=body.raw_scores)
    found = await while_connected(request, work)
    rows = [
        {"index": number, **({"text": texts[number]} if body.return_text else {}), "score": found.scores[number]}
        for number in found.order
    ]
    metadata = found.answered.metadata
    headers = timing(model, begin, found.answered.times, [body.query, *texts], metadata.tokens)
    return json_response(rows, headers={**headers, **notice_headers(metadata)})


async def similarity(request: Request) -> Response:
    body, begin = await read_body(request, SimilarityBody), time.perf_counter()
    state = state_of(request)
    sentences = read_texts(body.inputs.sentences, state.settings.max_inputs, "inputs.sentences")
    model = await model_for(state.models, body.model, "sentence-similarity")
    given = body.parameters or SimilarityParameters()
    own = TruncatedBody(truncate=given.truncate, truncation_direction=given.truncation_direction)
    texts = [body.inputs.source_sentence, *sentences]
    found = await while_connected(
        request, embed(model, texts, own.embedding_options(prompt_name=given.prompt_name))
    )  # fmt: skip
    pipe: Any = model.pipeline("sentence-similarity")
    scores = pipe.encoder.similarity(found.rows[:1], found.rows[1:])[0].tolist()
    return json_response(scores, headers=timing(model, begin, found.times, texts, found.tokens))


async def info(request: Request) -> Response:
    """Describe the model that answers, and the limits of requests."""
    state = state_of(request)
    settings = state.settings
    model = await model_for(state.models, request.query_params.get("model"), "sentence-similarity")
    limit = model.tokenizer.limit
    return json_response({
        "model_id": model.settings.source, "model_sha": None, "model_dtype": model.pipe.precision,
        "model_type": model_type(model), "max_concurrent_requests": settings.max_queue,
        "max_input_length": limit, "max_batch_tokens": model.batcher.stats.budget, "max_batch_requests": None,
        "max_client_batch_size": settings.max_inputs, "auto_truncate": False, "tokenization_workers": 2,
        "version": __version__, "sha": None, "docker_label": None,
    })  # fmt: skip


def model_type(model: ServedModel) -> Mapping[str, Any]:
    """Return the kind of a model as TEI names it."""
    if model.task in ("text-classification", "zero-shot-classification", "text-ranking"):
        labels = model.config.id2label or {}
        entry = {
            "id2label": {str(number): name for number, name in labels.items()},
            "label2id": {name: number for number, name in labels.items()},
        }
        return {"reranker" if model.task == "text-ranking" else "classifier": entry}
    encoder: Any = getattr(model.pipe, "encoder", None)
    modes = encoder.steps[0].modes if hasattr(encoder, "steps") else ("mean",)
    return {"embedding": {"pooling": "_".join(modes)}}


def timing(
    model: ServedModel, begin: float, times: Times, texts: Sequence[Any], tokens: int
) -> dict[str, str]:  # fmt: skip
    """Return the headers that say what a request took, in milliseconds."""
    total = time.perf_counter() - begin
    parts = {"total": total, "tokenization": times.tokenization, "queue": times.queue, "inference": times.inference}
    characters = sum(len(text) for text in texts if isinstance(text, str))
    return {
        "x-compute-type": f"{model.pipe.device.type}+multihead", "x-compute-time": milliseconds(total),
        "x-compute-characters": str(characters), "x-compute-tokens": str(tokens),
        **{f"x-{name}-time": milliseconds(seconds) for name, seconds in parts.items()},
    }  # fmt: skip


def milliseconds(seconds: float) -> str:
    return str(round(1000 * seconds))


RERANK = route("/rerank", rerank, shape=tei_error, bodies=[RerankBody])  # `rerank.py` serves it beside Cohere's
ROUTES = [
    route("/embed", create_embeddings, shape=tei_error, bodies=[EmbedBody]),
    route("/embed_all", embed_all, shape=tei_error, bodies=[EmbedAllBody]),
    route("/embed_sparse", embed_sparse, shape=tei_error),
    route("/predict", predict, shape=tei_error, bodies=[PredictBody]),
    route("/similarity", similarity, shape=tei_error, bodies=[SimilarityBody]),
    route("/info", info, ("GET",), shape=tei_error),
]  # fmt: skip
