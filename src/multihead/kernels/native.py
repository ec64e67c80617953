"""The kernels in C++: the library that was built, as functions. Without it there is `None`, and torch does the work."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Sequence
from ctypes import c_char_p, c_float, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from hashlib import sha256
from pathlib import Path
from struct import unpack_from
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedOption, warn

FOLDER = Path(__file__).parent.parent / "native"
LIBRARY, REASON = FOLDER / "kernels.so", FOLDER / "kernels.txt"
ABI = 9
TYPES = {torch.float32: 0, torch.bfloat16: 1}
ACTIVATIONS = {  # names of checkpoints -> numbers in vectors.h
    "relu": 1, "gelu": 2, "gelu_new": 3, "gelu_fast": 3, "gelu_pytorch_tanh": 3, "silu": 4, "swish": 4,
    "quick_gelu": 5, "tanh": 6, "sigmoid": 7,
}  # fmt: skip


class Weight(ctypes.Structure):
    """native.h: Weight."""

    _fields_ = [
        ("kind", c_int32), ("act", c_int32), ("gated", c_int32), ("norm", c_int32), ("after", c_int32),
        ("zero", c_int32), ("norm_eps", c_float), ("after_eps", c_float), ("inputs", c_int64), ("outputs", c_int64),
        ("width", c_int64), ("codes", c_void_p), ("scales", c_void_p), ("minima", c_void_p), ("bias", c_void_p),
        ("norm_weight", c_void_p), ("norm_bias", c_void_p), ("after_weight", c_void_p), ("after_bias", c_void_p),
        ("parts", c_void_p * 3), ("counts", c_int64 * 3), ("apart", c_int64),
    ]  # fmt: skip


class Decode(ctypes.Structure):
    """native.h: Decode."""

    _fields_ = [
        ("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("out", c_void_p), ("begins", c_void_p),
        ("lengths", c_void_p), ("index", c_void_p), ("texts", c_int64), ("heads", c_int64), ("key_heads", c_int64),
        ("width", c_int64), ("value_width", c_int64), ("q_stride", c_int64), ("row_stride", c_int64),
        ("value_stride", c_int64), ("bias", c_void_p), ("biases", c_int64), ("scale", c_float), ("type", c_int32),
        ("by_place", c_int32),
    ]  # fmt: skip


class Mix(ctypes.Structure):
    """native.h: Mix."""

    _fields_ = [
        *[(name, c_void_p) for name in ("q", "k", "v", "out", "q_begins", "q_lengths", "begins", "lengths")],
        *[(name, c_int64) for name in (
            "texts", "heads", "key_heads", "width", "value_width", "q_stride", "row_stride", "value_stride", "window",
        )],
        ("scale", c_float), ("causal", c_int32),
    ]  # fmt: skip


class Step(ctypes.Structure):
    """native.h: Step."""

    _fields_ = [
        *[(name, c_void_p) for name in (
            "qkv", "out", "query", "cross", "into", "down", "k", "v", "source_k", "source_v", "writes", "begins",
            "lengths", "index", "source_begins", "source_lengths", "cosines", "sines", "q_norm", "k_norm", "bias",
        )],
        *[(name, c_int64) for name in (
            "biases", "by_place", "heads", "key_heads", "width", "rotated", "source_stride", "window",
        )],
        *[(name, c_float) for name in ("scale", "cross_scale", "norm_eps")],
    ]  # fmt: skip


class Pass(ctypes.Structure):
    """native.h: Pass."""

    _fields_ = [
        *[(name, c_void_p) for name in ("steps", "x", "room", "q_begins", "q_lengths")],
        *[(name, c_int64) for name in ("layers", "texts", "tokens", "states")],
        ("type", c_int32), ("causal", c_int32),
    ]  # fmt: skip


class Best(ctypes.Structure):
    """native.h: Best."""

    _fields_ = [
        *[(name, c_void_p) for name in ("scores", "banned", "values", "places")],
        *[(name, c_int64) for name in ("rows", "width", "stride", "count", "bans")],
        ("type", c_int32), ("normal", c_int32),
    ]  # fmt: skip


class Drop(ctypes.Structure):
    """native.h: Drop."""

    _fields_ = [
        ("x", c_void_p), ("y", c_void_p), ("count", c_int64), ("seed", c_uint64), ("threshold", c_uint32),
        ("scale", c_float), ("type", c_int32),
    ]  # fmt: skip


class Adam(ctypes.Structure):
    """native.h: Adam."""

    _fields_ = [
        *[(name, c_void_p) for name in ("table", "first", "second", "gradient", "rows")],
        *[(name, c_int64) for name in ("count", "width")],
        *[(name, c_float) for name in ("rate", "root", "beta1", "beta2", "eps")],
    ]  # fmt: skip


class Keys(ctypes.Structure):
    """native.h: Keys."""

    _fields_ = [
        *[(name, c_void_p) for name in ("writes", "begins", "lengths", "copies")], ("copied", c_int64),
        ("window", c_int64),
    ]  # fmt: skip


class Angles(ctypes.Structure):
    """native.h: Angles."""

    _fields_ = [
        *[(name, c_void_p) for name in ("cosines", "sines", "here_cosines", "here_sines")], ("half", c_int64),
    ]  # fmt: skip


class Walk(ctypes.Structure):
    """native.h: Walk."""

    _fields_ = [
        ("pass_", Pass),
        *[(name, c_void_p) for name in (
            "keys", "angles", "words", "learned", "first_weight", "first_bias", "norm_weight", "norm_bias", "scorer",
            "scores", "tokens", "places", "ends",
        )],
        *[(name, c_int64) for name in ("steps", "windows", "turned", "vocabulary", "end_count")],
        ("scale", c_float), ("first_eps", c_float), ("norm_eps", c_float), ("first", c_int32), ("norm", c_int32),
        ("score_type", c_int32),
    ]  # fmt: skip


class Turn(ctypes.Structure):
    """native.h: Turn."""

    _fields_ = [
        ("x", c_void_p), ("y", c_void_p), ("cosines", c_void_p), ("sines", c_void_p), ("tokens", c_int64),
        ("heads", c_int64), ("width", c_int64), ("rotated", c_int64), ("stride", c_int64), ("head_stride", c_int64),
        ("type", c_int32),
    ]  # fmt: skip


class Norm(ctypes.Structure):
    """native.h: Norm."""

    _fields_ = [
        ("x", c_void_p), ("weight", c_void_p), ("bias", c_void_p), ("y", c_void_p), ("rows", c_int64),
        ("width", c_int64), ("stride", c_int64), ("kind", c_int32), ("type", c_int32), ("eps", c_float),
        ("centre", c_float),
    ]  # fmt: skip


def numbers(values: Sequence[int]) -> Any:
    """Whole numbers as the kernels read them; kept by the caller for as long as they do."""
    return (c_int64 * len(values))(*values)


def serves(x: Tensor) -> bool:
    """Whether the kernels can compute with a tensor: on the CPU, of a precision they know, without a gradient."""
    if library() is None or not x.is_cpu or x.dtype not in TYPES or torch.compiler.is_compiling():
        return False
    return not (x.requires_grad and torch.is_grad_enabled()) and type(x) is Tensor


@cache
def library() -> Any | None:
    """The loaded library; None where it was not built or does not fit."""
    return _opened()[0]


def why_not() -> str:
    """Why there is no library, in words; empty where there is one."""
    return _opened()[1]


def level(name: str | None = None) -> str | None:
    """The instructions that are used, "avx512_bf16" say; None without a library.

    Args:
        name: uses these from now on, everywhere; None changes nothing.

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
    try:
        found = ctypes.CDLL(str(LIBRARY))
        if found.mh_abi() != ABI:
            return None, f"{LIBRARY} was built from other sources; build it again with `multihead doctor --build`"
    except (OSError, AttributeError) as error:
        return None, f"{LIBRARY} cannot be loaded: {error}"
    found.mh_level.restype, found.mh_level.argtypes = c_char_p, [c_char_p]
    found.mh_threads.argtypes = [c_void_p, c_void_p, c_void_p]
    found.mh_product.argtypes = [
        c_void_p, c_void_p, c_int64, c_int64, c_int32, c_void_p, c_int64, c_void_p, c_int64, c_int32, c_int32,
    ]  # fmt: skip
    found.mh_linear.argtypes = [
        c_void_p, c_int64, c_int64, c_void_p, c_int32, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int32,
    ]  # fmt: skip
    described = ("norm", "decode", "rotate", "mix", "pass", "best", "drop", "adam", "walk")
    for name in described:
        getattr(found, f"mh_{name}").argtypes = [c_void_p, c_int32]
    for name in ("threads", "product", "linear", *described):
        getattr(found, f"mh_{name}").restype = None
    found.mh_walk.restype = c_int64
    wanted = os.environ.get("MULTIHEAD_LEVEL")
    chosen = found.mh_level(wanted.encode() if wanted else None)
    if chosen is None:
        return None, f"MULTIHEAD_LEVEL={wanted} is no level that this processor can run"
    _level = chosen.decode()
    found.mh_threads(*_openmp())
    return found, ""


def built() -> str:
    """What `kernels.txt` says of the last build, in words; empty where there is no such file."""
    try:
        return REASON.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return ""


def damage() -> str:
    """What is wrong with the library's file, in words; empty where it is whole.

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
        place, size, count = *unpack_from("<Q", data.ljust(64), 40), *unpack_from("<HH", data.ljust(64), 58)
        return "" if place + size * count <= len(data) else f"it was cut after {len(data):,} bytes"
    return "it is no library" if sys.platform == "linux" else ""


def _openmp() -> tuple[int | None, int | None, int | None]:
    """Addresses in the OpenMP runtime that torch has loaded, so that both share its threads; None where it has none."""
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
        key=lambda path: not path.startswith(torch_own),
    )
    for path in paths:
        try:
            runtime = ctypes.CDLL(path)
            calls = runtime.GOMP_parallel, runtime.omp_get_thread_num, runtime.omp_get_num_threads
        except (OSError, AttributeError):
            continue
        return tuple(ctypes.cast(call, c_void_p).value for call in calls)  # type: ignore[return-value]
    return None, None, None
