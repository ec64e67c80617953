"""What a caller asks of the hub room: which kinds of files, from where, under which conditions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol


class Want(Enum):
    """A kind of files that a caller needs; MODULES are the folders of a sentence encoder, where there are any."""

    CONFIG = "config"
    TOKENIZER = "tokenizer"
    WEIGHTS = "weights"
    MODULES = "modules"


class Progress(Protocol):
    """Told how far a download is; `total` is None while nobody knows it."""

    def __call__(self, description: str, done: int, total: int | None, /) -> None: ...


@dataclass(frozen=True)
class Request:
    """The conditions of one `resolve`; see there for each field."""

    want: frozenset[Want] = frozenset(Want)
    revision: str | None = None
    subfolder: str = ""
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    local_files_only: bool = False
    gguf_file: str | None = None
    progress: Progress | None = None

    @property
    def offline(self) -> str | None:
        """Why the network may not be used, or None if it may."""
        if self.local_files_only:
            return "local_files_only=True"
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            if os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}:
                return f"{name}={os.environ[name]}"
        return None
