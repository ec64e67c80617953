"""Tensors of which each process holds a part: made whole on one, written by all, read by any number of processes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointBroken, MultiheadError
from .process_group import World

FOLDER = "distributed"  # of a checkpoint: torch.distributed.checkpoint's files


def is_part(tensor: Tensor | None) -> bool:
    """Whether this process holds only a part of a tensor, as torch's DTensor."""
    return hasattr(tensor, "device_mesh")


@contextmanager
def whole(model: nn.Module, world: World) -> Iterator[None]:
    """Inside, the first process's model has whole parameters, on the CPU; the others' is as it was.

    Parameters are gathered one by one: no device holds more than one of them whole.
    """
    kept: list[tuple[nn.Module, str, nn.Parameter]] = []
    gathered: dict[int, nn.Parameter] = {}
    try:
        for owner in model.modules():
            for leaf, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
                if not is_part(parameter):
                    continue
                if id(parameter) not in gathered:
                    full = parameter.detach().full_tensor()  # type: ignore[attr-defined]
                    own = nn.Parameter(full.cpu(), parameter.requires_grad) if world.first else parameter
                    gathered[id(parameter)] = own
                kept.append((owner, leaf, parameter))
        for owner, leaf, parameter in kept:
            owner._parameters[leaf] = gathered[id(parameter)]
        yield
    finally:
        for owner, leaf, parameter in kept:
            owner._parameters[leaf] = parameter


def placed(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor where another one is: this process's part of it, or all of it on that device.

    A copy, but for what is placed already.
    """
    if is_part(value):
        return value
    if not is_part(like) or value.shape != like.shape:
        return value.to(like.device, copy=True)
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    assert isinstance(like, DTensor)
    shape, begin = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
    part = value[tuple(slice(b, b + n) for b, n in zip(begin, shape, strict=True))]
    local = part.to(like.device, copy=True).contiguous()
    return DTensor.from_local(
        local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def clipped(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """The norm of all gradients together, which are scaled down to `limit` where they are longer; 0 for no limit."""
    alike: dict[Any, list[Any]] = {}  # torch takes no lists of tensors on different meshes
    for parameter in parameters:
        gradient: Any = parameter.grad
        if is_part(gradient) and gradient.placements != parameter.placements:  # type: ignore[attr-defined]
            gradient = parameter.grad = gradient.redistribute(placements=parameter.placements)  # type: ignore[attr-defined]
        if gradient is not None and gradient.is_sparse:  # a row that was read twice is one row of its norm
            gradient = parameter.grad = gradient.coalesce()
            gradient = gradient.values()
        if gradient is not None:
            alike.setdefault(getattr(gradient, "device_mesh", None), []).append(gradient)
    norms: list[Any] = [torch.nn.utils.get_total_norm(group) for group in alike.values()] or [torch.zeros(())]
    norms = [norm.full_tensor() if is_part(norm) else norm for norm in norms]
    total = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    if limit > 0 and not (total.device.type == "cpu" and len(alike) == 1 and float(total) <= limit):
        factor = torch.clamp(limit / (total + 1e-6), max=1.0)
        for group in alike.values():
            torch._foreach_mul_([g.to_local() if is_part(g) else g for g in group], factor)
    return total


class Together:
    """One folder of a checkpoint that all processes write: the first says where, the others wait for its word.

    Args:
        tensors: that are written; none for no such folder.
    """

    def __init__(self, world: World, tensors: Mapping[str, Tensor]) -> None:
        self.world, self.tensors, self.waits = world, tensors, bool(tensors)

    def lead(self, folder: Path) -> None:
        """The first process's part. Raises OSError if any process could not write."""
        if self.waits:
            self.waits = False
            self.world.told(str(folder / FOLDER))
            write(folder / FOLDER, self.tensors)

    def follow(self) -> None:
        """The others' part. What fails is the first process's to tell."""
        if self.waits and (folder := self.world.told(None)) is not None:
            with suppress(OSError):
                write(Path(str(folder)), self.tensors)

    def end(self) -> None:
        """The first process lets the others go, whether it came to write or not."""
        if self.waits:
            self.world.told(None)


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors, each process its parts, which all must call.

    Raises:
        OSError: on every process, if any could not write.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(dict(tensors), checkpoint_id=folder)
    except (Exception, CheckpointException) as error:  # the latter is no Exception
        raise OSError(f"{folder}: {_cause(error)}") from error


def read(folder: Path, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `write` wrote, by names `kind/path` or `kind/path/key`, each placed as the parameter of its path.

    Raises:
        CheckpointBroken: it is no such folder. UnsafeFile: it wants to run code, or reaches outside itself.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    from ..checkpointing.dcp_reader import Reader

    try:
        reader = Reader(folder)
        told: Any = reader.table.state_dict_metadata
        wanted: dict[str, Any] = {}
        for name, entry in told.items():
            path = name.split("/")[1] if "/" in name else ""
            wanted[name] = _room(entry, parameters.get(path))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process reads alone
            load(wanted, storage_reader=reader)
    except MultiheadError:
        raise
    except (Exception, CheckpointException) as error:  # the latter is no Exception
        raise CheckpointBroken(f"{folder} cannot be read: {_cause(error)}") from error
    return wanted


def _room(entry: Any, like: Tensor | None) -> Tensor:
    """An empty tensor for a stored one."""
    kind = entry.properties.dtype
    if like is not None and like.shape == entry.size:
        return torch.empty_like(like.detach(), dtype=kind)
    return torch.empty(entry.size, dtype=kind)


def _cause(error: BaseException) -> str:
    """The first failure of any process, in one line."""
    found = getattr(error, "failures", None)
    first = next(iter(found.values()))[0] if found else error
    return f"{type(first).__name__}: {first}".splitlines()[0]
