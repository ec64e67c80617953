"""`BertPreTrainedModel` and its like: the base of all classes of a family, and of a program's own ones."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from ..modeling.base_model import BaseModel
from ..modeling.own_model import Matches, OwnModel
from ..models.common.registry import FAMILIES, architecture, find_class


class BasePrefix:
    """Attribute `base_model_prefix`: the name that a family's files have before the backbone under a head, "bert".

    Args:
        kind: model_type of the family.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __get__(self, one: Any, owner: type) -> str:
        family = architecture(self.kind)
        return family.keys(family.config()).prefix.partition(".")[0]


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

    def matches(other: type) -> bool:
        family = getattr(other, "architecture", None) if issubclass(other, BaseModel) else None
        return family is not None and family.config.model_type in types

    types = {architecture(kind).config.model_type for kind in kinds}
    own: dict[str, Any] = {
        "matches": staticmethod(matches), "config_class": architecture(kinds[0]).config,
        "base_model_prefix": BasePrefix(kinds[0]),
        "__doc__": f"Base of all classes of {match[1]}.", "__module__": "multihead",
    }  # fmt: skip
    return Matches(name, (OwnModel,), own)
