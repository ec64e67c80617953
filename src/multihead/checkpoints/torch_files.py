"""Reads `pytorch_model.bin`, in torch's zip format and in the older pickled one, without running code.

Both are read here, and not by torch: its reader takes a zip's records for as long, and as raw, as the pickle beside
them says.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import CorruptFile, ModelNotFound, MultiheadError, UnsafeFile, warn
from . import torch_pickle
from .safetensors import AGAIN, indexed
from .torch_pickle import LONGEST, Described, Record

MAGIC = 0x1950A86A20F9469CFC6C  # of the older format
PROTOCOL = 1001
HEADER = struct.Struct("<4sHHHHHIIIHH")  # of a file in a zip: APPNOTE.TXT, 4.3.7
Places = Mapping[str, tuple[int, int]]  # record -> where it begins in the file and how many bytes it has


def read(path: Path) -> dict[str, Tensor]:
    """Open the tensors of one file, memory-mapped.

    Raises:
        UnsafeFile: the pickle asks for something else than tensors; nothing of it was run.
        CorruptFile: the file is truncated, its parts contradict each other, or it holds something else than named
            tensors.
    """
    try:
        with path.open("rb") as file:
            found, places = archive(file) if file.read(4) == b"PK\x03\x04" else older(file)
        return Numbers(mapped(path), places).named_tensors(found, path)
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path} does not exist.") from error
    except UnsafeFile as error:
        raise UnsafeFile(f"{path} wants to run code, which is refused: {_short(str(error))}.") from error
    except CorruptFile as error:
        raise CorruptFile(f"{path} cannot be read: {_short(str(error))}. {AGAIN}") from error
    except MultiheadError:
        raise
    except Exception as error:  # damaged pickles and archives raise many kinds
        raise CorruptFile(f"{path} cannot be read: {_short(str(error) or type(error).__name__)}. {AGAIN}") from error


def read_sharded(index: Path) -> dict[str, Tensor]:
    """Open all tensors of an index file. Raises as `read` and `safetensors.indexed` do."""
    where = indexed(index)
    files = {path: read(path) for path in sorted(set(where.values()))}
    for name, path in where.items():
        if name not in files[path]:
            raise CorruptFile(f"{path} lacks the tensor {name!r} that the index promises. {AGAIN}")
    return {name: files[path][name] for name, path in where.items()}


def single(data: bytes) -> Tensor:
    """Return the only tensor in bytes that torch.save wrote. Raises CorruptFile, UnsafeFile."""
    try:
        found, places = archive(BytesIO(data))
        if not isinstance(found, Described):
            raise CorruptFile("it holds no tensor")
        return Numbers(torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage(), places).tensor(found)
    except MultiheadError:
        raise
    except Exception as error:
        raise CorruptFile(_short(str(error) or type(error).__name__)) from error


def mapped(path: Path) -> torch.UntypedStorage:
    """Map a file into memory, copy-on-write."""
    found = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
    assert isinstance(found, torch.UntypedStorage)
    return found


def archive(file: BinaryIO) -> tuple[Any, Places]:
    """Return the object of a zip's pickle and the offsets of its records. Raises CorruptFile, UnsafeFile."""
    with zipfile.ZipFile(file) as packed:
        members = packed.infolist()
        root = next((m.filename[: -len("data.pkl")] for m in members if m.filename.endswith("/data.pkl")), None)
        if root is None:
            raise CorruptFile("it is a zip without a data.pkl, which torch.save writes")
        if any(member.filename == root + "constants.pkl" for member in members):
            raise UnsafeFile("it is a TorchScript program, not weights alone")
        inner = {member.filename: member for member in members}
        if len(inner) < len(members):
            raise CorruptFile("it holds several files of one name")
        order = inner.get(root + "byteorder")
        if order is not None and content(file, order) != b"little":
            raise CorruptFile("its numbers are in another order of bytes than this machine's")
        found = torch_pickle.read(content(file, inner[root + "data.pkl"]))
        begin = root + "data/"
        places = {
            name.removeprefix(begin): (place(file, member), member.file_size)
            for name, member in inner.items()
            if name.startswith(begin)
        }
    return found, places


