"""`pytorch_model.bin`, in torch's zip format and in the older pickled one, without ever running code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CorruptFile, ModelNotFound, UnsafeFile, warn
from .safetensors import AGAIN, indexed


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file; memory-mapped in the zip format.

    Raises:
        UnsafeFile: the pickle asks for something else than tensors; nothing of it was run.
        CorruptFile: the file is truncated or holds something else than named tensors.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path} does not exist.") from error
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            what = str(error).split("Please file")[0].split("Check the documentation")[0].strip()
            raise UnsafeFile(f"{path} wants to run code, which is refused: {_short(what)}") from error
        raise CorruptFile(f"{path} cannot be read: {_short(str(error))}. {AGAIN}") from error
    except Exception as error:  # torch raises many kinds for damaged files
        raise CorruptFile(f"{path} cannot be read: {_short(str(error))}. {AGAIN}") from error
    return _tensors(found, path)


def read_sharded(index: Path) -> dict[str, Tensor]:
    """All tensors of an index file. Raises as `read` and `safetensors.indexed` do."""
    where = indexed(index)
    files = {path: read(path) for path in sorted(set(where.values()))}
    for name, path in where.items():
        if name not in files[path]:
            raise CorruptFile(f"{path} lacks the tensor {name!r} that the index promises. {AGAIN}")
    return {name: files[path][name] for name, path in where.items()}


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise CorruptFile(f"{path} holds a {type(found).__name__}, not named tensors.")
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    others = [str(name) for name in found if name not in tensors]
    if others and not tensors:
        raise CorruptFile(f"{path} holds no named tensors, but {', '.join(others[:5])}.")
    if others:
        warn(f"{path} holds entries that are no tensors; they are left out: {', '.join(others[:5])}.")
    return tensors


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:297] + "..."
