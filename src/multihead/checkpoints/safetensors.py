"""Reads and writes safetensors, memory-mapped: one file, or shards and an index (huggingface.co/docs/safetensors)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..config import read_json
from ..errors import CorruptFile, ModelNotFound, UnsafeFile
from ..files import open_error

AGAIN = "The file is damaged or was cut short while it was copied; get it again."


class SafeTensors(Mapping[str, Tensor]):
    """Tensors of one or several files: views of a private memory map, read when they are touched.

    Writing into such a tensor changes memory only, never the file.

    Args:
        files: the shards. where: name -> file, as an index promises; every name of every file when left out.

    Raises:
        CorruptFile: a file that is not what its header says, or lacks a tensor that the index promises.
    """

    def __init__(self, files: Sequence[Path], where: Mapping[str, Path] | None = None) -> None:
        self._open: dict[Path, Any] = {path: opened(path) for path in files}
        held = {path: set(file.keys()) for path, file in self._open.items()}
        self._where = dict(where) if where is not None else {name: path for path in files for name in held[path]}
        for name, path in self._where.items():
            if name not in held[path]:
                raise CorruptFile(f"{path} lacks the tensor {name!r} that the index promises. {AGAIN}")

    def __getitem__(self, name: str) -> Tensor:
        path = self._where[name]
        try:
            return self._open[path].get_tensor(name)
        except SafetensorError as error:
            raise CorruptFile(f"{path}: the tensor {name!r} cannot be read: {error}. {AGAIN}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def metadata(self, path: Path) -> dict[str, str]:
        """Return the metadata of one of the files."""
        return dict(self._open[path].metadata() or {})

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading the tensor."""
        return tuple(self._open[self._where[name]].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype under the format's own name (`F32`) without reading the tensor."""
        return str(self._open[self._where[name]].get_slice(name).get_dtype())


def write(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file with the permissions of any new file. Raises OSError."""
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=dict(metadata or {"format": "pt"}))
    except SafetensorError as error:
        raise OSError(str(error)) from error
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)  # the library makes files that only their owner reads


def opened(path: Path) -> Any:
    """Open a file and check its header against its size. Raises CorruptFile."""
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError as error:  # the library says so of files that must not be read, too
        try:
            path.open("rb").close()
        except OSError as found:
            raise open_error(path, found) from error
        raise ModelNotFound(f"{path} does not exist.") from error
    except (SafetensorError, OSError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise CorruptFile(f"{path} is no sound safetensors file: {reason}. {AGAIN}") from error


def indexed(index: Path) -> dict[str, Path]:
    """Return the shard of each tensor name in an index file.

    Raises:
        CorruptFile: the index is not what the format says. UnsafeFile: a shard outside the folder.
        ModelNotFound: a shard that is not there.
    """
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise CorruptFile(f'{index} has no "weight_map" of tensor names and files. {AGAIN}')
    for name in sorted(set(table.values())):
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not name or os.path.isabs(name) or ".." in parts or ":" in (parts[0] if parts else ""):
            raise UnsafeFile(f"{index} names {name!r}, a file outside its folder. Do not trust this checkpoint.")
        if not (index.parent / name).is_file():
            raise ModelNotFound(f"{index} names the shard {name!r}, which is not in {index.parent}. Get it too.")
    return {tensor: index.parent / name for tensor, name in table.items()}


def sharded(index: Path) -> SafeTensors:
    """Open all tensors of an index."""
    where = indexed(index)
    return SafeTensors(sorted(set(where.values())), where)
