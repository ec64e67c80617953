"""Safe reader of the folders of torch.distributed.checkpoint.

The metadata file of a folder is a pickle, which torch's own reader trusts. This reader accepts plain data and the
record classes of the format, nothing else, and reads only files inside the folder.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.futures import Future

from ...checkpoints.torch_files import single
from ...errors import CheckpointBroken, UnsafeFile

METADATA_FILE = ".metadata"
RECORD_MODULES = {  # modules whose record classes the metadata may name
    "torch.distributed.checkpoint.metadata": metadata,
    "torch.distributed.checkpoint.filesystem": filesystem,
}
RECORD_NAMES = frozenset(
    "Metadata TensorStorageMetadata TensorProperties ChunkStorageMetadata MetadataIndex StorageMeta "
    "_MEM_FORMAT_ENCODING _StorageInfo".split()
)
SHARD_FILE = re.compile(r"__\d+_\d+\.distcp")


class RecordUnpickler(pickle.Unpickler):
    """Unpickler of the records of torch.distributed.checkpoint; refuses any other class before creating it."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a record class. Raises UnsafeFile for a class that is no record of the format."""
        if module in RECORD_MODULES and name in RECORD_NAMES:
            return getattr(RECORD_MODULES[module], name)
        if module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        if (module, name) == ("torch.serialization", "_get_layout"):
            return lambda _: torch.strided
        if module in ("pathlib", "pathlib._local") and name in ("PosixPath", "WindowsPath"):
            return lambda *_: None  # path of the folder when it was written
        raise UnsafeFile(f"it asks for {module}.{name}, which is no record of a checkpoint; nothing of it was run")

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeFile("it asks for objects outside of it; nothing of it was run")


class DcpReader(FileSystemReader):
    """torch's reader of a folder, with checked metadata and shards.

    Raises:
        UnsafeFile: the metadata would run code, or names files outside the folder.
        CheckpointBroken: the metadata is invalid, or does not fit the files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder, self.metadata = folder, read_metadata(folder)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the checked metadata."""
        return self.metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read each shard that the plan lists into the planner's tensors."""
        for item in plan.items:
            entry = self.storage_data[item.storage_index]
            with (self.folder / entry.relative_path).open("rb") as file:
                file.seek(entry.offset)
                shard = single(file.read(entry.length))
            target = planner.resolve_tensor(item).detach()
            target.copy_(narrow_tensor_by_index(shard, item.storage_offsets, item.lengths))
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def read_metadata(folder: Path) -> Metadata:
    """Read and check the metadata of a folder. Raises the errors of `DcpReader`."""
    with (folder / METADATA_FILE).open("rb") as file:
        try:
            contents = RecordUnpickler(file).load()
        except UnsafeFile as error:
            raise UnsafeFile(f"{folder / METADATA_FILE} wants to run code, which is refused: {error}.") from error
    if not isinstance(contents, Metadata) or not isinstance(contents.state_dict_metadata, dict):
        raise CheckpointBroken(
            f"{folder / METADATA_FILE} holds a {type(contents).__name__}, not the metadata of a checkpoint."
        )
    if not isinstance(contents.storage_data, dict):
        raise CheckpointBroken(f"{folder / METADATA_FILE} does not list the positions of the shards.")
    size = sum(shard_bytes(folder, entry) for entry in contents.storage_data.values())
    for name, entry in contents.state_dict_metadata.items():
        check_tensor(name, entry, contents.storage_data, size)
    return contents


def shard_bytes(folder: Path, entry: Any) -> int:
    """Return the size of a shard in its file. Raises UnsafeFile, CheckpointBroken."""
    path = entry.relative_path
    if not isinstance(path, str) or not SHARD_FILE.fullmatch(path) or (folder / path).is_symlink():
        raise UnsafeFile(f"{folder / METADATA_FILE} names {path!r}, which is no file of its folder.")
    if entry.transform_descriptors:
        raise CheckpointBroken(f"{folder / METADATA_FILE} has compressed shards, which are not supported.")
    if not 0 <= entry.offset <= entry.offset + entry.length <= (folder / path).stat().st_size:
        raise CheckpointBroken(f"{folder / path} is shorter than {METADATA_FILE} states.")
    return int(entry.length)


def check_tensor(name: str, entry: Any, shards: dict[MetadataIndex, Any], size: int) -> None:
    """Raise CheckpointBroken unless the shards of a tensor cover it exactly.

    Args:
        size: bytes of all shards in the folder.
    """
    if not isinstance(entry, TensorStorageMetadata):
        raise CheckpointBroken(f"{name} is stored as a {type(entry).__name__}, not as a tensor.")
    boxes = [(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in entry.chunks]
    inside = all(
        len(begin) == len(shape) == len(entry.size)
        and all(b >= 0 and n >= 0 and b + n <= m for b, n, m in zip(begin, shape, entry.size, strict=True))
        for begin, shape in boxes
    )
    complete = sum(math.prod(shape) for _, shape in boxes) == math.prod(entry.size) and not any(overlaps(boxes))
    if not (inside and complete):
        raise CheckpointBroken(f"{name} does not consist of the shards that {METADATA_FILE} lists.")
    if any(MetadataIndex(name, begin) not in shards for begin, _ in boxes):
        raise CheckpointBroken(f"{name} has shards whose positions {METADATA_FILE} does not list.")
    if math.prod(entry.size) * entry.properties.dtype.itemsize > size:
        raise CheckpointBroken(f"{name} is larger than all files together.")


def overlaps(boxes: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> Iterator[bool]:
    """Yield, for pairs of boxes (first corner, shape) in the order of rows, whether the two boxes overlap."""
    filled = sorted((begin, size) for begin, size in boxes if math.prod(size))
    for i, (begin, size) in enumerate(filled):
        for other, extent in filled[i + 1 :]:
            if begin and other[0] >= begin[0] + size[0]:
                break
            yield all(b < o + e and o < b + n for b, n, o, e in zip(begin, size, other, extent, strict=True))
