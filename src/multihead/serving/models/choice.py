"""The model that answers a request which names none: the first that was made for the task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from ...errors import MultiheadError
from ...pipelines.catalog import LANGUAGE_PAIR, canonical_name
from ..errors import ApiError
from ..settings import ModelSettings
from .registry import ModelRegistry
from .served_model import ServedModel
from .tasks import main_task

log = logging.getLogger("multihead.serving")
ENCODERS = ("sentence-similarity", "feature-extraction")
WRITERS = ("text2text-generation", "text-generation")
# task -> tasks of models that answer it too, the best first; its own models come before them
STAND_INS: Mapping[str, Sequence[str]] = {
    "text-classification": ("text-generation",),
    "zero-shot-classification": ("sentence-similarity", "text-generation"),
    "question-answering": WRITERS,
    "retrieval-augmented-generation": ("question-answering", "text-generation"),
    "table-question-answering": ("sentence-similarity", *WRITERS),
    "fill-mask": ("text2text-generation",),
    "summarization": WRITERS,
    "translation": WRITERS,
    "text2text-generation": ("translation", "summarization", "text-generation"),
    "feature-extraction": ("sentence-similarity",),
    "sentence-similarity": ("feature-extraction",),
    "text-ranking": ENCODERS,
    "decision": ("text-generation", "zero-shot-classification", "text-ranking", "sentence-similarity"),
}


async def model_for(models: ModelRegistry, name: str | None, task: str) -> ServedModel:
    """Return the model that a request names; for None the best one for a task. Raises ApiError."""
    if name is not None:
        return await models.get(name)
    wanted = canonical_name(task)
    known = [(each, await task_of(models, each)) for each in models.known.values()]
    for able in (wanted, *STAND_INS.get(wanted, ())):
        fitting = fit_languages([model for model, own in known if own == able], task)
        if fitting:
            return await models.get(fitting[0].id)
    raise ApiError(
        f"No model here answers {task}. GET /v1/models lists all; name one as `model`, or start the server with one "
        "for this task.", 404, param="model", code="model_not_found",
    )  # fmt: skip


def fit_languages(models: Sequence[ModelSettings], task: str) -> Sequence[ModelSettings]:
    """Return the models that may translate a pair of languages, those of this pair first; all for other tasks.

    A model has a pair by its task, or by its name, such as "en-pt". One of another pair is left out.
    """
    pair = LANGUAGE_PAIR.fullmatch(task)
    if pair is None:
        return models
    own = [each for each in models if each.task == task or "-".join(pair.groups()) in (each.id, *each.aliases)]
    return [*own, *(each for each in models if each not in own and not LANGUAGE_PAIR.fullmatch(each.task or ""))]


async def task_of(models: ModelRegistry, model: ModelSettings) -> str | None:
    """Return the task that a model was made for, read from its files once; None if they cannot be read."""
    loaded = models.loaded.get(model.id)
    if loaded is not None:
        return loaded.task
    if model.id not in models.tasks:
        try:
            task = await asyncio.to_thread(main_task, model.source) if model.task is None else model.task
        except MultiheadError as error:
            log.error("The task of %s cannot be read: %s", model.id, error)
            return None
        models.tasks[model.id] = canonical_name(task)
    return models.tasks[model.id]
