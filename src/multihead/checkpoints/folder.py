"""Finds the weights in a folder and writes weights atomically."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..config import write_json
from ..errors import InvalidInput, ModelNotFound, read_errors
from ..files import rebuild_folder
from ..gguf_names import models
from ..hub.choice import with_variant

if TYPE_CHECKING:
    from .quantized.tensors import QuantizedTensors

SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
PREPARED = "prepared.safetensors"  # weights that lie as the kernels read them; `preparing` writes and reads it
TORCH, TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors and the metadata of their file.

    Args:
        source: the file or folder, for messages. layout: whose names they are: huggingface, gguf or marian.
        tensors: reading an item gives a tensor; nothing is read before.
        metadata: what a GGUF or Marian file says of its model.
        quantized: those of the tensors that config.json says are quantized, under their names in the files.
    """

    source: str
    layout: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    quantized: QuantizedTensors | None = None

    def describe_weights(self) -> str | None:
        """Return how many tensors are quantized, their format and bits; None for a checkpoint of numbers."""
        if self.quantized is None:
            return None
        return f"{len(self.quantized.weights)} weights in {self.quantized.format.describe()}"

    def in_codes(self) -> Checkpoint:
        """Return the checkpoint with quantized matrices left in the file's codes until an operation needs numbers."""
        if self.quantized is not None:
            self.quantized.deferred = True
        if self.layout != "gguf":
            return self
        from .gguf_blocks import GgufTensors

        assert isinstance(self.tensors, GgufTensors)
        return replace(self, tensors=GgufTensors(self.tensors.container, blocks=True))


def read_quantized(checkpoint: Checkpoint, entries: Mapping[str, Any]) -> Checkpoint:
    """Return a checkpoint whose quantized tensors become numbers when they are read.

    Args:
        entries: of the `quantization_config` in config.json.

    Raises:
        UnsupportedConfig: entries that are not read. CorruptFile: tensors that contradict them.
    """
    from .quantized.format import open_format
    from .quantized.tensors import QuantizedTensors

    found = QuantizedTensors(checkpoint.tensors, open_format(entries), checkpoint.source)
    return replace(checkpoint, tensors=found, quantized=found)


def open_checkpoint(path: Path, *, gguf_file: str | None = None, variant: str | None = None) -> Checkpoint:
    """Open the weights of a folder or file: safetensors before torch's format, then GGUF, then Marian's binary.

    Raises:
        ModelNotFound: no weights. CorruptFile, UnsafeFile: as the formats do.
    """
    if gguf_file is not None:
        path = path / gguf_file
    if not path.exists():
        raise ModelNotFound(f"{path} does not exist.")
    if path.is_file():
        return _file(path)
    for name in (with_variant(each, variant) for each in (SAFE, SAFE_INDEX, TORCH, TORCH_INDEX)):
        if (path / name).is_file():
            return _file(path / name)
    if variant is not None:
        raise ModelNotFound(f"{path} has no weights of the variant {variant!r}: no {with_variant(SAFE, variant)}.")
    files = models(p.name for p in path.glob("[!.]*.gguf"))
    others = [path / name for name in files] or sorted(p for p in path.glob("model*.bin") if _marian(p))
    if len(others) == 1:
        return _file(others[0])
    if others:
        raise ModelNotFound(f"{path} has several models: {', '.join(p.name for p in others)}. Name one of them.")
    raise ModelNotFound(f"{path} has no weights: no {SAFE}, {TORCH}, an index of either, *.gguf or Marian model*.bin.")


def _marian(path: Path) -> bool:
    from .marian import is_marian

    return is_marian(path)


def _file(path: Path) -> Checkpoint:
    """Open one file in the format that its name implies."""
    with read_errors(path):
        return _by_format(path, str(path))


def _by_format(path: Path, source: str) -> Checkpoint:
    if path.suffix == ".gguf":
        from . import gguf
        from .gguf_blocks import GgufTensors

        container = gguf.read(path)
        return Checkpoint(source, "gguf", GgufTensors(container), container.metadata)
    if path.name.endswith(".safetensors"):
        from .safetensors import SafeTensors

        return Checkpoint(source, "huggingface", SafeTensors([path]))
    if path.name.startswith(f"{SAFE}.index."):
        from .safetensors import sharded

        return Checkpoint(source, "huggingface", sharded(path))
    if path.suffix in (".json", ".txt", ".model", ".md") and not path.name.startswith(f"{TORCH}.index."):
        raise ModelNotFound(
            f"{path} holds no weights. Give its folder, {path.parent}, or a file of weights: "
            f"*.safetensors, *.bin, *.gguf, or the index of either of the first two."
        )
    from . import torch_files

    if path.name.startswith(f"{TORCH}.index."):
        return Checkpoint(source, "huggingface", torch_files.read_sharded(path))
    if path.name != TORCH and _marian(path):
        from .marian import MarianTensors

        tensors = MarianTensors(path)
        return Checkpoint(source, "marian", tensors, tensors.metadata())
    return Checkpoint(source, "huggingface", torch_files.read(path))


def save_tensors(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    shard_bytes: int = 5 * 10**9,
    metadata: Mapping[str, str] | None = None,
    variant: str | None = None,
) -> list[Path]:
    """Write model.safetensors, or shards and their index, to a temporary folder, then move them here.

    Weights of an earlier save go. Tensors may be views of the very files that
    are replaced.

    Raises:
        InvalidInput: the folder cannot be written, or the disk is full; what was there before is still whole.
    """
    from .safetensors import write

    shards = split(tensors, shard_bytes)
    parts = [f"model-{n + 1:05}-of-{len(shards):05}.safetensors" for n in range(len(shards))]
    names = [with_variant(name, variant) for name in ([SAFE] if len(shards) == 1 else parts)]
    files: dict[str, Callable[[Path], object]] = {
        name: partial(write, shard, metadata=metadata) for name, shard in zip(names, shards, strict=True)
    }  # fmt: skip
    if len(shards) > 1:
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        table = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        index = {"metadata": {"total_size": total}, "weight_map": table}
        files[with_variant(SAFE_INDEX, variant)] = lambda path: write_json(path, index)
    return replace_weights(folder, files, variant)


def replace_weights(
    folder: Path, files: Mapping[str, Callable[[Path], object]], variant: str | None = None
) -> list[Path]:
    """Write weights to a temporary folder, move them all here, and remove those of an earlier save.

    Args:
        files: name -> what writes it to a path. variant: part of the names of the files that it replaces.

    Raises:
        InvalidInput: the folder cannot be written, or the disk is full; what was there before is still whole.
    """
    index = with_variant(SAFE_INDEX, variant)
    last = index if index in files else next(iter(files))
    try:
        with rebuild_folder(folder, last, lambda name: is_weights(name, variant)) as stage:
            for name, make in files.items():
                make(stage / name)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be written: {error}.") from error
    return [folder / name for name in files]


def split(tensors: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """Split tensors in their order into shards of at most `limit` bytes; a larger tensor has a shard of its own."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        more = tensor.numel() * tensor.element_size()
        if shards[-1] and size + more > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += more
    return shards


def is_weights(name: str, variant: str | None = None) -> bool:
    """True if `open_checkpoint` reads weights of a variant from a file of this name, GGUF and Marian aside."""
    own = "" if variant is None else rf"\.{re.escape(variant)}"
    shard = r"(-\d{5}-of-\d{5})?"
    pattern = rf"(model|pytorch_model)({own}{shard}\.(safetensors|bin)|\.(safetensors|bin)\.index{own}\.json)"
    return (name == PREPARED and variant is None) or re.fullmatch(pattern, name) is not None
