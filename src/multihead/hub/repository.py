"""Repositories of the Hugging Face hub, through its client, imported only when the network is needed."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import (
    AccessDenied,
    CorruptFile,
    ModelNotFound,
    MultiheadError,
    NetworkUnavailable,
    UnsafeFile,
    warn,
)
from .address import endpoint, is_repository_name
from .cache_root import cache_root
from .choice import Choice, choose
from .content import check, published_hash
from .guard import guarded
from .local import name_fault, safe_relative_path
from .request import Request
from .snapshots import COMMIT, Snapshots, names_below, shards
from .storage import UNUSABLE, cache_unusable


def fetch(repo: str, request: Request) -> Path:
    """Return the cached folder (or GGUF file) of a repository, with all wanted files.

    Raises:
        ModelNotFound, AccessDenied, NetworkUnavailable, CorruptFile, CacheUnusable: as `resolve` says.
    """
    if not is_repository_name(repo):
        raise ModelNotFound(f"{repo!r} is neither a local path nor a name on the hub, which is like org/name.")
    cache = Snapshots(repo, cache_root(request.cache_dir))
    if request.offline:
        return _cached(cache, request)
    try:
        return _fetch_missing(cache, request)
    except NetworkUnavailable as error:
        try:
            path = cache.complete(request)
        except (ModelNotFound, CorruptFile) as lacking:
            raise NetworkUnavailable(
                f"{error} Nor is it cached: {lacking}. Check the connection (and HF_ENDPOINT, if set), or give the "
                "path of a local folder."
            ) from error
        warn(f"{error} Using the copy that is cached: {path}.")
        return path


def _cached(cache: Snapshots, request: Request) -> Path:
    try:
        return cache.complete(request)
    except ModelNotFound as error:
        raise NetworkUnavailable(
            f"{cache.repo} cannot be fetched ({request.offline}), and {error}. Fetch it once with the network on, or "
            "give the path of a local folder."
        ) from error


def _fetch_missing(cache: Snapshots, request: Request) -> Path:
    """Resolve the revision at the hub, fetch missing files, and record the revision."""
    commit, listed = _listing(cache.repo, request)
    names = names_below(list(listed), request.subfolder)
    source = f"{cache.repo} at {request.revision or 'main'} ({commit[:12]})"
    if request.subfolder:
        source += f", subfolder {request.subfolder!r},"
    choice = choose(names, request.want, request.gguf_file, source, request.variant)
    folder = cache.folder(commit).joinpath(*safe_relative_path(request.subfolder, "subfolder").parts)
    first = [*choice.companions, *([choice.index] if choice.index else [])]
    _download(cache, request, commit, listed, first)
    _download(cache, request, commit, listed, [*_shards(folder, choice, names, source), *choice.cores])
    cache.remember(request.revision or "main", commit)
    return folder / (choice.single or "")


def _shards(folder: Path, choice: Choice, names: list[str], source: str) -> list[str]:
    found = shards(folder, choice)
    missing = [name for name in found if name not in names]
    if missing:
        raise CorruptFile(f"{choice.index} of {source} names shards that are not there: {', '.join(missing)}.")
    return found


def _listing(repo: str, request: Request) -> tuple[str, dict[str, str | None]]:
    """Return the commit of a revision, and its files with the hub's hashes."""
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=endpoint(), token=request.token, library_name="multihead", library_version=__version__)
    with _translate_errors(repo, request):
        info = api.model_info(
            repo, revision=request.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT, files_metadata=True
        )
        if not COMMIT.fullmatch(str(info.sha)):
            raise ValueError(f"its answer names no commit: {info.sha!r}")
        for sibling in info.siblings or ():
            if strange := name_fault(sibling.rfilename):
                raise UnsafeFile(f"{repo} on {endpoint()} lists {sibling.rfilename!r}, {strange}. Do not trust it.")
        return str(info.sha), {sibling.rfilename: published_hash(sibling) for sibling in info.siblings or ()}


