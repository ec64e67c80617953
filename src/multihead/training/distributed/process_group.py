"""The processes that train together, as torchrun starts them; one alone is a world of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ...errors import UnsupportedOption


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Args:
        rank: its number. size: how many there are. local: its number on this machine.
        device: "cpu" or "cuda", where it computes. group: torch's name of these processes; None for all that there are.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    device: str = "cpu"
    group: Any = None

    @classmethod
    def here(cls, device: str, backend: str | None = None, seconds: int = 1800) -> World:
        """The world that torchrun's environment variables tell of, joined if it is not yet.

        Args:
            device: "cpu" or "cuda". backend: of communication; nccl for GPUs and gloo for CPUs where None.

        Raises:
            UnsupportedOption: the backend is not built into torch.
        """
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls(device=device)
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", 0))
        if device == "cuda":
            torch.cuda.set_device(local)
        if not dist.is_initialized():
            chosen = backend or ("nccl" if device == "cuda" else "gloo")
            try:
                dist.init_process_group(chosen, timeout=timedelta(seconds=seconds))
            except (ValueError, RuntimeError) as error:
                raise UnsupportedOption(
                    f"The processes cannot be joined with ddp_backend {chosen!r}: {error}."
                ) from error
        return cls(rank, size, local, device)

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(value, group=self.group)
        return value

    def most(self, value: float) -> float:
        """The largest of all processes' values."""
        if self.size == 1:
            return value
        box = torch.tensor(float(value), device=self.device)
        dist.all_reduce(box, dist.ReduceOp.MAX, group=self.group)
        return float(box)

    def joined(self, value: Tensor) -> tuple[Tensor, int]:
        """The rows (rows, ...) of all processes, in the order of ranks, and where this one's begin."""
        if self.size == 1:
            return value, 0
        counts = torch.zeros(self.size, dtype=torch.int64, device=value.device)
        counts[self.rank] = len(value)
        sizes = self.total(counts).tolist()
        padded = value.new_zeros(max(sizes), *value.shape[1:])
        padded[: len(value)] = value
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded, group=self.group)
        parts = [part[:size] for part, size in zip(every, sizes, strict=True)]
        return torch.cat(parts), sum(sizes[: self.rank])

    def gathered(self, value: object) -> list[object]:
        """Every process's value, in the order of ranks."""
        if self.size == 1:
            return [value]
        found: list[object] = [None] * self.size
        dist.all_gather_object(found, value, group=self.group)
        return found

    def told(self, value: object) -> object:
        """What the first process has."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, group=self.group, group_src=0)
        return box[0]

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier(group=self.group)

    @contextmanager
    def first_before(self) -> Iterator[None]:
        """The first process goes through the block before the others do."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()
