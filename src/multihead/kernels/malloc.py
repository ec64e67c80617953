"""Settings of glibc's malloc: retain the memory that a forward pass frees for the next one."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4  # names in malloc.h
RETAINED = 1 << 30  # bytes at the heap's end that are not given back
AHEAD = 1 << 28  # address space that is asked for at once; untouched pages cost nothing
LARGEST = 1 << 25  # glibc's bound for what may lie in the heap


@cache
def retain_freed_memory(*, largest: bool = False) -> bool:
    """Make glibc retain freed memory, as GPU allocators do; return whether it does.

    Args:
        largest: blocks of any size, as training needs for the gradients of embedding tables.

    Else every forward pass maps its large tensors again, and the system fills each page with zeros: 8 to 25 percent of
    a pass in bfloat16. The process stays as large as its largest pass was. `MULTIHEAD_KEEP_MEMORY=0`
    or any of glibc's own `MALLOC_..._` settings leaves everything as it is.
    """
    own = any(name.startswith("MALLOC_") for name in os.environ)
    if not sys.platform.startswith("linux") or own or os.environ.get("MULTIHEAD_KEEP_MEMORY") == "0":
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # only glibc has both
        settings = [(MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, RETAINED), (TOP_PAD, AHEAD)]
        settings += [(MMAP_MAX, 0)] if largest else []
        return all(library.mallopt(name, value) == 1 for name, value in settings)
    except (OSError, AttributeError):
        return False
