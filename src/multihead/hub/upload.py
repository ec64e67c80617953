"""Uploads of folders to repositories of the Hugging Face hub, through its client, imported only when it is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import AccessDenied, InvalidInput, ModelNotFound, MultiheadError, NetworkUnavailable
from .address import endpoint, is_repository_name
from .cache_root import cache_root
from .request import Request

CARD = "README.md"
PULL_REQUEST = "refs/pr/"


@dataclass(frozen=True)
class UploadOptions:
    """Options of an upload, with the names of the reference's `push_to_hub`.

    Args:
        commit_message, commit_description: of the commit.
        private: of a repository that is made; None for what its owner's settings say.
        token: of the hub; None for the saved one. It is in no message and no file.
        revision: branch, which is made if there is none. create_pr: a pull request instead of a commit to the branch.
        tags: for the model card.
    """

    commit_message: str | None = None
    commit_description: str | None = None
    private: bool | None = None
    token: str | bool | None = field(default=None, repr=False)
    revision: str | None = None
    create_pr: bool = False
    tags: Sequence[str] | str | None = None

    @classmethod
    def pop_from(cls, options: dict[str, Any]) -> UploadOptions:
        """Remove the options of an upload from a dictionary and return them."""
        return cls(**{f.name: options.pop(f.name) for f in fields(cls) if f.name in options})


def create_repository(repo: str, options: UploadOptions) -> str:
    """Make a repository, and its branch, where there is none. Returns its full name: `name` is of the token's owner.

    Raises:
        InvalidInput: not a name, or no owner of that name. AccessDenied: no token, or one that may not write.
        NetworkUnavailable: offline, or no answer.
    """
    if not is_repository_name(repo):
        raise InvalidInput(f"{repo!r} is no name of a repository on the hub, which is like org/name.")
    if offline := Request(token=options.token).offline:
        raise NetworkUnavailable(f"{repo} cannot be written ({offline}).")
    api, revision = _client(options), options.revision
    with _errors_of(repo, options):
        name = str(api.create_repo(repo, private=options.private, exist_ok=True).repo_id)
        if revision and not options.create_pr and not revision.startswith(PULL_REQUEST):
            api.create_branch(name, branch=revision, exist_ok=True)
        return name


def upload_folder(
    folder: Path,
    repo: str,
    options: UploadOptions,
    *,
    ignore: Sequence[str] = (),
    path_in_repo: str | None = None,
) -> Any:
    """Upload the files of a folder in one commit; files of the repository that are not in the folder stay.

    Args:
        repo: full name of a repository that is there. ignore: patterns of files that are left out, such as `*.tmp`.
        path_in_repo: folder in the repository.

    Returns:
        huggingface_hub's `CommitInfo`, which is the address of the commit.

    Raises:
        InvalidInput: the hub refuses the front matter of README.md. AccessDenied, ModelNotFound, NetworkUnavailable.
    """
    with _errors_of(repo, options):
        return _client(options).upload_folder(
            repo_id=repo,
            folder_path=folder,
            path_in_repo=path_in_repo,
            commit_message=options.commit_message or "Upload with multihead",
            commit_description=options.commit_description,
            revision=options.revision,
            create_pr=options.create_pr,
            ignore_patterns=list(ignore),
        )


def stored_card(repo: str, options: UploadOptions) -> Path | None:
    """Return a copy of the model card that a repository has; None without one."""
    api, revision = _client(options), None if options.create_pr else options.revision
    with _errors_of(repo, options):
        if not api.file_exists(repo, CARD, revision=revision):
            return None
        return Path(api.hf_hub_download(repo, CARD, revision=revision, cache_dir=cache_root(None)))


def _client(options: UploadOptions) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), token=options.token, library_name="multihead", library_version=__version__)


@contextmanager
def _errors_of(repo: str, options: UploadOptions) -> Iterator[None]:
    """Translate errors of the hub client."""
    from huggingface_hub.errors import HfHubHTTPError

    # The root error of the HTTP library, httpx or requests; a RuntimeError is of a large file that did not get through
    kinds: Any = (OSError, ValueError, RuntimeError, HfHubHTTPError.__mro__[1])
    try:
        yield
    except MultiheadError:
        raise
    except kinds as error:
        raise _our_error(error, repo, options) from error


def _our_error(error: BaseException, repo: str, options: UploadOptions) -> MultiheadError:
    from huggingface_hub import errors

    login = "Log in with a token that may write (hf auth login), or pass token=."
    if isinstance(error, errors.LocalTokenNotFoundError):
        return AccessDenied(f"{repo} cannot be written: no token is saved. {login}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"{repo} has no branch {options.revision!r}.")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        said = f"status {status}" + (f", {error.server_message}" if error.server_message else "")
        if status in (401, 403):
            return AccessDenied(f"{endpoint()} refuses to write {repo} ({said}). {login}")
        if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
            return ModelNotFound(f"{endpoint()} has no {repo} that this token may write ({said}). {login}")
        if status < 500 and status not in (408, 425, 429):
            return InvalidInput(f"{endpoint()} does not take this for {repo} ({said}).")
        return NetworkUnavailable(f"{endpoint()} cannot take {repo} now ({said}). Try again.")
    reason = re.sub(r"\s+", " ", str(error)).strip()
    if isinstance(error, ValueError):
        return InvalidInput(f"{repo} cannot be written: {reason}")
    return NetworkUnavailable(f"{repo} cannot be written to {endpoint()} ({type(error).__name__}: {reason}).")
