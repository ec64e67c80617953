"""Models in local folders and files."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from ..errors import InvalidInput, ModelNotFound, UnsupportedOption
from ..terminal import visible
from .choice import core_files, format_names, is_adapter_listing, is_usable, match_patterns, single_gguf, suggest_names
from .request import Request, Want


def looks_like_path(name: str) -> bool:
    """Return True if a name can only be a path, never a repository of the hub."""
    return (
        name.startswith(("/", "./", "../", "~", "\\"))
        or name in {".", ".."}
        or name.count("/") > 1
        or "\\" in name
        or name[1:2] == ":"
        or name.endswith((".gguf", ".safetensors"))
    )


def is_adapter(path: Path) -> bool:
    """Return True if a folder holds an adapter and no model of its own."""
    return path.is_dir() and is_adapter_listing([entry.name for entry in os.scandir(path) if entry.is_file()])


def find(path: Path, request: Request, source: str) -> Path:
    """Return the folder or file that a request means inside an existing path.

    Raises:
        ModelNotFound: the subfolder or file is not there, or nothing in the folder is usable.
        UnsupportedOption: the path is a file, and something inside it was asked for.
    """
    refuse_revision(request, source)
    if path.is_file():
        if request.subfolder or request.gguf_file:
            raise UnsupportedOption(f"{source} is a file; subfolder and gguf_file need a folder.")
        return path
    folder = path.joinpath(*safe_relative_path(request.subfolder, "subfolder").parts)
    if not folder.is_dir():
        folders = [entry.name for entry in path.iterdir() if entry.is_dir()]
        raise ModelNotFound(
            f"{source} has no subfolder {request.subfolder!r}. {suggest_names(request.subfolder, folders)}"
        )
    if request.gguf_file:
        return file_in(folder, request.gguf_file, source)
    names = files(folder)
    if not is_usable(names):
        where = f"{source}, subfolder {request.subfolder!r}" if request.subfolder else source
        raise ModelNotFound(
            f"{where} is a folder without a model: looked for config.json, a tokenizer (tokenizer.json, vocab.txt, "
            f"vocab.json, *.model, *.spm, *.tiktoken) and weights (*.safetensors, *.bin, *.gguf). {format_names(names)}"
        )
    return folder / (only_model_file(names, request, source) or "")


def only_model_file(names: list[str], request: Request, source: str) -> str | None:
    """Return the only GGUF file of a folder without other weights, or None."""
    if core_files(names, Want.WEIGHTS) or not match_patterns(names, "*.gguf"):
        return None
    if Want.WEIGHTS not in request.want and all(core_files(names, kind) for kind in request.want):
        return None
    return single_gguf(names, source)


def file_in(folder: Path, name: str, source: str) -> Path:
    """Return a file of a folder by a name that stays inside it. Raises ModelNotFound."""
    path = folder.joinpath(*safe_relative_path(name, "gguf_file").parts)
    if not path.is_file():
        raise ModelNotFound(f"{source} has no file {name!r}. {suggest_names(name, files(folder))}")
    return path


def files(folder: Path) -> list[str]:
    """List the names of the files directly in a folder, without dead links."""
    return [entry.name for entry in os.scandir(folder) if entry.is_file()]


def safe_relative_path(name: str, what: str) -> PurePosixPath:
    """Return a relative path that stays inside its folder. Raises InvalidInput for any other."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise InvalidInput(f"{what} {name!r} must be a path inside the model's folder: relative, without '..'.")
    return path


def name_fault(name: str) -> str:
    """Return the fault of a file name from a server; empty for a name that stays in its folder."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        return "a name that leaves its folder"
    return "" if visible(name) == name else "a name with control characters"


def refuse_revision(request: Request, source: str) -> None:
    """Raise UnsupportedOption for a revision of a source without revisions; the default branch passes."""
    if request.revision not in (None, "main"):
        raise UnsupportedOption(f"revision={request.revision!r}: only repositories of the hub have one, not {source}.")


def path_not_found(path: Path) -> ModelNotFound:
    """Build the error for a path that does not exist, with the names beside it."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    wrong = path.parts[len(parent.parts)] if len(path.parts) > len(parent.parts) else path.name
    try:
        names = [entry.name for entry in parent.iterdir()]
    except OSError:
        names = []
    return ModelNotFound(f"{path} does not exist: {parent} has no {wrong!r}. {suggest_names(wrong, names)}")
