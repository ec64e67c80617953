"""Requests to this room: kinds of files, their source, and the conditions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol


class Want(Enum):
    """Kind of files that a caller needs; MODULES adds the folders of a sentence encoder."""

    CONFIG = "config"
    TOKENIZER = "tokenizer"
    WEIGHTS = "weights"
    MODULES = "modules"


class Progress(Protocol):
    """Callback of a download; `total` is None while it is unknown."""

    def __call__(self, description: str, done: int, total: int | None, /) -> None: ...


@dataclass(frozen=True)
class Request:
    """Conditions of one `resolve`; see `resolve` for each field."""

    want: frozenset[Want] = frozenset(Want)
    revision: str | None = None
    subfolder: str = ""
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    local_files_only: bool = False
    gguf_file: str | None = None
    variant: str | None = None
    progress: Progress | None = None

    @property
    def offline(self) -> str | None:
        """Return the reason why the network must not be used, or None."""
        if self.local_files_only:
            return "local_files_only=True"
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            if os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}:
                return f"{name}={os.environ[name]}"
        return None
