"""Tensors of which each process holds a part: made whole on one, written by all, read by any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from ..errors import CheckpointBroken
from ..nn.experts import RoutedExperts
from .world import World

FOLDER = "distributed"  # of a checkpoint: torch.distributed.checkpoint's files


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
                if not isinstance(parameter, DTensor):
                    continue
                if id(parameter) not in gathered:
                    full = parameter.detach().full_tensor()
                    gathered[id(parameter)] = nn.Parameter(full.cpu(), parameter.requires_grad) if world.first else parameter
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
    if isinstance(value, DTensor):
        return value
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value.to(like.device, copy=True)
    shape, begin = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
    part = value[tuple(slice(b, b + n) for b, n in zip(begin, shape, strict=True))]
    local = part.to(like.device, copy=True).contiguous()
    return DTensor.from_local(
        local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def clipped(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """The norm of all gradients together, which are scaled down to `limit` where they are longer; 0 for no limit."""
    alike: dict[Any, list[Tensor]] = {}  # torch takes no lists of tensors on different meshes
    for parameter in parameters:
        gradient = parameter.grad
        if isinstance(gradient, DTensor) and gradient.placements != parameter.placements:  # type: ignore[attr-defined]
            gradient = parameter.grad = gradient.redistribute(placements=parameter.placements)  # type: ignore[attr-defined]
        if gradient is not None:
            alike.setdefault(getattr(gradient, "device_mesh", None), []).append(gradient)
    norms = [torch.nn.utils.get_total_norm(group) for group in alike.values()] or [torch.zeros(())]
    norms = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    total = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    if limit > 0:
        factor = torch.clamp(limit / (total + 1e-6), max=1.0)
        for group in alike.values():
            torch._foreach_mul_([g.to_local() if isinstance(g, DTensor) else g for g in group], factor)
    return total


def forget_unread(model: nn.Module, world: World) -> None:
    """Lets go of the gradients of experts that no device sent a token to: their weights rest, as on one device."""
    experts = [p for m in model.modules() if isinstance(m, RoutedExperts) for p in m.parameters() if p.grad is not None]
    if world.size == 1 or not experts:
        return
    parts = [p.grad.to_local() if isinstance(p.grad, DTensor) else p.grad for p in experts]
    read = world.total(torch.stack([part.any() for part in parts if part is not None]).float())
    for parameter, was in zip(experts, read.tolist(), strict=True):
        if not was:
            parameter.grad = None


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
    try:
        dcp.save(dict(tensors), checkpoint_id=folder)
    except Exception as error:
        raise OSError(f"{folder}: {_cause(error)}") from error


def read(folder: Path, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `write` wrote, by names `kind/path` or `kind/path/key`, each placed as the parameter of its path.

    Raises:
        CheckpointBroken: it is no such folder.
    """
    try:
        told: Any = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
        wanted: dict[str, Any] = {}
        for name, entry in told.items():
            assert isinstance(entry, TensorStorageMetadata)
            path = name.split("/")[1] if "/" in name else ""
            wanted[name] = _room(entry, parameters.get(path))
        dcp.load(wanted, checkpoint_id=folder)
    except Exception as error:
        raise CheckpointBroken(f"{folder} cannot be read: {_cause(error)}") from error
    return wanted


def _room(entry: TensorStorageMetadata, like: Tensor | None) -> Tensor:
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
