"""Numbers of a run for people and for files, as the reference's example scripts report them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ...config import read_json, write_json
from ..state import plain

ALL = "all_results.json"


def table(split: str, metrics: Mapping[str, Any]) -> str:
    """A heading and a line for each number, by name; seconds of a `_runtime` as hours, minutes and seconds."""
    shown = {name: _shown(name, metrics[name]) for name in sorted(metrics)}
    wide, high = (max(map(len, texts), default=0) for texts in (shown, shown.values()))
    return "\n".join([f"***** {split} metrics *****", *(f"  {n:<{wide}} = {v:>{high}}" for n, v in shown.items())])


def _shown(name: str, value: Any) -> str:
    value = plain(value)
    if isinstance(value, float) and name.endswith("_runtime"):
        return f"{timedelta(seconds=int(value))}.{int(value % 1 * 100):02}"
    return str(round(value, 4) if isinstance(value, float) else value)


def save(folder: Path, split: str, metrics: Mapping[str, Any], *, combined: bool) -> None:
    """Writes `SPLIT_results.json`, and the same numbers into `all_results.json` where they are to be `combined`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: plain(metrics[name]) for name in sorted(metrics)}
    write_json(folder / f"{split}_results.json", written)
    if combined:
        known = read_json(folder / ALL) if (folder / ALL).is_file() else {}
        write_json(folder / ALL, dict(sorted({**known, **written}.items())))
