"""The transformer inside of a sentence encoder or reranker."""

from __future__ import annotations

from typing import Any


def inner_model(model: Any) -> Any:
    """Return the child `model` of a module, or the module itself where it has none.

    An attribute is not asked for: the reference calls the backbone of many decoders `model`, and so do models here.
    """
    inner = getattr(model, "_modules", {}).get("model")
    return model if inner is None else inner
