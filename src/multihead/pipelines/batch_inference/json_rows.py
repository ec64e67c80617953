"""Rows of a run as lines of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import MultiheadError
from ...terminal import json_visible
from ..answers import Failure
from .columns import KeptRow


def to_json_type(value: Any) -> Any:
    """Return a value that JSON holds: an array as a list, anything else (a date, bytes) as a string."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def null_non_finite(value: Any) -> Any:
    """Return the value with null for numbers that JSON has no form for: NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): null_non_finite(one) for name, one in value.items()}
    return [null_non_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def to_json(value: Any) -> str:
    """Return a value as one line of JSON, NaN and infinity as null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=to_json_type, allow_nan=False)
    except (ValueError, TypeError):
        value = null_non_finite(value)
        return json.dumps(
            value, ensure_ascii=False, default=lambda x: null_non_finite(to_json_type(x)), allow_nan=False
        )


def output_row(number: int, item: Any, answer: Any, notices: Sequence[str] = ()) -> str:
    """Return one row of the output. Halves of surrogate pairs, which UTF-8 does not hold, are JSON escapes.

    Args:
        item: the input, or a `KeptRow`, whose columns stand beside it.
    """
    entry: dict[str, Any] = {"row": number}
    if isinstance(item, KeptRow):
        entry |= item.kept
        item = item.input
    entry["input"] = None if isinstance(item, MultiheadError) else item
    if isinstance(answer, Failure):
        entry["error"] = str(answer.error)
    else:
        entry["output"] = answer
    if notices:
        entry["notices"] = list(notices)
    return json_visible(to_json(entry))