def place(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Return the offset of a file in a zip. Raises CorruptFile unless its two headers agree and it is uncompressed."""
    name = member.filename
    file.seek(member.header_offset)
    mark, _, flags, method, _, _, _, packed, size, length, extra = HEADER.unpack(file.read(HEADER.size))
    if mark != b"PK\x03\x04" or file.read(length) != member.orig_filename.encode("utf-8" if flags & 0x800 else "cp437"):
        raise CorruptFile(f"the archive's directory and header of {name} do not agree")
    if method != zipfile.ZIP_STORED or member.compress_type != method or member.flag_bits & 1:
        raise CorruptFile(f"{name} is compressed, which torch.save never does")
    recorded = {0, 0xFFFFFFFF, member.file_size}  # written behind the file, in a long header, or here
    if member.file_size != member.compress_size or packed not in recorded or size not in recorded:
        raise CorruptFile(f"{name} has two sizes")
    begin = member.header_offset + HEADER.size + length + extra
    if begin + member.file_size > file.seek(0, 2):
        raise CorruptFile(f"{name} reaches beyond the end of the file")
    return begin


def content(file: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a small file in a zip."""
    if member.file_size > LONGEST:
        raise CorruptFile(f"{member.filename} has {member.file_size / 1e6:.0f} MB, more than any table of tensors")
    file.seek(place(file, member))
    return file.read(member.file_size)


def older(file: BinaryIO) -> tuple[Any, Places]:
    """Return the object that a file from before torch 1.6 describes: five pickles, then the bytes of each storage.

    Raises:
        CorruptFile, UnsafeFile: as `read`.
    """
    size = file.seek(0, 2)
    file.seek(0)
    stream = BytesIO(file.read(LONGEST))
    if torch_pickle.read(stream) != MAGIC:
        raise CorruptFile("it was not written by torch.save")
    version, machine = torch_pickle.read(stream), torch_pickle.read(stream)
    if version != PROTOCOL or not isinstance(machine, Mapping) or machine.get("little_endian") is not True:
        raise CorruptFile("it was written by another version of torch, or for another order of bytes")
    reader = torch_pickle.Reader(stream)
    found, keys = torch_pickle.read(reader), torch_pickle.read(stream)
    at, places = stream.tell(), dict[str, tuple[int, int]]()
    for key in map(torch_pickle.text, keys):
        file.seek(at)
        (count,) = struct.unpack("<q", file.read(8))
        if key not in reader.widths or count < 0 or at + 8 + count * reader.widths[key] > size:
            raise CorruptFile(f"the record {key!r} is cut off, or none that a tensor has")
        places[key] = (at + 8, count * reader.widths[key])
        at += 8 + count * reader.widths[key]
    return found, places


class Numbers:
    """Tensors as views of the bytes of their file."""

    def __init__(self, data: torch.UntypedStorage, places: Places) -> None:
        self.data, self.places = data, places
        self.storages: dict[str, torch.UntypedStorage] = {}

    def named_tensors(self, found: Any, path: Path) -> dict[str, Tensor]:
        """Return the named tensors of an unpickled object. Raises CorruptFile where it has none."""
        if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
            found = found["state_dict"]
        if not isinstance(found, Mapping):
            kind = "tensor" if isinstance(found, Described) else type(found).__name__
            raise CorruptFile(f"it holds a {kind}, not named tensors")
        tensors = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Described)}
        others = [str(name) for name in found if name not in tensors]
        if others and not tensors:
            raise CorruptFile(f"it holds no named tensors, but {', '.join(others[:5])}")
        if others:
            warn(f"{path} holds entries that are no tensors; they are left out: {', '.join(others[:5])}.")
        return {name: self.tensor(value) for name, value in tensors.items()}

    def tensor(self, description: Described) -> Tensor:
        """Return a tensor as a view of the file's bytes."""
        record = description.record
        begin = record.begin * record.width // description.dtype.itemsize
        storage = self.storage(record)
        return torch.empty(0, dtype=description.dtype).set_(
            storage, begin + description.offset, description.shape, description.strides
        )

    def storage(self, record: Record) -> torch.UntypedStorage:
        """Return the storage of a record, shared by all its tensors. Raises CorruptFile."""
        if record.key not in self.places:
            raise CorruptFile(f"it lacks the record {record.key!r}")
        begin, size = self.places[record.key]
        if size != record.length * record.width:
            raise CorruptFile(f"the record {record.key!r} has {size} bytes, not {record.length * record.width}")
        if record.key not in self.storages:
            found = self.data[begin : begin + size] if size else torch.UntypedStorage(0)
            self.storages[record.key] = found if begin % 8 == 0 else found.clone()
        return self.storages[record.key]


def _short(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 300 else line[:297] + "..."
