"""Loads the library of C++ kernels. Without it `library()` is None, and torch does the work."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Sequence
from ctypes import c_char_p, c_int64, c_void_p
from functools import cache
from hashlib import sha256
from pathlib import Path
from struct import unpack_from
from typing import Any

import torch
from torch import Tensor

from ...errors import UnsupportedOption, warn
from ...native.interface import MARK, HeaderError, Interface, read

FOLDER = Path(__file__).parents[2] / "native"
LIBRARY, REASON = FOLDER / "kernels.so", FOLDER / "kernels.txt"
OTHER_SOURCES = "was built from another native.h; build it again with `multihead doctor --build`"
TYPES = {torch.float32: 0, torch.bfloat16: 1}


def _interface() -> tuple[Interface, str]:
    """Return the declarations of `native.h`; where it cannot be read, no declarations, and the reason."""
    try:
        return read(), ""
    except HeaderError as error:
        return Interface({}, {}, ""), str(error)


INTERFACE, HEADER_FAULT = _interface()
# Structures of native.h, in its order. Without the header there is no library either, so no struct is filled in.
STRUCTS = (
    "Weight", "DecodeAttention", "PrefillAttention", "DeltaStep", "ExpertsStep", "LayerCall", "StackCall",
    "CacheWindow", "RotaryAngles", "DecodeLoop", "Rotation", "NormCall", "TopK", "DropoutCall", "AdamRows",
    "Convolution", "ConvolutionStep", "MambaStep", "DequantizeCall",
)  # fmt: skip
(
    Weight, DecodeAttention, PrefillAttention, DeltaStep, ExpertsStep, LayerCall, StackCall, CacheWindow, RotaryAngles,
    DecodeLoop, Rotation, NormCall, TopK, DropoutCall, AdamRows, Convolution, ConvolutionStep, MambaStep,
    DequantizeCall,
) = (INTERFACE.structs.get(name, ctypes.Structure) for name in STRUCTS)  # fmt: skip


def numbers(values: Sequence[int]) -> Any:
    """Return integers as an array of the kernels; the caller keeps it alive for as long as they read it."""
    return (c_int64 * len(values))(*values)


def serves(x: Tensor) -> bool:
    """Return whether the kernels compute with a tensor: on the CPU, of a dtype in TYPES, without a gradient."""
    if library() is None or not x.is_cpu or x.dtype not in TYPES or torch.compiler.is_compiling():
        return False
    # a subclass may have no numbers at its address, as a BlockTensor
    return not (x.requires_grad and torch.is_grad_enabled()) and type(x) is Tensor


@cache
def library() -> Any:
    """Return the loaded library; None where it was not built or does not fit."""
    return _opened()[0]


def why_not() -> str:
    """Return why there is no library; empty where there is one."""
    return _opened()[1]


def level(name: str | None = None) -> str | None:
    """Return the instruction level in use, such as "avx512_bf16"; None without a library.

    Args:
        name: level to use from now on in the whole process; None changes nothing.

    Raises:
        UnsupportedOption: the processor or the library has no such level.
    """
    global _level
    found = library()
    if found is None:
        return None
    if name is not None:
        chosen = found.mh_level(name.encode())
        if chosen is None:
            raise UnsupportedOption(f"The kernels have no level {name!r} that this processor can run.")
        _level = chosen.decode()
    return _level


_level: str | None = None


@cache
def _opened() -> tuple[Any | None, str]:
    global _level
    if os.environ.get("MULTIHEAD_NATIVE") == "0":
        return None, "MULTIHEAD_NATIVE=0 turns them off"
    if not LIBRARY.exists():
        return None, built() or "not built"
    if damage():
        said = f"{LIBRARY} is damaged: {damage()}; build it again with `multihead doctor --build`"
        warn(f"{said}. Until then torch does the work of the kernels.")
        return None, said
    if HEADER_FAULT:
        return None, HEADER_FAULT
    try:
        found = ctypes.CDLL(str(LIBRARY))
        mark = getattr(found, MARK)
        mark.restype = c_char_p  # else ctypes takes the pointer for an int of 32 bits
        if mark().decode() != INTERFACE.mark:
            return None, f"{LIBRARY} {OTHER_SOURCES}"
        for name, (result, arguments) in INTERFACE.functions.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError:  # a library from before the mark, or without a function that the header declares
        return None, f"{LIBRARY} {OTHER_SOURCES}"
    except OSError as error:
        return None, f"{LIBRARY} cannot be loaded: {error}"
    wanted = os.environ.get("MULTIHEAD_LEVEL")
    chosen = found.mh_level(wanted.encode() if wanted else None)
    if chosen is None:
        return None, f"MULTIHEAD_LEVEL={wanted} is no level that this processor can run"
    _level = chosen.decode()
    # two OpenMP runtimes in one process would each start their own threads
    found.mh_threads(*_openmp())
    return found, ""


def built() -> str:
    """Return the first line of `kernels.txt`, about the last build; empty where there is no such file."""
    try:
        return REASON.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return ""


def damage() -> str:
    """Return what is wrong with the library's file; empty where it is complete.

    Loading half a file ends the process with a bus error, so it is compared with what `kernels.txt` notes of it, or,
    where that notes nothing, with what its own header says of its length (ELF, whose last table ends the file).
    """
    try:
        data, noted = LIBRARY.read_bytes(), REASON.read_bytes() if REASON.exists() else b""
    except OSError as error:
        return str(error)
    found = re.search(rb"^(\d+) bytes, sha256 ([0-9a-f]{64})$", noted, re.MULTILINE)
    if found is not None:
        if len(data) != int(found[1]):
            return f"it has {len(data):,} bytes instead of {int(found[1]):,}"
        return "" if sha256(data).hexdigest().encode() == found[2] else "its hash is not the one in kernels.txt"
    if data[:5] == b"\x7fELF\x02":
        # e_shoff, e_shentsize and e_shnum of the ELF header
        place, size, count = *unpack_from("<Q", data.ljust(64), 40), *unpack_from("<HH", data.ljust(64), 58)
        return "" if place + size * count <= len(data) else f"it was cut after {len(data):,} bytes"
    return "it is no library" if sys.platform == "linux" else ""


def _openmp() -> tuple[int | None, int | None, int | None]:
    """Return addresses in the OpenMP runtime of torch, so that both share its threads; None where torch has none."""
    try:
        loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, None, None
    torch_own = str(Path(torch.__file__).parent.parent)
    paths = sorted(
        {
            line.split(maxsplit=5)[5]
            for line in loaded.splitlines()
            if re.search(r"/lib(gomp|iomp5|omp)[-.][^/]*$", line)
        },
        key=lambda path: not path.startswith(torch_own),  # torch's own runtime first
    )
    for path in paths:
        try:
            runtime = ctypes.CDLL(path)
            # GNU's functions, which the runtimes of LLVM and Intel have, too
            calls = runtime.GOMP_parallel, runtime.omp_get_thread_num, runtime.omp_get_num_threads
        except (OSError, AttributeError):
            continue
        return tuple(ctypes.cast(call, c_void_p).value for call in calls)  # type: ignore[return-value]
    return None, None, None
