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
from .tasks import main_task, task_by_name

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
    known = {each.id: await task_of(models, each) for each in models.known.values()}
    for able in (wanted, *STAND_INS.get(wanted, ())):
        own = {name: task for name, task in known.items() if task is not None and canonical_name(task) == able}
        fitting = fit_languages(own, task)
        if fitting:
            return await models.get(fitting[0])
    raise ApiError(
        f"No model here answers {task}. GET /v1/models lists all; name one as `model`, or start the server with one "
        "for this task.", 404, param="model", code="model_not_found",
    )  # fmt: skip


def fit_languages(models: Mapping[str, str], task: str) -> Sequence[str]:
    """Return the models that may translate a pair of languages, those of this pair first; all for other tasks.

    Args:
        models: id -> task. One with another pair of languages is left out.
    """
    if not LANGUAGE_PAIR.fullmatch(task):
        return list(models)
    own = [each for each, known in models.items() if known == task]
    return [*own, *(each for each, known in models.items() if not LANGUAGE_PAIR.fullmatch(known))]


async def task_of(models: ModelRegistry, model: ModelSettings) -> str | None:
    """Return the task that a model was made for, with its languages; None if its files cannot be read.

    Files are read once.
    """
    loaded = models.loaded.get(model.id)
    if loaded is not None:
        return with_languages(loaded.made_for)
    if model.id not in models.tasks:
        try:
            found = await asyncio.to_thread(main_task, model.source) if model.task is None else model.task
            task = task_by_name(found, (model.id, *model.aliases))
        except MultiheadError as error:
            log.error("The task of %s cannot be read: %s", model.id, error)
            return None
        models.tasks[model.id] = with_languages(task)
    return models.tasks[model.id]


def with_languages(task: str) -> str:
    """Return a task's own name, or its name with a pair of languages."""
    return task if LANGUAGE_PAIR.fullmatch(task) else canonical_name(task)
