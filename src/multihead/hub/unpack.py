"""Unpacking of the data in a wheel, which is not trusted.

A wheel is a zip with a RECORD that gives the hash of every file in it ("Binary distribution format",
packaging.python.org).
"""

from __future__ import annotations

import base64
import binascii
import csv
import errno
import hashlib
import io
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import CacheUnusable, CorruptFile, MultiheadError, UnsafeFile

CODE = re.compile(r"\.(py[cdiw]?|so(\.[\d.]+)?|dll|dylib|exe|bat|sh|ps1)$", re.IGNORECASE)
PAPERS = re.compile(r"(METADATA|RECORD|(LICEN[SC]E|COPYING|NOTICE|AUTHORS)[^/]*|licenses/.+)", re.IGNORECASE)
UNLISTED = re.compile(r"[^/]+\.dist-info/RECORD(\.jws|\.p7s)?")
HASHES = frozenset({"sha256", "sha384", "sha512"})
# What zipfile raises for damaged archives; of OSError only a seek to where no file can be.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)
BLOCK = 1 << 20
MOST = 20_000  # files in a wheel
LONGEST = 1 << 24  # bytes of a RECORD
DENSEST, SMALL = 50, 100 * 10**6  # how many times a wheel's size its data may have, and bytes that any wheel may


def unpack(wheel: Path, folder: Path) -> None:
    """Write the data files of a wheel into a new folder: no code, and only licenses of the metadata.

    Raises:
        CorruptFile: no zip, a damaged one, no RECORD, a file that RECORD does not list or gives another hash for.
        UnsafeFile: a name that leaves the folder, or a link.
        CacheUnusable: not enough room.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            listed = archive.infolist()
            if len(listed) > MOST:
                raise UnsafeFile(f"The wheel {wheel.name} holds {len(listed):,} files; up to {MOST:,} are unpacked.")
            members = [check_member(member, wheel.name) for member in listed if not member.is_dir()]
            record = read_record(archive, wheel.name)
            data = [member for member in members if is_data(member.filename)]
            refuse_gaps(members, record, wheel.name)
            refuse_size(sum(member.file_size for member in data), wheel)
            for member in data:
                extract(archive, member, folder, record, wheel.name)
    except MultiheadError:
        raise
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise CorruptFile(f"The wheel {wheel.name} is damaged: {error}. Try again.") from error
    folder.mkdir(exist_ok=True)


def check_member(member: zipfile.ZipInfo, wheel: str) -> zipfile.ZipInfo:
    """Return a member whose name stays inside and that is a plain file. Raises UnsafeFile, CorruptFile."""
    name = member.filename
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or not path.parts
        or ".." in path.parts
        or "\\" in name
        or ":" in name
        or "\0" in member.orig_filename
    ):
        raise UnsafeFile(f"The wheel {wheel} holds {member.orig_filename!r}, a name that leaves its folder.")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise UnsafeFile(f"The wheel {wheel} holds {name!r}, which is a link or a device, not a file.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CorruptFile(f"The wheel {wheel} holds {name!r}, compressed by a method that wheels do not use.")
    return member


def read_record(archive: zipfile.ZipFile, wheel: str) -> Mapping[str, str]:
    """Return the hash (`algorithm=value`) of each file in the wheel's RECORD."""
    found = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
    if len(found) != 1:
        raise CorruptFile(f"The wheel {wheel} has {len(found)} RECORD files; it must have one, with every file's hash.")
    if archive.getinfo(found[0]).file_size > LONGEST:
        raise UnsafeFile(f"The RECORD of the wheel {wheel} has more than {LONGEST / 1e6:.0f} MB.")
    try:
        return parse_record(archive.read(found[0]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorruptFile(f"The RECORD of the wheel {wheel} is not a table in UTF-8: {error}.") from error


def parse_record(record: bytes) -> dict[str, str]:
    """Parse a RECORD to file -> hash. Raises UnicodeDecodeError, csv.Error."""
    return {row[0]: row[1] for row in csv.reader(io.StringIO(record.decode("utf-8"))) if len(row) >= 2}


def is_data(name: str) -> bool:
    """Return True if a file is data, or a license of the data."""
    top, _, rest = name.partition("/")
    if top.endswith(".dist-info"):
        return PAPERS.fullmatch(rest) is not None
    if top.endswith(".data") and rest.startswith(("scripts/", "headers/")):
        return False
    return CODE.search(name) is None


def refuse_gaps(members: list[zipfile.ZipInfo], record: Mapping[str, str], wheel: str) -> None:
    """Raise CorruptFile if files and RECORD differ, or a name occurs twice."""
    names = [member.filename for member in members]
    twice = [name for name, times in Counter(names).items() if times > 1]
    twice += sorted(set(names) & {str(parent) for name in names for parent in PurePosixPath(name).parents})
    unlisted = [name for name in names if not record.get(name) and not UNLISTED.fullmatch(name)]
    absent = [name for name in set(record).difference(names) if is_data(name)]
    for wrong, what in ((twice, "holds twice"), (unlisted, "has no hash for"), (absent, "lists but lacks")):
        if wrong:
            raise CorruptFile(f"The wheel {wheel} {what}: {', '.join(sorted(wrong)[:5])}.")


def refuse_size(size: int, wheel: Path) -> None:
    """Raise UnsafeFile for data far larger than its wheel, CacheUnusable if `size` bytes do not fit on the disk."""
    packed = wheel.stat().st_size
    if size > DENSEST * packed + SMALL:
        raise UnsafeFile(
            f"The wheel {wheel.name} has {packed / 1e6:.1f} MB and would unpack to {size / 1e6:,.0f} MB, more than "
            f"{DENSEST} times as much. No model packs so well; do not trust it."
        )
    free = shutil.disk_usage(wheel.parent).free
    if size > free:
        raise CacheUnusable(
            f"The data of {wheel.name} takes {size / 1e6:.0f} MB; {wheel.parent} has {free / 1e6:.0f} MB left. Make "
            "room, or choose another folder (cache_dir=, MULTIHEAD_CACHE)."
        )


def extract(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, record: Mapping[str, str], wheel: str
) -> None:
    """Write one file and compare its hash with RECORD. Raises CorruptFile."""
    path = folder.joinpath(*PurePosixPath(member.filename).parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    expected = record.get(member.filename, "")
    algorithm, _, value = expected.partition("=")
    if UNLISTED.fullmatch(member.filename):
        algorithm, expected = "sha256", ""
    elif algorithm not in HASHES:
        raise CorruptFile(
            f"The wheel {wheel} gives a hash of the kind {algorithm!r} for {member.filename}; want sha256."
        )
    digest = hashlib.new(algorithm)
    with archive.open(member) as source, create_file(path, member.filename, wheel) as target:
        while block := source.read(BLOCK):
            digest.update(block)
            target.write(block)
    if expected and digest.digest() != decode_hash(value):
        raise CorruptFile(
            f"{member.filename} in the wheel {wheel} is not what its RECORD says (another hash). Try again."
        )


def create_file(path: Path, name: str, wheel: str) -> BinaryIO:
    """Create a file. Raises CorruptFile where another name of the wheel is the same on this disk."""
    try:
        return path.open("xb")
    except FileExistsError as error:
        raise CorruptFile(f"The wheel {wheel} holds twice: {name}, in other letters.") from error


def decode_hash(value: str) -> bytes:
    """Decode a RECORD hash (URL-safe base64 without padding); empty for an invalid one."""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return b""
