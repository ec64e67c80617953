"""Durations as Ollama writes them: "5m", "1h30m", numbers of seconds."""

from __future__ import annotations

import re

from ...errors import ApiError

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
NANOSECONDS = 1_000_000_000


def seconds_of(given: str | float | None, name: str = "keep_alive") -> float | None:
    """Return seconds; negative ones mean for ever. Raises ApiError for what is no duration."""
    if given is None or not isinstance(given, str):
        return None if given is None else float(given)
    text = given.strip()
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    body = text.removeprefix("-")
    if not body or PART.sub("", body):
        raise ApiError(f'{name} is {given!r:.80}; it must be a duration such as "5m".', param=name)
    seconds = sum(float(number) * UNITS[unit] for number, unit in PART.findall(body))
    return -seconds if text.startswith("-") else seconds


def nanoseconds(seconds: float) -> int:
    return max(round(seconds * NANOSECONDS), 0)
