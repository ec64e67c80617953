"""DTensors: gathering to one process, distribution, gradient clipping, and files that all processes write."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointBroken, MultiheadError
from .process_group import ProcessGroup

FOLDER = "distributed"  # folder of a checkpoint with the files of torch.distributed.checkpoint


def is_dtensor(tensor: Tensor | None) -> bool:
    """Return whether a tensor is a DTensor, of which this process may hold only a shard."""
    return hasattr(tensor, "device_mesh")


@contextmanager
def full_parameters(model: nn.Module, group: ProcessGroup) -> Iterator[None]:
    """Give the model of the first process full parameters on the CPU inside the block.

    Parameters are gathered one by one, so no device holds more than one full parameter.
    """
    sharded: list[tuple[nn.Module, str, nn.Parameter]] = []
    gathered: dict[int, nn.Parameter] = {}
    try:
        for owner in model.modules():
            for leaf, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
                if not is_dtensor(parameter):
                    continue
                if id(parameter) not in gathered:
                    full = parameter.detach().full_tensor()  # type: ignore[attr-defined]
                    own = nn.Parameter(full.cpu(), parameter.requires_grad) if group.is_first else parameter
                    gathered[id(parameter)] = own
                sharded.append((owner, leaf, parameter))
        for owner, leaf, parameter in sharded:
            owner._parameters[leaf] = gathered[id(parameter)]
        yield
    finally:
        for owner, leaf, parameter in sharded:
            owner._parameters[leaf] = parameter


def distribute_like(value: Tensor, like: Tensor) -> Tensor:
    """Copy a full tensor to the device of another one, or the shard of it that this process holds of a DTensor.

    A value that is a DTensor already is returned itself.
    """
    if is_dtensor(value):
        return value
    if not is_dtensor(like) or value.shape != like.shape:
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


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to a total norm of `limit` (0 for no limit); returns the norm before.

    Sparse gradients are coalesced first: the norm counts a row that was read twice once.
    """
    by_mesh: dict[Any, list[Any]] = {}  # torch takes no lists of tensors on different meshes
    for parameter in parameters:
        gradient: Any = parameter.grad
        if is_dtensor(gradient) and gradient.placements != parameter.placements:  # type: ignore[attr-defined]
            gradient = parameter.grad = gradient.redistribute(placements=parameter.placements)  # type: ignore[attr-defined]
        if gradient is not None and gradient.is_sparse:
            gradient = parameter.grad = gradient.coalesce()
            gradient = gradient.values()
        if gradient is not None:
            by_mesh.setdefault(getattr(gradient, "device_mesh", None), []).append(gradient)
    norms: list[Any] = [torch.nn.utils.get_total_norm(group) for group in by_mesh.values()] or [torch.zeros(())]
    norms = [norm.full_tensor() if is_dtensor(norm) else norm for norm in norms]
    total = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    if limit > 0 and not (total.device.type == "cpu" and len(by_mesh) == 1 and float(total) <= limit):
        factor = torch.clamp(limit / (total + 1e-6), max=1.0)
        for group in by_mesh.values():
            torch._foreach_mul_([g.to_local() if is_dtensor(g) else g for g in group], factor)
    return total


class SharedFolderWriter:
    """Writes one folder of a checkpoint from all processes; the first process sends the path to the others.

    Args:
        tensors: tensors to write; empty for no folder.
    """

    def __init__(self, group: ProcessGroup, tensors: Mapping[str, Tensor]) -> None:
        self.group, self.tensors, self.pending = group, tensors, bool(tensors)

    def lead(self, folder: Path) -> None:
        """Write in the first process. Raises OSError if any process could not write."""
        if self.pending:
            self.pending = False
            self.group.broadcast(str(folder / FOLDER))
            write_tensors(folder / FOLDER, self.tensors)

    def follow(self) -> None:
        """Write in another process. The first process reports errors."""
        if self.pending and (folder := self.group.broadcast(None)) is not None:
            with suppress(OSError):
                write_tensors(Path(str(folder)), self.tensors)

    def end(self) -> None:
        """Release the other processes if the first process did not come to write."""
        if self.pending:
            self.group.broadcast(None)


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, each process its shards; all processes must call this function.

    Raises:
        OSError: on every process, if any process could not write.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(dict(tensors), checkpoint_id=folder)
    except (Exception, CheckpointException) as error:  # CheckpointException is no Exception
        raise OSError(f"{folder}: {_cause(error)}") from error


def read_tensors(folder: Path, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors that `write_tensors` wrote, each distributed like the parameter of its path.

    Args:
        parameters: by path; a tensor is named `kind/path` or `kind/path/key`.

    Raises:
        CheckpointBroken: it is no such folder. UnsafeFile: it would run code, or names files outside the folder.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    from .dcp_reader import DcpReader

    try:
        reader = DcpReader(folder)
        entries: Any = reader.metadata.state_dict_metadata
        tensors: dict[str, Any] = {}
        for name, entry in entries.items():
            path = name.split("/")[1] if "/" in name else ""
            tensors[name] = _empty_tensor(entry, parameters.get(path))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # a single process reads
            load(tensors, storage_reader=reader)
    except MultiheadError:
        raise
    except (Exception, CheckpointException) as error:  # CheckpointException is no Exception
        raise CheckpointBroken(f"{folder} cannot be read: {_cause(error)}") from error
    return tensors


def _empty_tensor(entry: Any, like: Tensor | None) -> Tensor:
    """Return an empty tensor of the shape and dtype of a stored tensor, distributed like a parameter."""
    kind = entry.properties.dtype
    if like is not None and like.shape == entry.size:
        return torch.empty_like(like.detach(), dtype=kind)
    return torch.empty(entry.size, dtype=kind)


def _cause(error: BaseException) -> str:
    """Return the first failure of any process, in one line."""
    failures = getattr(error, "failures", None)
    first = next(iter(failures.values()))[0] if failures else error
    return f"{type(first).__name__}: {first}".splitlines()[0]
