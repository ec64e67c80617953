"""`BertPreTrainedModel` and its like: the base of all classes of a family."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from ..modeling.pretrained import PreTrainedModel
from ..models.common.registry import FAMILIES, find_class


class _Family(type):
    """A model of the family with any head is an instance."""

    kinds: tuple[str, ...]

    def __instancecheck__(cls, one: Any) -> bool:
        if "kinds" not in vars(cls):
            return super().__instancecheck__(one)
        return isinstance(one, PreTrainedModel) and one.config.model_type in cls.kinds


@cache
def family_base(name: str) -> type | None:
    """Return the base class of a family by a name such as `BertPreTrainedModel`; None for another name."""
    match = re.fullmatch(r"(\w+?)Pre[Tt]rainedModel", name)
    if match is None:
        return None
    kinds = tuple(kind for kind, entry in FAMILIES.items() if entry.name == match[1])
    if not kinds and (found := find_class(f"{match[1]}Model")) is not None:
        kinds = (found[0],)
    if not kinds:
        return None
    doc = f"Base of all classes of {match[1]}."
    return _Family(name, (PreTrainedModel,), {"kinds": kinds, "__doc__": doc, "__module__": "multihead"})
