"""torch.distributed.checkpoint's folders, read without running what they hold. Loads torch's part for them.

Their table of contents is a pickle, which torch's own reader trusts. Here it may name plain data and the records of
that format, nothing else; files are read only where the table keeps inside the folder.
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

TABLE = ".metadata"
RECORDS = {  # module -> what of it a table may name
    "torch.distributed.checkpoint.metadata": metadata,
    "torch.distributed.checkpoint.filesystem": filesystem,
}
NAMES = frozenset(
    "Metadata TensorStorageMetadata TensorProperties ChunkStorageMetadata MetadataIndex StorageMeta "
    "_MEM_FORMAT_ENCODING _StorageInfo".split()
)
PART = re.compile(r"__\d+_\d+\.distcp")


class Records(pickle.Unpickler):
    """Unpickles the records of torch.distributed.checkpoint; anything else is refused before it is made."""

    def find_class(self, module: str, name: str) -> Any:
        """What a table names. Raises UnsafeFile for what is no record of the format."""
        if module in RECORDS and name in NAMES:
            return getattr(RECORDS[module], name)
        if module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        if (module, name) == ("torch.serialization", "_get_layout"):
            return lambda _: torch.strided
        if module in ("pathlib", "pathlib._local") and name in ("PosixPath", "WindowsPath"):
            return lambda *_: None  # where the folder lay when it was written
        raise UnsafeFile(f"it asks for {module}.{name}, which is no record of a checkpoint; nothing of it was run")

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeFile("it asks for objects outside of it; nothing of it was run")


class Reader(FileSystemReader):
    """torch's reader of a folder, whose table of contents and parts are read and checked here.

    Raises:
        UnsafeFile: the table wants to run code, or names files outside the folder.
        CheckpointBroken: the table is none, or does not fit the files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder, self.table = folder, table(folder)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The table that was checked."""
        return self.table

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Gives the planner each part that it asks for."""
        for item in plan.items:
            place = self.storage_data[item.storage_index]
            with (self.folder / place.relative_path).open("rb") as file:
                file.seek(place.offset)
                tensor = single(file.read(place.length))
            room = planner.resolve_tensor(item).detach()
            room.copy_(narrow_tensor_by_index(tensor, item.storage_offsets, item.lengths))
            planner.commit_tensor(item, room)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def table(folder: Path) -> Metadata:
    """The table of contents of a folder, checked. Raises as `Reader` does."""
    with (folder / TABLE).open("rb") as file:
        try:
            found = Records(file).load()
        except UnsafeFile as error:
            raise UnsafeFile(f"{folder / TABLE} wants to run code, which is refused: {error}.") from error
    if not isinstance(found, Metadata) or not isinstance(found.state_dict_metadata, dict):
        raise CheckpointBroken(f"{folder / TABLE} holds a {type(found).__name__}, not the parts of a checkpoint.")
    if not isinstance(found.storage_data, dict):
        raise CheckpointBroken(f"{folder / TABLE} does not say where the parts lie.")
    stored = sum(kept(folder, entry) for entry in found.storage_data.values())
    for name, entry in found.state_dict_metadata.items():
        covered(name, entry, found.storage_data, stored)
    return found


def kept(folder: Path, entry: Any) -> int:
    """How many bytes of its file a part takes. Raises UnsafeFile, CheckpointBroken."""
    path = entry.relative_path
    if not isinstance(path, str) or not PART.fullmatch(path) or (folder / path).is_symlink():
        raise UnsafeFile(f"{folder / TABLE} names {path!r}, which is no file of its folder.")
    if entry.transform_descriptors:
        raise CheckpointBroken(f"{folder / TABLE} has parts that were compressed, which are not read.")
    if not 0 <= entry.offset <= entry.offset + entry.length <= (folder / path).stat().st_size:
        raise CheckpointBroken(f"{folder / path} is shorter than {TABLE} says.")
    return int(entry.length)


def covered(name: str, entry: Any, places: dict[MetadataIndex, Any], stored: int) -> None:
    """Raises CheckpointBroken unless the parts of a tensor are all of it, each in its place."""
    if not isinstance(entry, TensorStorageMetadata):
        raise CheckpointBroken(f"{name} is stored as a {type(entry).__name__}, not as a tensor.")
    boxes = [(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in entry.chunks]
    inside = all(
        len(begin) == len(size) == len(entry.size)
        and all(b >= 0 and n >= 0 and b + n <= m for b, n, m in zip(begin, size, entry.size, strict=True))
        for begin, size in boxes
    )
    whole = sum(math.prod(size) for _, size in boxes) == math.prod(entry.size) and not any(crossing(boxes))
    if not (inside and whole):
        raise CheckpointBroken(f"{name} does not consist of the parts that {TABLE} lists.")
    if any(MetadataIndex(name, begin) not in places for begin, _ in boxes):
        raise CheckpointBroken(f"{name} has parts of which {TABLE} does not say where they lie.")
    if math.prod(entry.size) * entry.properties.dtype.itemsize > stored:
        raise CheckpointBroken(f"{name} is larger than all files together.")


def crossing(boxes: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> Iterator[bool]:
    """Whether two boxes, each a first corner and a size, have a place in common, for each pair in the order of rows."""
    filled = sorted((begin, size) for begin, size in boxes if math.prod(size))
    for i, (begin, size) in enumerate(filled):
        for other, extent in filled[i + 1 :]:
            if begin and other[0] >= begin[0] + size[0]:
                break
            yield all(b < o + e and o < b + n for b, n, o, e in zip(begin, size, other, extent, strict=True))
