"""The models of a server that names none: small ones that need no hub."""

from __future__ import annotations

from ...pipelines.defaults import ANSWERS, MINILM, SENTIMENT, SMOLLM2, TRANSLATORS
from ..settings import ModelSettings


def default_models(precision: str = "auto", device: str | None = None) -> list[ModelSettings]:
    """Return the models; all but the first are loaded when they are first used."""
    named = {"smollm2": SMOLLM2, "minilm": MINILM, "sentiment": SENTIMENT, "answers": ANSWERS}
    named |= {f"{source}-{target}": model for (source, target), model in TRANSLATORS.items()}
    return [
        ModelSettings(source=model.name, name=name, preload=name == "smollm2", precision=precision, device=device)
        for name, model in named.items()
    ]
