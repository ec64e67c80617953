"""Builds the kernels with the system's C++ compiler into one library beside this file; needs nothing but Python.

The package's own build runs it, and `multihead doctor --build`. Each level of instructions is the same source compiled
with other flags; which one runs is decided on the machine that it runs on.
"""

from __future__ import annotations

import hashlib
import os
import platform
import runpy
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
LIBRARY = HERE / "kernels.so"
REASON = HERE / "kernels.txt"  # why there is no library, or what built it and its mark
COMMON = (
    "-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
    "-fno-signed-zeros", "-Wno-psabi", "-Wno-ignored-attributes",
)  # fmt: skip
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512")
VNNI = (*AVX512, "-mavx512vnni")
BF16 = (*VNNI, "-mavx512bf16")
LEVELS: dict[str, tuple[str, ...]] = {
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512_vnni": VNNI,
    "avx512_bf16": BF16,
    "amx": (*BF16, "-mamx-tile", "-mamx-int8", "-mamx-bf16", "-DMULTIHEAD_TILES"),
    "amx_emulated": (*BF16, "-DMULTIHEAD_TILES", "-DMULTIHEAD_EMULATED_TILES"),
}


class CannotBuild(Exception):
    """There is no compiler, or it fails."""


def build(target: Path = LIBRARY, link: tuple[str, ...] = ()) -> str:
    """Compile the library to `target`, atomically, and return a sentence about it.

    Args:
        link: more linker options, which sanitizers need.

    Raises:
        CannotBuild: with the reason.
    """
    if sys.platform == "win32":
        raise CannotBuild("on Windows the kernels are not built yet")
    compiler = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        raise CannotBuild("no C++ compiler was found (c++, g++ or clang++; or set CXX)")
    levels = {"plain": (), **(LEVELS if platform.machine().lower() in ("x86_64", "amd64") else {})}
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            (HERE / "level.cpp", (*flags, f"-DLEVEL={name}"), Path(folder, f"{name}.o"))
            for name, flags in levels.items()
        ]
        jobs.append((HERE / "entry.cpp", (), Path(folder, "entry.o")))
        layout = Path(folder, "layout.cpp")
        layout.write_text(_layout_proof(), encoding="utf-8")
        jobs.append((layout, (f"-I{HERE}",), Path(folder, "layout.o")))
        with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
            list(pool.map(lambda job: _run(compiler, *COMMON, *job[1], "-c", str(job[0]), "-o", str(job[2])), jobs))
        whole = Path(folder, "kernels.so")
        _run(compiler, "-shared", *link, "-o", str(whole), *(str(job[2]) for job in jobs), "-pthread")
        part = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(whole, part)  # another file system, perhaps
        part.replace(target)
    return f"built by {compiler} for {', '.join(levels)}"


def _layout_proof() -> str:
    """Return the C++ of `interface.proof`. That file is run, not imported: the package's build has no package yet."""
    interface = runpy.run_path(str(HERE / "interface.py"))
    try:
        return str(interface["proof"]())
    except interface["HeaderError"] as error:
        raise CannotBuild(str(error)) from error


def attempt() -> str:
    """Build where that is possible; write the outcome beside the library, and return it.

    An existing library stays where no other can be built; one of another header is refused when loaded.
    """
    try:
        outcome = build()
    except CannotBuild as reason:
        if LIBRARY.exists():
            return f"not built: {reason}; the library that is there stays"
        outcome = f"not built: {reason}"
    REASON.write_text("\n".join([outcome, *mark(LIBRARY)]) + "\n", encoding="utf-8")
    return outcome


def mark(library: Path) -> list[str]:
    """Return the line with size and hash, by which a damaged library is detected; an empty list without a library."""
    if not library.exists():
        return []
    data = library.read_bytes()
    return [f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"]


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBuild(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-3:]
        raise CannotBuild(f"{command[0]} failed: {' '.join(lines[:3])}")


if __name__ == "__main__":
    print(attempt())
