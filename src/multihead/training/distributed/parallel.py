"""Training on several devices: which examples each process sees, and what wraps the objective."""

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
from ..objectives.token import Objective
from .dtensor import whole
from .fsdp import Sharding, is_sharded, shard
from .process_group import World

DATA, TENSOR = "data", "tensor"  # the two directions of a grid of processes


class _WithUnread(nn.Module):
    """An objective beside one number that is never read, so that torch does not warn of looking for such in vain."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.unread = nn.Parameter(torch.zeros((), device=objective.device))

    def forward(self, batch: Any) -> Any:
        return self.objective(batch)


class Replicated(DistributedDataParallel):
    """torch's data parallelism over an objective, whose gradients are averaged in the last pass of a step only.

    Parameters that a pass does not read (a pooler, experts without tokens) are looked for unless the settings say not
    to: it costs a walk over the graph a step.
    """

    def __init__(self, objective: Objective, arguments: TrainingArguments) -> None:
        find = arguments.ddp_find_unused_parameters
        megabytes = arguments.ddp_bucket_cap_mb
        super().__init__(
            _WithUnread(objective), find_unused_parameters=True if find is None else find, gradient_as_bucket_view=True,
            broadcast_buffers=bool(arguments.ddp_broadcast_buffers),
            bucket_cap_mb=megabytes,
        )  # fmt: skip


@dataclass(frozen=True)
class Parallel:
    """How processes share the work.

    Args:
        world: all of them. data: those that read other batches than this one, and this one; processes that share each
            layer read the same.
        mesh: torch's grid of (data, tensor) processes; None where each process holds the whole model.
        sharding: of parameters over `data`; None for whole copies.
    """

    world: World
    data: World
    mesh: Any = None
    sharding: Sharding | None = None

    @classmethod
    def of(cls, arguments: TrainingArguments, world: World) -> Parallel:
        """What the settings ask for, over the processes that there are.

        Raises:
            UnsupportedOption: the processes cannot be shared out so, or an option of `fsdp` is not known.
        """
        sharding, split_by = Sharding.of(arguments), arguments.tensor_parallel_size
        if world.size % split_by:
            raise UnsupportedOption(
                f"tensor_parallel_size = {split_by} needs a number of processes that it divides, and there "
                f"{'is' if world.size == 1 else 'are'} {world.size}. Start them with torchrun --nproc-per-node."
            )
        if (sharding or split_by > 1) and arguments.optim in ("muon", "adafactor"):
            raise UnsupportedOption(
                f"optim = {arguments.optim!r} needs whole matrices, which fsdp and tensor_parallel_size cut; use "
                "adamw_torch."
            )
        if (sharding or split_by > 1) and arguments.predict_with_generate:
            raise UnsupportedOption(
                "predict_with_generate writes with the whole model, which fsdp and tensor_parallel_size cut. Leave it "
                "out, save the model, and judge what it writes from there."
            )
        if world.size == 1 or not (sharding or split_by > 1):
            return cls(world, world)
        from torch.distributed.device_mesh import init_device_mesh

        mesh = init_device_mesh(world.device, (world.size // split_by, split_by), mesh_dim_names=(DATA, TENSOR))
        group = None if split_by == 1 else mesh.get_group(DATA)
        data = World(mesh.get_local_rank(DATA), world.size // split_by, world.local, world.device, group)
        if data.size > 1 and split_by > 1:
            logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # of what is slower so
        if sharding is None and data.size > 1:  # gradients of split layers are averaged by FSDP2 too
            sharding = Sharding(reshard=False)
        return cls(world, data, mesh, sharding)

    @property
    def replicas(self) -> int:
        """How many batches are read at once."""
        return self.data.size

    @property
    def sharded(self) -> bool:
        """Whether this process may hold parts of parameters only."""
        return self.mesh is not None

    def share(self, batches: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """This process's batches of a step."""
        return list(batches[self.data.rank :: self.data.size])

    def spread(self, objective: Objective) -> None:
        """Cuts the model's layers and shards its parameters, once and in place, where the settings ask for it.

        Raises:
            UnsupportedOption: a layer that cannot be cut so.
        """
        if self.mesh is None or getattr(objective, "is_spread", False):
            return
        if self.mesh[TENSOR].size() > 1:
            from .tensor_parallel import split

            split(objective.model, self.mesh[TENSOR], self.world)
        if self.sharding is not None:
            shard(objective, self.mesh[DATA], self.sharding, self.world)
        objective.is_spread = True  # type: ignore[assignment]

    def wrapped(self, objective: Objective, arguments: TrainingArguments) -> nn.Module:
        """What a step calls."""
        self.spread(objective)
        return objective if self.world.size == 1 or self.mesh is not None else Replicated(objective, arguments)

    def whole(self, model: nn.Module) -> AbstractContextManager[None]:
        """The first process's model has whole parameters inside; all processes must enter."""
        return whole(model, self.world) if self.sharded else nullcontext()


@contextmanager
def exchanging(wrapped: nn.Module, last: bool) -> Iterator[None]:
    """Gradients of a backward pass inside join those of other devices if it is the `last` of a step."""
    if is_sharded(wrapped):
        wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
    elif isinstance(wrapped, DistributedDataParallel) and not last:
        with wrapped.no_sync():
            yield
        return
    yield
