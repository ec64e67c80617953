"""Memory of models: what their weights take, and what a checkpoint will take before it is loaded."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ...errors import MultiheadError
from ...hub import Want, resolve

WEIGHTS = (".safetensors", ".bin", ".gguf")


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers; storage that several share is counted once."""
    storages = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def file_bytes(source: str) -> int:
    """Return the bytes of a checkpoint's weights, fetched if need be; 0 if it cannot be had. The load says why."""
    try:
        root = Path(resolve(source, (Want.CONFIG, Want.WEIGHTS)))
    except MultiheadError:
        return 0
    files = [root] if root.is_file() else [path for path in root.rglob("*") if path.suffix in WEIGHTS]
    return sum(path.stat().st_size for path in files)
