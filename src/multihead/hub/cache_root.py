"""The folder of the hub's cache, which its own client shares."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root(cache_dir: Path | None) -> Path:
    """Return the folder of the hub's cache from the hub's environment variables."""
    if cache_dir is not None:
        return cache_dir
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return _expanded(os.environ[name])
    if os.environ.get("HF_HOME"):
        return _expanded(os.environ["HF_HOME"]) / "hub"
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def _expanded(path: str) -> Path:
    return Path(os.path.expandvars(path)).expanduser()
