"""The Hugging Face hub, through its own client."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import AccessDenied, ModelNotFound, NetworkUnavailable
from .files import Want, chosen

DEFAULT = "main"


def from_hub(
    name: str,
    want: Collection[Want],
    *,
    revision: str | None,
    subfolder: str,
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
    offline: bool,
    gguf_file: str | None,
) -> Path:
    """The cached snapshot of a repository with the files wanted, all of one commit.

    Raises:
        ModelNotFound, AccessDenied, NetworkUnavailable: as `resolve`.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    revision = revision or DEFAULT
    try:
        huggingface_hub.utils.validate_repo_id(name)
    except HFValidationError as error:
        raise ModelNotFound(f"{name!r} is neither a local path nor a repository name such as org/name.") from error
    endpoint = os.environ.get("HF_ENDPOINT") or None
    where = f"{name} (revision {revision}) on {endpoint or 'the Hugging Face hub'}"
    if not offline:
        try:
            listed, commit = _listing(name, revision, token, endpoint)
        except (ModelNotFound, AccessDenied):
            raise
        except NetworkUnavailable as error:
            return _cached(name, revision, want, subfolder, cache_dir, gguf_file, error)
        source = f"{where}, folder {subfolder}" if subfolder else where
        inside = [n[len(subfolder) + 1 :] for n in listed if n.startswith(f"{subfolder}/")] if subfolder else listed
        files = chosen(inside, want, gguf_file, source)
        wanted = [f"{subfolder}/{file}" if subfolder else file for file in files]
        snapshot = _fetched(name, commit, wanted, token, cache_dir, endpoint, where)
        return _place(snapshot, subfolder, files)
    return _cached(name, revision, want, subfolder, cache_dir, gguf_file, None)


def _listing(name: str, revision: str, token: str | bool | None, endpoint: str | None) -> tuple[list[str], str]:
    """Names of the repository's files, and the commit they are of."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint).model_info(name, revision=revision, token=token, timeout=20)
    except Exception as error:
        raise _translated(error, name, revision, endpoint) from error
    return [file.rfilename for file in info.siblings or []], str(info.sha)


def _fetched(
    name: str,
    commit: str,
    files: list[str],
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
    endpoint: str | None,
    where: str,
) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                revision=commit,
                allow_patterns=files,
                token=token,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                endpoint=endpoint,
            )
        )
    except Exception as error:
        raise _translated(error, name, commit, endpoint) from error


def _place(snapshot: Path, subfolder: str, files: list[str]) -> Path:
    folder = snapshot / subfolder if subfolder else snapshot
    return folder / files[0] if len(files) == 1 and files[0].endswith(".gguf") else folder


def _cached(
    name: str,
    revision: str,
    want: Collection[Want],
    subfolder: str,
    cache_dir: str | os.PathLike[str] | None,
    gguf_file: str | None,
    cause: Exception | None,
) -> Path:
    """The snapshot that is already here, if it has what is wanted.

    Raises:
        NetworkUnavailable: it is not, naming what is missing.
    """
    from huggingface_hub import constants

    root = Path(cache_dir or constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    reference = root / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = root / "snapshots" / commit
    advice = (
        "Connect once, give a local folder, or unset HF_HUB_OFFLINE and local_files_only if they are set."
        if cause is None
        else str(cause)
    )
    if not snapshot.is_dir():
        raise NetworkUnavailable(f"{name} (revision {revision}) is not in the cache {root.parent}. {advice}") from cause
    folder = snapshot / subfolder if subfolder else snapshot
    here = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    try:
        files = chosen(here, want, gguf_file, f"the cached snapshot of {name}")
    except ModelNotFound as error:
        raise NetworkUnavailable(f"{error} {advice}") from (cause or error)
    return _place(snapshot, subfolder, files)


def _translated(error: Exception, name: str, revision: str, endpoint: str | None) -> Exception:
    """The error of our own tree that the client's error means."""
    from huggingface_hub import errors

    kinds: Any = errors
    where = endpoint or "the Hugging Face hub"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, kinds.GatedRepoError):
        return AccessDenied(f"{name} is gated: ask for access on its page on {where}, then pass token=... or log in.")
    if isinstance(error, kinds.RevisionNotFoundError):
        return ModelNotFound(f"{name} on {where} has no revision {revision!r}.")
    if isinstance(error, kinds.RepositoryNotFoundError) and status != 401:
        return ModelNotFound(f"{name} is no local folder and no repository on {where}. Check the spelling.")
    if isinstance(error, kinds.RepositoryNotFoundError) or status in (401, 403):
        return AccessDenied(
            f"{name} on {where} does not exist, or is private and your token may not read it. Check the spelling, or "
            "pass token=..."
        )
    if isinstance(error, kinds.EntryNotFoundError) and not isinstance(error, kinds.LocalEntryNotFoundError):
        return ModelNotFound(f"A file of {name} is missing on {where}: {_line(error)}")
    return NetworkUnavailable(
        f"{name} could not be fetched from {where}: {_line(error)} Check the connection; files fetched before are used "
        "with local_files_only=True, and a local folder needs no network."
    )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:300] or type(error).__name__).rstrip(".") + "."
