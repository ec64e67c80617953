"""Metrics of a run as text and as files, in the layout of the example scripts of Transformers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ...config import read_json, write_json
from ..state import plain

ALL_RESULTS = "all_results.json"


def metrics_table(split: str, metrics: Mapping[str, Any]) -> str:
    """Return a heading and one line a metric, sorted by name; a `_runtime` has hours, minutes and seconds."""
    texts = {name: _format(name, metrics[name]) for name in sorted(metrics)}
    names, values = (max(map(len, column), default=0) for column in (texts, texts.values()))
    return "\n".join([f"***** {split} metrics *****", *(f"  {n:<{names}} = {v:>{values}}" for n, v in texts.items())])


def _format(name: str, value: Any) -> str:
    value = plain(value)
    if isinstance(value, float) and name.endswith("_runtime"):
        return f"{timedelta(seconds=int(value))}.{int(value % 1 * 100):02}"
    return str(round(value, 4) if isinstance(value, float) else value)


def save(folder: Path, split: str, metrics: Mapping[str, Any], *, combined: bool) -> None:
    """Write `SPLIT_results.json` and, with `combined`, add the metrics to `all_results.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {name: plain(metrics[name]) for name in sorted(metrics)}
    write_json(folder / f"{split}_results.json", values)
    if combined:
        known = read_json(folder / ALL_RESULTS) if (folder / ALL_RESULTS).is_file() else {}
        write_json(folder / ALL_RESULTS, dict(sorted({**known, **values}.items())))
