"""Memory of models: what their weights take, and what a checkpoint will take before it is loaded."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ...errors import MultiheadError
from ...gguf_names import parts
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
    if root.is_file():
        return sum(root.with_name(name).stat().st_size for name in parts(root.name))
    # the same weights often lie in a folder twice: a load reads the first kind
    kinds: dict[tuple[Path, str], int] = {}
    for path in root.rglob("*"):
        if path.suffix in WEIGHTS:
            kinds[path.parent, path.suffix] = kinds.get((path.parent, path.suffix), 0) + path.stat().st_size
    firsts = {folder: min((kind for at, kind in kinds if at == folder), key=WEIGHTS.index) for folder, _ in kinds}
    return sum(kinds[place] for place in firsts.items())