def _download(
    cache: Snapshots, request: Request, commit: str, listed: Mapping[str, str | None], names: Iterable[str]
) -> None:
    """Fetch the missing files of a commit, named relative to the subfolder, and verify them.

    Raises:
        CorruptFile: a file came with another content than the hub has; it is not kept.
    """
    parts = safe_relative_path(request.subfolder, "subfolder").parts
    paths = ["/".join((*parts, name)) for name in names]
    missing = [path for path in paths if not (cache.folder(commit) / path).is_file()]
    if not missing:
        return
    from huggingface_hub import snapshot_download

    with _translate_errors(cache.repo, request):
        snapshot_download(
            cache.repo,
            revision=commit,
            cache_dir=cache.root,
            token=request.token,
            endpoint=endpoint(),
            library_name="multihead",
            library_version=__version__,
            allow_patterns=[glob.escape(path) for path in missing],
        )
    lacking = [path for path in missing if not (cache.folder(commit) / path).is_file()]
    if lacking:
        raise NetworkUnavailable(f"{endpoint()} did not give {', '.join(lacking)} of {cache.repo}.")
    for path in missing:
        check(cache.storage, cache.folder(commit) / path, listed.get(path))


@contextmanager
def _translate_errors(repo: str, request: Request) -> Iterator[None]:
    """Translate errors of the hub client."""
    from huggingface_hub.errors import HfHubHTTPError

    # The second class is the HTTP library's own root error: httpx or requests, as the version has it.
    # The others are what it makes of an answer that is not the hub's: a login page of a network, say.
    kinds: Any = (OSError, ValueError, TypeError, KeyError, HfHubHTTPError.__mro__[1])
    try:
        with guarded():
            yield
    except MultiheadError:
        raise
    except kinds as error:
        raise _our_error(error, repo, request) from error


def _our_error(error: BaseException, repo: str, request: Request) -> MultiheadError:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    at, page = endpoint(), f"{endpoint()}/{repo}"
    cached = "A copy that is cached can be used with local_files_only=True."
    if isinstance(error, errors.GatedRepoError):
        return AccessDenied(
            f"{repo} is gated: accept its terms at {page}, then log in (hf auth login) or pass token=. {cached}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(
            f"{repo} is not a repository of {at}, nor a folder in {Path.cwd()}. If it is private, log in (hf auth "
            "login) or pass token=."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"{repo} has no branch, tag or commit {request.revision!r}; see {page}/tree/main.")
    if isinstance(error, errors.EntryNotFoundError):
        return ModelNotFound(f"{repo} at {request.revision or 'main'} lists a file that {at} does not have: {error}.")
    if isinstance(error, errors.LocalTokenNotFoundError):
        return AccessDenied(f"token=True, but no token is saved: log in (hf auth login), or pass the token for {repo}.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return NetworkUnavailable(f"The hub's library was started offline, so {repo} cannot be fetched.")
    if isinstance(error, errors.HfHubHTTPError):
        return _by_status(error, repo)
    if isinstance(error, OSError) and error.errno in UNUSABLE:
        return cache_unusable(error)
    reason = str(error).splitlines()[0] if str(error) else ""
    return NetworkUnavailable(f"{repo} cannot be fetched from {at} ({type(error).__name__}: {reason}).")


def _by_status(error: Any, repo: str) -> MultiheadError:
    """Build the error for an HTTP status without further details."""
    status = error.response.status_code
    said = f"status {status}" + (f", {error.server_message}" if error.server_message else "")
    if status in (401, 403):
        return AccessDenied(
            f"{endpoint()} refuses {repo} ({said}). Log in again (hf auth login) or pass another token=."
        )
    if status in (400, 404):
        return ModelNotFound(f"{endpoint()} has no {repo} ({said}).")
    return NetworkUnavailable(f"{endpoint()} cannot give {repo} now ({said}).")
