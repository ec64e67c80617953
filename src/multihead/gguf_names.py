"""Names of GGUF files: the parts of a split model, and files beside a model that are none."""

from __future__ import annotations

import re
from collections.abc import Iterable

PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
PROJECTOR = "mmproj"  # what reads pictures or sound for a model, in a file of its own


def parts(name: str) -> list[str]:
    """Return the names of all parts of the model to which a file belongs, in order; a whole file is its only part."""
    found = PART.fullmatch(name)
    if found is None or not 0 < int(found["number"]) <= int(found["count"]):
        return [name]
    count = int(found["count"])
    return [f"{found['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def models(names: Iterable[str]) -> list[str]:
    """Return one file name for each model among GGUF files: the first part of a split one, and no projectors."""
    whole: dict[str, str] = {}
    for name in sorted(names):
        if PROJECTOR not in name.rpartition("/")[2].lower():
            whole.setdefault(parts(name)[0], name)
    return list(whole.values())
