"""State of a run beside the model files: optimizer, weight averages and random generators."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...checkpoints.safetensors import SafeTensors, write
from ...config import read_json, write_json
from ...errors import CheckpointBroken
from ...nn.own_names import own_parameters
from ..distributed.dtensor import FOLDER, distribute_like, read_tensors
from ..optim.optimizers import WeightAverage, trainable_parameters
from .folders import RUN_FILE

STATE_TENSORS, RANDOM_STATE = "training_state.safetensors", "random_state"
WEIGHTS = "learned.safetensors"  # trained weights that the model files lack, in a checkpoint without a run state


def state_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None, *, weights: bool
) -> dict[str, Tensor]:
    """Return the optimizer state and the weight averages, by parameter path.

    Args:
        weights: include the trainable parameters, for models whose own files do not hold them by path.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in trainable_parameters(model):
        if weights:
            tensors[f"weights/{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.weights.items()}
        tensors["average_steps"] = torch.tensor(average.steps)
    return tensors


def save_tensors(folder: Path, tensors: Mapping[str, Tensor], name: str = STATE_TENSORS) -> None:
    """Write full tensors to a safetensors file from one process."""
    write({k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}, folder / name)


def load_tensors(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, average: WeightAverage | None
) -> None:
    """Restore the optimizer, the averages and (if stored) the weights, in place.

    The number of processes may differ from that of the run that wrote the checkpoint.

    Raises:
        CheckpointBroken: the checkpoint was written with other trainable parameters.
    """
    stored = _read_state(folder, model)
    saved = {name.split("/", 2)[1] for name in stored if name.startswith("optimizer/")}
    current = {name for name, _ in trainable_parameters(model)}
    if optimizer is not None and saved and not saved <= current:
        other = sorted(saved ^ current)
        raise CheckpointBroken(
            f"{folder} was written by a run with other trainable parameters: {', '.join(other[:3])}"
            f"{' and more' if len(other) > 3 else ''}. Train with the same model, adapters and frozen parts."
        )
    weights = any(name.startswith("weights/") for name in stored)
    for name, parameter in trainable_parameters(model):
        if weights:
            with torch.no_grad():
                value = require_shape(folder, f"weights/{name}", stored, parameter)
                parameter.copy_(distribute_like(value, parameter))
        state = {k.rsplit("/", 1)[1]: stored[k] for k in stored if k.startswith(f"optimizer/{name}/")}
        if optimizer is not None and state:
            optimizer.state[parameter] = {k: _optimizer_tensor(k, v, parameter) for k, v in state.items()}
    if average is not None:
        average.steps = int(stored["average_steps"])
        for name, weight in average.weights.items():
            weight.copy_(distribute_like(require_shape(folder, f"average/{name}", stored, weight), weight))


def require_shape(folder: Path, name: str, stored: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Return a stored tensor. Raises CheckpointBroken for another shape, which `copy_` would broadcast."""
    tensor = stored.get(name)
    if tensor is None or tensor.shape != like.shape:
        has = "does not hold" if tensor is None else f"holds {list(tensor.shape)} numbers, not {list(like.shape)}, for"
        raise CheckpointBroken(f"{folder} {has} {name}: it belongs to another model.")
    return tensor


def evaluated_weights(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    """Return the weights, by path, that an evaluation used and that a checkpoint stores beside the model files."""
    if has_state(folder):
        stored = _read_state(folder, model)
    else:
        stored = SafeTensors([folder / WEIGHTS]) if (folder / WEIGHTS).is_file() else {}
    return {
        name.partition("/")[2]: stored[name]
        for kind in ("weights/", "average/")
        for name in stored
        if name.startswith(kind)
    }


def has_state(folder: Path) -> bool:
    """Return whether a run can resume from a checkpoint."""
    return (folder / STATE_TENSORS).is_file() or is_distributed(folder)


def is_distributed(folder: Path) -> bool:
    """Return whether several processes wrote the state, each its shards; older versions did not record it."""
    flag = read_json(folder / RUN_FILE).get("parted", not (folder / STATE_TENSORS).is_file())
    return flag is True and (folder / FOLDER).is_dir()


def _read_state(folder: Path, model: nn.Module) -> Mapping[str, Tensor]:
    """Return the state tensors of a checkpoint, which one process or several wrote."""
    if is_distributed(folder):
        return read_tensors(folder / FOLDER, dict(own_parameters(model)))
    return SafeTensors([folder / STATE_TENSORS])


def _optimizer_tensor(key: str, value: Tensor, parameter: Tensor) -> Any:
    """Return a state tensor on the device of its parameter; only step counters are never sharded."""
    if key == "step":
        return value.clone() if parameter.device.type == "cpu" else value.to(parameter.device)
    return distribute_like(value, parameter)


def set_seed(seed: int) -> None:
    """Seed the random generators of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the states of the random generators of Python, numpy and torch as JSON values."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def save_random_states(folder: Path, states: Sequence[Any]) -> None:
    """Write the random states of all processes, one file a rank."""
    for rank, state in enumerate(states):
        write_json(folder / f"{RANDOM_STATE}_{rank}.json", state)


def load_random_state(folder: Path, rank: int) -> None:
    """Restore the random generators; a rank without a file keeps its own state. Raises CheckpointBroken."""
    path = folder / f"{RANDOM_STATE}_{rank}.json"
    if not path.is_file():
        return
    try:
        states = read_json(path)
        version, inner, cached = states["python"]
        random.setstate((version, tuple(inner), cached))
        kind, keys, position, has_gauss, gauss = states["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
        torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
        if states["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([torch.tensor(state, dtype=torch.uint8) for state in states["cuda"]])
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointBroken(f"{path} holds no valid random states: {error}.") from error
