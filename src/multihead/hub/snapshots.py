"""The hub's cache on disk, read without the hub client.

The layout is that of huggingface_hub ("Understand caching" in its documentation): `models--org--name/refs/REVISION`
holds a commit, `models--org--name/snapshots/COMMIT/` the files of it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..config import read_json
from ..errors import CorruptFile, ModelNotFound
from .choice import Choice, choose
from .local import safe_relative_path
from .request import Request

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshots:
    """Cached commits of one repository.

    Args:
        repo: its name.
        root: the cache folder of all repositories.
    """

    repo: str
    root: Path

    @property
    def storage(self) -> Path:
        return self.root / f"models--{self.repo.replace('/', '--')}"

    def folder(self, commit: str) -> Path:
        return self.storage / "snapshots" / commit

    def commit(self, revision: str) -> str | None:
        """Return the commit of a revision when it was last fetched whole; None where it is not recorded."""
        if COMMIT.fullmatch(revision):
            return revision
        with suppress(OSError, ValueError):
            with self._ref(revision).open(encoding="utf-8") as file:
                found = file.read(100).strip()
            return found if COMMIT.fullmatch(found) else None
        return None

    def remember(self, revision: str, commit: str) -> None:
        """Record the commit of a revision once all requested files are present; ignore a read-only cache."""
        if revision == commit or self.commit(revision) == commit:
            return
        ref = self._ref(revision)
        fresh = ref.with_name(f".{ref.name}.{os.getpid()}")
        with suppress(OSError):
            ref.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(commit, encoding="utf-8")
            fresh.replace(ref)

    def complete(self, request: Request) -> Path:
        """Return the requested files of the cached commit of the revision.

        Raises:
            ModelNotFound: it is not cached, or not all of it; the message says what is missing. CorruptFile: the cache.
        """
        revision = request.revision or "main"
        commit = self.commit(revision)
        if commit is None and self._ref(revision).is_file():
            raise CorruptFile(f"{self._ref(revision)} holds no commit of 40 hexadecimal digits; delete it")
        if commit is None or not self.folder(commit).is_dir():
            raise ModelNotFound(f"{self.storage} has no copy of revision {revision!r}")
        names = names_below(list_files(self.folder(commit)), request.subfolder)
        source = f"the copy of commit {commit[:12]} in {self.storage}"
        choice = choose(names, request.want, request.gguf_file, source, request.variant)
        folder = self.folder(commit).joinpath(*safe_relative_path(request.subfolder, "subfolder").parts)
        missing = [name for name in shards(folder, choice) if name not in names]
        if missing:
            raise ModelNotFound(f"{source} lacks {', '.join(missing)}")
        return folder / (choice.single or "")

    def _ref(self, revision: str) -> Path:
        return (self.storage / "refs").joinpath(*safe_relative_path(revision, "revision").parts)


def list_files(folder: Path) -> list[str]:
    """List the files below a snapshot folder, with slashes; links to missing blobs are left out."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def names_below(names: list[str], subfolder: str) -> list[str]:
    """Return the names below a subfolder, relative to it."""
    parts = safe_relative_path(subfolder, "subfolder").parts
    prefix = "/".join(parts) + "/" if parts else ""
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def shards(folder: Path, choice: Choice) -> list[str]:
    """Return the shards in the index of a choice, in order; empty without an index.

    Raises:
        CorruptFile: the index is no valid index of shards.
    """
    if choice.index is None:
        return []
    table = read_json(folder / choice.index).get("weight_map")
    names = sorted({name for name in table.values() if isinstance(name, str)}) if isinstance(table, dict) else []
    if not names:
        raise CorruptFile(f"{folder / choice.index} names no shards: it has no 'weight_map'.")
    home = choice.index.rpartition("/")[0]
    return [f"{home}/{name}" if home else name for name in names]
