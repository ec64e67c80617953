"""Models in local folders and files."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from ..errors import InvalidInput, ModelNotFound, UnsupportedOption
from ..terminal import visible
from .choice import adapts, alike, core_files, listed, matching, only_gguf, usable
from .request import Request, Want


def looks_like_path(name: str) -> bool:
    """Whether a name can only mean a path, never a repository of the hub."""
    return (
        name.startswith(("/", "./", "../", "~", "\\"))
        or name in {".", ".."}
        or name.count("/") > 1
        or "\\" in name
        or name[1:2] == ":"
        or name.endswith((".gguf", ".safetensors"))
    )


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return path.is_dir() and adapts([entry.name for entry in os.scandir(path) if entry.is_file()])


def find(path: Path, request: Request, source: str) -> Path:
    """The folder or file that a request means inside an existing path.

    Raises:
        ModelNotFound: the subfolder or file is not there, or nothing in the folder is usable.
        UnsupportedOption: the path is a file, and something inside it was asked for.
    """
    refuse_revision(request, source)
    if path.is_file():
        if request.subfolder or request.gguf_file:
            raise UnsupportedOption(f"{source} is a file; subfolder and gguf_file need a folder.")
        return path
    folder = path.joinpath(*inside(request.subfolder, "subfolder").parts)
    if not folder.is_dir():
        folders = [entry.name for entry in path.iterdir() if entry.is_dir()]
        raise ModelNotFound(f"{source} has no subfolder {request.subfolder!r}. {alike(request.subfolder, folders)}")
    if request.gguf_file:
        return file_in(folder, request.gguf_file, source)
    names = files(folder)
    if not usable(names):
        where = f"{source}, subfolder {request.subfolder!r}" if request.subfolder else source
        raise ModelNotFound(
            f"{where} is a folder without a model: looked for config.json, a tokenizer (tokenizer.json, vocab.txt, "
            f"vocab.json, *.model, *.spm) and weights (*.safetensors, *.bin, *.gguf). {listed(names)}"
        )
    return folder / (whole_model(names, request, source) or "")


def whole_model(names: list[str], request: Request, source: str) -> str | None:
    """The one GGUF file that a folder without other weights consists of, or None."""
    if core_files(names, Want.WEIGHTS) or not matching(names, "*.gguf"):
        return None
    if Want.WEIGHTS not in request.want and all(core_files(names, kind) for kind in request.want):
        return None
    return only_gguf(names, source)


def file_in(folder: Path, name: str, source: str) -> Path:
    """A file of a folder, by a name that stays inside it. Raises ModelNotFound."""
    path = folder.joinpath(*inside(name, "gguf_file").parts)
    if not path.is_file():
        raise ModelNotFound(f"{source} has no file {name!r}. {alike(name, files(folder))}")
    return path


def files(folder: Path) -> list[str]:
    """The names of the files right in a folder; dead links are left out."""
    return [entry.name for entry in os.scandir(folder) if entry.is_file()]


def inside(name: str, what: str) -> PurePosixPath:
    """A relative path that cannot leave its folder. Raises InvalidInput for any other."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise InvalidInput(f"{what} {name!r} must be a path inside the model's folder: relative, without '..'.")
    return path


def wrong(name: str) -> str:
    """What is wrong with a file's name that a server tells; nothing for one that stays in its folder."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        return "a name that leaves its folder"
    return "" if visible(name) == name else "a name with control characters"


def refuse_revision(request: Request, source: str) -> None:
    """Raises UnsupportedOption for a revision of what has none; the default branch's name passes."""
    if request.revision not in (None, "main"):
        raise UnsupportedOption(f"revision={request.revision!r}: only repositories of the hub have one, not {source}.")


def not_there(path: Path) -> ModelNotFound:
    """The error for a path that does not exist, with the names beside it."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    wrong = path.parts[len(parent.parts)] if len(path.parts) > len(parent.parts) else path.name
    try:
        names = [entry.name for entry in parent.iterdir()]
    except OSError:
        names = []
    return ModelNotFound(f"{path} does not exist: {parent} has no {wrong!r}. {alike(wrong, names)}")
