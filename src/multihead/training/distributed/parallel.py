"""Parallel training: distribution of batches over processes, and the wrapper of the objective."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...errors import UnsupportedOption
from ..arguments import TrainingArguments
from .dtensor import full_parameters
from .fsdp import Sharding, is_sharded, shard
from .process_group import ProcessGroup

DATA, TENSOR = "data", "tensor"  # dimensions of the device mesh


class _WithUnusedParameter(nn.Module):
    """An objective with one unused parameter, so that DDP does not warn that it found no unused parameter."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective
        self.unused = nn.Parameter(torch.zeros((), device=next(objective.parameters()).device))

    def forward(self, batch: Any) -> Any:
        return self.objective(batch)


class DataParallelObjective(DistributedDataParallel):
    """torch's data parallelism of an objective; gradients are averaged in the last pass of a step only.

    By default DDP searches for parameters that a pass does not use (a pooler, experts without tokens), which costs one
    graph traversal a step.
    """

    def __init__(self, objective: nn.Module, arguments: TrainingArguments) -> None:
        find = arguments.ddp_find_unused_parameters
        megabytes = arguments.ddp_bucket_cap_mb
        super().__init__(
            _WithUnusedParameter(objective), find_unused_parameters=True if find is None else find,
            gradient_as_bucket_view=True, broadcast_buffers=bool(arguments.ddp_broadcast_buffers),
            bucket_cap_mb=megabytes,
        )  # fmt: skip


@dataclass(frozen=True)
class Parallel:
    """Division of the work over processes.

    Args:
        group: all processes. data_group: processes with different batches; processes that split layers between them
            read the same batch.
        mesh: torch's device mesh (data, tensor); None if each process holds the full model.
        sharding: FSDP over `data_group`; None for full copies.
    """

    group: ProcessGroup
    data_group: ProcessGroup
    mesh: Any = None
    sharding: Sharding | None = None

    @classmethod
    def of(cls, arguments: TrainingArguments, group: ProcessGroup) -> Parallel:
        """Build the division that the training arguments define.

        Raises:
            UnsupportedOption: the number of processes does not fit, or an option of `fsdp` is unknown.
        """
        sharding, tensor_size = Sharding.of(arguments), arguments.tensor_parallel_size
        if group.size % tensor_size:
            raise UnsupportedOption(
                f"tensor_parallel_size = {tensor_size} needs a number of processes that it divides, and there "
                f"{'is' if group.size == 1 else 'are'} {group.size}. Start them with torchrun --nproc-per-node."
            )
        if (sharding or tensor_size > 1) and arguments.optim in ("muon", "adafactor"):
            raise UnsupportedOption(
                f"optim = {arguments.optim!r} needs full matrices, which fsdp and tensor_parallel_size split; use "
                "adamw_torch."
            )
        if (sharding or tensor_size > 1) and arguments.predict_with_generate:
            raise UnsupportedOption(
                "predict_with_generate needs the full model, which fsdp and tensor_parallel_size split. Leave it "
                "out, save the model, and evaluate its texts from the saved folder."
            )
        if group.size == 1 or not (sharding or tensor_size > 1):
            return cls(group, group)
        from torch.distributed.device_mesh import init_device_mesh

        mesh = init_device_mesh(group.device, (group.size // tensor_size, tensor_size), mesh_dim_names=(DATA, TENSOR))
        torch_group = None if tensor_size == 1 else mesh.get_group(DATA)
        rank = mesh.get_local_rank(DATA)
        data = ProcessGroup(rank, group.size // tensor_size, group.local_rank, group.device, torch_group)
        if data.size > 1 and tensor_size > 1:  # torch logs warnings about slower redistribution
            logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
        if sharding is None and data.size > 1:  # FSDP2 averages the gradients of split layers too
            sharding = Sharding(reshard=False)
        return cls(group, data, mesh, sharding)

    @property
    def replicas(self) -> int:
        """Number of batches that are processed at once."""
        return self.data_group.size

    @property
    def sharded(self) -> bool:
        """True if this process may hold only shards of parameters."""
        return self.mesh is not None

    def local_batches(self, batches: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """Return the batches of a step that this process computes."""
        return list(batches[self.data_group.rank :: self.data_group.size])

    def distribute(self, objective: nn.Module) -> None:
        """Split layers and shard parameters in place, as configured; a second call does nothing.

        Raises:
            UnsupportedOption: a layer cannot be split.
        """
        if self.mesh is None or getattr(objective, "is_distributed", False):
            return
        if self.mesh[TENSOR].size() > 1:
            from .tensor_parallel import split

            model: Any = objective.model
            split(model, self.mesh[TENSOR], self.group)
        if self.sharding is not None:
            shard(objective, self.mesh[DATA], self.sharding, self.group)
        objective.is_distributed = True  # type: ignore[assignment]

    def wrap(self, objective: nn.Module, arguments: TrainingArguments) -> nn.Module:
        """Distribute an objective and return the module that a step calls."""
        self.distribute(objective)
        if self.group.size == 1 or self.mesh is not None:
            return objective
        return DataParallelObjective(objective, arguments)

    def full_model(self, model: nn.Module) -> AbstractContextManager[None]:
        """Give the model of the first process full parameters inside the block; all processes must enter."""
        return full_parameters(model, self.group) if self.sharded else nullcontext()


@contextmanager
def gradient_sync(wrapped: nn.Module, last: bool) -> Iterator[None]:
    """Reduce the gradients of a backward pass over devices only in the `last` pass of a step."""
    if is_sharded(wrapped):
        wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
    elif isinstance(wrapped, DistributedDataParallel) and not last:
        with wrapped.no_sync():
            yield
        return
    yield
