"""Writes safetensors tensor by tensor, so that no more than one tensor is in memory."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..config import write_json

DTYPES = {  # names of the format
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
SLICE = 1 << 24  # numbers that are copied at once


class ShardWriter:
    """Writer of model.safetensors, or of shards and their index, into a folder of its own.

    Tensors of a shard lie in the order of the sizes of their numbers, so that every number is aligned. Until a shard
    is whole, the numbers of each size are in a file of their own.

    Args:
        folder: a new folder. limit: bytes of a shard; a larger tensor has a shard of its own.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.total = 0  # bytes of all tensors
        self._names: list[list[str]] = []  # of each shard that is whole
        self._sizes: dict[int, list[tuple[str, Tensor, int]]] = defaultdict(
            list
        )  # size of a number -> name, empty, bytes
        self._files: dict[int, BinaryIO] = {}
        self._bytes = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Write a tensor."""
        if self._bytes and self._bytes + tensor.nbytes > self.limit:
            self._finish_shard()
        size = tensor.element_size()
        if size not in self._files:
            self._files[size] = (self.folder / f"{size}.part").open("wb")
        for part in tensor.detach().contiguous().flatten().split(SLICE):
            self._files[size].write(part.cpu().view(torch.uint8).numpy().data)
        self._sizes[size].append((name, torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"), tensor.nbytes))
        self._bytes += tensor.nbytes
        self.total += tensor.nbytes

    def close(self) -> None:
        """Write what is left, give the shards their names and write their index."""
        self._finish_shard()
        if len(self._names) == 1:
            (self.folder / "0.shard").rename(self.folder / "model.safetensors")
            return
        table: dict[str, str] = {}
        for number, names in enumerate(self._names):
            name = f"model-{number + 1:05}-of-{len(self._names):05}.safetensors"
            (self.folder / f"{number}.shard").rename(self.folder / name)
            table |= dict.fromkeys(names, name)
        index = {"metadata": {"total_size": self.total}, "weight_map": table}
        write_json(self.folder / "model.safetensors.index.json", index)

    def _finish_shard(self) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        at = 0
        for size in sorted(self._sizes, reverse=True):
            for name, tensor, count in self._sizes[size]:
                shape = list(tensor.shape)
                header[name] = {"dtype": DTYPES[tensor.dtype], "shape": shape, "data_offsets": [at, at + count]}
                at += count
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (self.folder / f"{len(self._names)}.shard").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for size in sorted(self._files, reverse=True):
                self._files[size].close()
                part = self.folder / f"{size}.part"
                with part.open("rb") as written:
                    shutil.copyfileobj(written, file, 1 << 20)
                part.unlink()
        self._names.append([name for name in header if name != "__metadata__"])
        self._sizes.clear()
        self._files.clear()
        self._bytes = 0
