"""Download options common to every `from_pretrained`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .. import hub
from ..errors import UnsupportedOption
from . import Want


@dataclass(frozen=True)
class DownloadOptions:
    """Revision, subfolder, token and other options of finding a model's files.

    Args:
        revision: branch, tag or commit of a hub repository. subfolder: inside it.
        token: of the hub. cache_dir: instead of the hub's own. local_files_only: no network.
        gguf_file: a file of that name in the folder or repository.
        variant: part of the names of the files of weights: "fp16" for model.fp16.safetensors.
    """

    revision: str | None = None
    subfolder: str = ""
    token: str | bool | None = None
    cache_dir: str | os.PathLike[str] | None = None
    local_files_only: bool = False
    gguf_file: str | None = None
    variant: str | None = None

    @classmethod
    def pop_from(cls, options: dict[str, Any]) -> DownloadOptions:
        """Remove the download options from a dictionary of options and return them.

        Raises:
            UnsupportedOption: `trust_remote_code`: no code of a checkpoint ever runs.
        """
        if options.pop("trust_remote_code", False):
            raise UnsupportedOption(
                "trust_remote_code=True is refused: multihead never runs code from a checkpoint. Leave it out; "
                "families that are implemented here need no code."
            )
        if "use_auth_token" in options:  # its name in version 4
            options.setdefault("token", options.pop("use_auth_token"))
        known = {f.name: options.pop(f.name) for f in fields(cls) if f.name in options}
        return cls(**known)

    def resolve(self, name: str | os.PathLike[str], *want: Want) -> Path:
        """Return the local path of a model's wanted files; raises as `hub.resolve` does."""
        return hub.resolve(name, want, **{f.name: getattr(self, f.name) for f in fields(self)})
