"""Models in the cache: hub repositories and wheels, their sizes, verification and removal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CorruptFile, ModelNotFound, nearest
from . import notes
from .cache_root import cache_root
from .storage import wheel_root


@dataclass(frozen=True)
class CachedModel:
    """A model in the cache.

    Args:
        name: as `from_pretrained` takes it. size: bytes on the disk. used: seconds since 1970 of its last use.
        revisions: of a repository, that are here.
    """

    name: str
    kind: str
    size: int
    used: float
    path: Path
    revisions: tuple[str, ...] = ()


def list_cached(cache_dir: Path | None = None) -> list[CachedModel]:
    """List every fetched model, the largest first, and by name where sizes are equal."""
    return sorted([*_repositories(cache_dir), *_wheels(cache_dir)], key=lambda model: (-model.size, model.name))


def remove(name: str, cache_dir: Path | None = None) -> CachedModel:
    """Remove a model from the disk and return its entry. Raises ModelNotFound."""
    found = _find(name, list_cached(cache_dir))
    shutil.rmtree(found.path)
    return found


@dataclass(frozen=True)
class VerifyResult:
    """Result of comparing a cached model with its published hashes.

    Args:
        wrong: files with another content, or what else is not as it came. unknown: files that came without a hash.
    """

    name: str
    wrong: tuple[str, ...]
    unknown: tuple[str, ...] = ()


def verify(names: Sequence[str] = (), cache_dir: Path | None = None) -> Iterator[VerifyResult]:
    """Compare cached models with their hashes, one after the other. Raises ModelNotFound.

    Args:
        names: of models; all when left out.
    """
    models = list_cached(cache_dir)
    for model in [_find(name, models) for name in names] or models:
        if model.kind == "hub":
            from .content import damaged_files

            wrong, unknown = damaged_files(model.path)
            yield VerifyResult(model.name, tuple(wrong), tuple(unknown))
            continue
        note = notes.read(model.path)
        try:
            if note is None:
                raise CorruptFile(f"{model.path} does not say what it holds.")
            notes.check(model.path, note, whole=True)
        except CorruptFile as error:
            yield VerifyResult(model.name, (str(error),))
        else:
            yield VerifyResult(model.name, ())


def _find(name: str, models: Sequence[CachedModel]) -> CachedModel:
    """Find a cached model by name. Raises ModelNotFound."""
    found = next((model for model in models if name in (model.name, model.name.removeprefix("pypi:"))), None)
    if found is None:
        raise ModelNotFound(f"{name} is not in the cache. {nearest(name, [m.name for m in models]) if models else ''}")
    return found


def _repositories(cache_dir: Path | None) -> list[CachedModel]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    root = cache_root(cache_dir)
    try:
        repositories = scan_cache_dir(root).repos
    except CacheNotFound:
        return []
    found = [
        CachedModel(
            repo.repo_id, "hub", repo.size_on_disk, repo.last_accessed, Path(repo.repo_path),
            tuple(sorted(revision.commit_hash for revision in repo.revisions)),
        )
        for repo in repositories
        if repo.repo_type == "model"
    ]  # fmt: skip
    seen = {model.path.name for model in found}
    for path in sorted(root.glob("models--*")):  # what the library passes over: a cache that is damaged
        if path.is_dir() and path.name not in seen:
            name = path.name.removeprefix("models--").replace("--", "/")
            files = [part for part in path.rglob("*") if part.is_file() and not part.is_symlink()]
            used = max((part.stat().st_atime for part in files), default=0.0)
            found.append(CachedModel(name, "hub", sum(part.stat().st_size for part in files), used, path))
    return found


def _wheels(cache_dir: Path | None) -> list[CachedModel]:
    found = []
    for folder in sorted(path for path in wheel_root(cache_dir).glob("[!.]*") if path.is_dir()):
        try:
            version = json.loads((folder / notes.NOTE).read_text())["wheel"].split("-")[1]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            version = folder.name.rpartition("-")[2]  # a damaged note; the data can be taken away all the same
        release = f"{folder.name.rpartition('-')[0]}=={version}"
        files = [path for path in folder.rglob("*") if path.is_file()]
        used = max((path.stat().st_atime for path in files), default=0.0)
        found.append(CachedModel(f"pypi:{release}", "wheel", sum(p.stat().st_size for p in files), used, folder))
    return found
