"""The models of a server that names none: small ones that need no hub."""

from __future__ import annotations

from ...pipelines.defaults import ANSWERS, MINILM, SENTIMENT, SMOLLM2, TRANSLATORS
from ..settings import ModelSettings

NAMED = {  # name -> model, its task
    "smollm2": (SMOLLM2, "text-generation"),
    "minilm": (MINILM, "sentence-similarity"),
    "sentiment": (SENTIMENT, "text-classification"),
    "answers": (ANSWERS, "question-answering"),
    **{
        f"{source}-{target}": (model, f"translation_{source}_to_{target}")
        for (source, target), model in TRANSLATORS.items()
    },
}


def default_models(precision: str = "auto", device: str | None = None) -> list[ModelSettings]:
    """Return the models; all but the first are loaded when they are first used."""
    return [
        ModelSettings(
            source=model.name, name=name, task=task, preload=name == "smollm2", precision=precision, device=device
        )
        for name, (model, task) in NAMED.items()
    ]
