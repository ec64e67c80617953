"""Bytes that a machine can give to the KV cache of a model."""

from __future__ import annotations

import os
from pathlib import Path

import torch

SHARE_OF_RAM = 0.25  # of what is available when an engine begins: other models, and passes, need room too
SHARE_OF_GPU = 0.5  # of what the weights have left free; storage grows by halves, so that more would not fit
LEAST = 64 << 20
CGROUP = Path("/sys/fs/cgroup")  # limits of a container


def default_cache_memory(device: torch.device) -> int:
    """Return the bytes of a KV cache for which nobody has named a number."""
    if device.type == "cuda":
        return max(int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_GPU), LEAST)
    return max(int(available_ram() * SHARE_OF_RAM), LEAST)


def available_ram() -> int:
    """Return the bytes of memory that this process may still take, within the limit of its container."""
    return min(_free_of_machine(), _free_of_container())


def _free_of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # no Linux
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" not in names:
            return 4 << 30
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _free_of_container() -> int:
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return (1 << 62) if limit == "max" else max(int(limit) - int(used), 0)
    except (OSError, ValueError):  # no container, or the older kind of cgroup
        return 1 << 62
