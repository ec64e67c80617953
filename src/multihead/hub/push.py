"""`push_to_hub`: what `save_pretrained` writes, and a model card, as a commit of a repository on the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from .._version import __version__
from ..errors import UnsupportedOption, warn
from .front_matter import front_matter
from .upload import CARD, UploadOptions, create_repository, stored_card, upload_folder


class PushToHub:
    """Base of what is uploaded: models, tokenizers, configs, sentence encoders.

    Attributes:
        loader: name of the class that loads it, for the model card; None for its own class.
    """

    loader: ClassVar[str | None] = None

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Save into a temporary folder, and upload it with a model card.

        A repository that has a README.md keeps it; `tags` are added to its front matter.

        Args:
            repo_id: `org/name`; a name alone is a repository of the token's owner. It is made if there is none.
            options: `commit_message`, `commit_description`, `private`, `token`, `revision`, `create_pr` and `tags` of
                `UploadOptions`; the others are those of `save_pretrained`, such as `max_shard_size`.

        Returns:
            The address of the commit (huggingface_hub's `CommitInfo`).

        Raises:
            AccessDenied: no token, or one that may not write. InvalidInput: no such name. NetworkUnavailable: offline.
        """
        upload, save = split_options(options)
        name = create_repository(repo_id, upload)
        with TemporaryDirectory(prefix="multihead-") as temporary:
            folder = Path(temporary)
            self.save_pretrained(folder, **save)  # type: ignore[attr-defined]
            own_tags = [getattr(self, "model_type", ""), *getattr(self, "model_tags", ())]
            add_card(folder, name, upload, self.loader or type(self).__name__, [tag for tag in own_tags if tag])
            return upload_folder(folder, name, upload)


def split_options(options: dict[str, Any]) -> tuple[UploadOptions, dict[str, Any]]:
    """Return the options of an upload and those of `save_pretrained`; names of version 4 are read as today's.

    Raises:
        UnsupportedOption: `repo_url` and `organization`, which version 4 had.
    """
    rest = dict(options)
    if (token := rest.pop("use_auth_token", None)) is not None:
        warn("use_auth_token is token since version 5 of the reference.")
        rest.setdefault("token", token)
    rest.pop("use_temp_dir", None)  # a temporary folder is always used
    for name in ("repo_url", "organization", "repo_path_or_name"):
        if rest.pop(name, None) is not None:
            raise UnsupportedOption(f"push_to_hub has no {name!r}; give the repository as repo_id='org/name'.")
    if rest.get("max_shard_size", ...) is None:
        del rest["max_shard_size"]
    return UploadOptions.pop_from(rest), rest


def pop_upload(options: dict[str, Any], folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Remove the options of an upload from those of `save_pretrained`.

    Returns:
        Arguments of `push_to_hub`, if `push_to_hub=True` is among them; the repository is `repo_id`, or one of the
        folder's name.
    """
    names = {"repo_id", *(f.name for f in fields(UploadOptions))}
    found = {name: options.pop(name) for name in names if name in options}
    if not options.pop("push_to_hub", None):
        return None
    return {**found, "repo_id": found.get("repo_id") or Path(folder).resolve().name, **options}


def refuse_options(options: Mapping[str, Any], call: str) -> None:
    """Raise UnsupportedOption for options that are left, with the name of the call."""
    if options:
        raise UnsupportedOption(f"{call} has no option {next(iter(options))!r}.")


def add_card(folder: Path, repo: str, options: UploadOptions, kind: str, tags: Sequence[str] = ()) -> None:
    """Write README.md into a folder, but for a repository whose own stays as it is.

    Args:
        kind: name of the class that is saved. tags: in addition to those of the options.
    """
    asked = [options.tags] if isinstance(options.tags, str) else list(options.tags or ())
    stored = stored_card(repo, options)
    if stored is None:
        if not (folder / CARD).exists():
            text = card_text(repo, kind, list(dict.fromkeys([*tags, *asked])))
            (folder / CARD).write_text(text, encoding="utf-8")
        return
    (folder / CARD).unlink(missing_ok=True)
    if asked:
        from huggingface_hub import ModelCard

        card = ModelCard.load(stored)
        known = list(card.data.tags or ())
        card.data.tags = [*known, *(tag for tag in asked if tag not in known)]
        card.save(folder / CARD)


def card_text(repo: str, kind: str, tags: Sequence[str]) -> str:
    """Return a model card without facts that nobody gave: what was saved, and how it is loaded."""
    entries: dict[str, Any] = {"library_name": "multihead"} | ({"tags": list(tags)} if tags else {})
    return (
        f"{front_matter(entries)}\n\n# {repo.rpartition('/')[2]}\n\n"
        f"A `{kind}`, saved by multihead {__version__}. This card was made when it was uploaded; say here what the "
        "model is for, what it was trained on, and where it fails.\n\n"
        f'## Use\n\n```python\nfrom multihead import {kind}\n\nloaded = {kind}.from_pretrained("{repo}")\n```\n'
    )
