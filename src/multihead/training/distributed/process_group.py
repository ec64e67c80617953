"""Process group of a training run, as torchrun starts it; a single process is a group of size 1."""

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
class ProcessGroup:
    """Rank of this process in its group, and collective operations.

    Args:
        rank: of this process. size: number of processes. local_rank: rank on this machine.
        device: "cpu" or "cuda". group: torch's process group; None for the default group of all processes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: str = "cpu"
    group: Any = None

    @classmethod
    def from_environment(cls, device: str, backend: str | None = None, seconds: int = 1800) -> ProcessGroup:
        """Build the group from torchrun's environment variables, and initialize torch.distributed if necessary.

        Args:
            device: "cpu" or "cuda". backend: communication backend; default nccl for GPUs and gloo for CPUs.
            seconds: timeout of collective operations.

        Raises:
            UnsupportedOption: the backend is not built into torch, or initialization fails.
        """
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls(device=device)
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        if device == "cuda":
            torch.cuda.set_device(local_rank)
        if not dist.is_initialized():
            chosen = backend or ("nccl" if device == "cuda" else "gloo")
            try:
                dist.init_process_group(chosen, timeout=timedelta(seconds=seconds))
            except (ValueError, RuntimeError) as error:
                raise UnsupportedOption(
                    f"The process group cannot be initialized with ddp_backend {chosen!r}: {error}."
                ) from error
        return cls(rank, size, local_rank, device)

    @property
    def is_first(self) -> bool:
        """True for rank 0, which writes and reports."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(value, group=self.group)
        return value

    def max(self, value: float) -> float:
        """Return the maximum over all processes."""
        if self.size == 1:
            return value
        box = torch.tensor(float(value), device=self.device)
        dist.all_reduce(box, dist.ReduceOp.MAX, group=self.group)
        return float(box)

    def gather_rows(self, value: Tensor) -> tuple[Tensor, int]:
        """Return the rows (rows, ...) of all processes in rank order, and the offset of this process's rows."""
        if self.size == 1:
            return value, 0
        counts = torch.zeros(self.size, dtype=torch.int64, device=value.device)
        counts[self.rank] = len(value)
        sizes = self.sum(counts).tolist()
        padded = value.new_zeros(max(sizes), *value.shape[1:])
        padded[: len(value)] = value
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded, group=self.group)
        parts = [part[:size] for part, size in zip(every, sizes, strict=True)]
        return torch.cat(parts), sum(sizes[: self.rank])

    def gather_objects(self, value: object) -> list[object]:
        """Return the values of all processes, in rank order."""
        if self.size == 1:
            return [value]
        values: list[object] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def broadcast(self, value: object) -> object:
        """Return the value of the first process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, group=self.group, group_src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier(group=self.group)

    @contextmanager
    def first_process_before(self) -> Iterator[None]:
        """Run the block in the first process before the others."""
        if not self.is_first:
            self.barrier()
        yield
        if self.is_first:
            self.barrier()
