"""The state of a run beside its weights: optimizer, averages, scaler and random generators, in one safetensors file."""

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
from ..distributed.dtensor import FOLDER, placed, read
from ..optim.optimizers import Average, learning
from .folders import RUN_FILE

STATE, RANDOM = "training_state.safetensors", "random_state"
LEARNED = "learned.safetensors"  # weights that the model's own files do not give back, in a checkpoint without a state


def tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None, *, weights: bool
) -> dict[str, Tensor]:
    """The optimizer's state and averages, by the paths of parameters.

    Args:
        weights: gives the learning parameters too, where the model's own files do not hold them by path.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in learning(model):
        if weights:
            found[f"weights/{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"optimizer/{name}/{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    if average is not None:
        found |= {f"average/{name}": value for name, value in average.weights.items()}
        found["average_steps"] = torch.tensor(average.steps)
    return found


def save(folder: Path, tensors: Mapping[str, Tensor], name: str = STATE) -> None:
    """Writes what `tensors` gives, from one process that holds all of it."""
    write({k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}, folder / name)


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, average: Average | None) -> None:
    """Gives the optimizer, the averages and (where they are there) the weights what was written, by however many.

    Raises:
        CheckpointBroken: the parameters that learn are not those that learned.
    """
    stored = _stored(folder, model)
    kept = {name.split("/", 2)[1] for name in stored if name.startswith("optimizer/")}
    now = {name for name, _ in learning(model)}
    if optimizer is not None and kept and not kept <= now:
        other = sorted(kept ^ now)
        raise CheckpointBroken(
            f"{folder} was written by a run in which other parameters learned: {', '.join(other[:3])}"
            f"{' and more' if len(other) > 3 else ''}. Train with the same model, adapters and frozen parts."
        )
    weights = any(name.startswith("weights/") for name in stored)
    for name, parameter in learning(model):
        if weights:
            with torch.no_grad():
                parameter.copy_(placed(fitting(folder, f"weights/{name}", stored, parameter), parameter))
        state = {k.rsplit("/", 1)[1]: stored[k] for k in stored if k.startswith(f"optimizer/{name}/")}
        if optimizer is not None and state:
            optimizer.state[parameter] = {k: _placed(k, v, parameter) for k, v in state.items()}
    if average is not None:
        average.steps = int(stored["average_steps"])
        for name in average.weights:
            held = average.weights[name]
            held.copy_(placed(fitting(folder, f"average/{name}", stored, held), held))


def fitting(folder: Path, name: str, stored: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """A stored tensor. Raises CheckpointBroken where it has another shape, which would be spread over this one's."""
    found = stored.get(name)
    if found is None or found.shape != like.shape:
        has = "does not hold" if found is None else f"holds {list(found.shape)} numbers, not {list(like.shape)}, for"
        raise CheckpointBroken(f"{folder} {has} {name}: it is not of this model.")
    return found


def judged(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    """Weights that an evaluation saw, where a checkpoint holds them beside the model's own files, by paths."""
    if has_state(folder):
        stored = _stored(folder, model)
    else:
        stored = SafeTensors([folder / LEARNED]) if (folder / LEARNED).is_file() else {}
    return {
        name.partition("/")[2]: stored[name]
        for kind in ("weights/", "average/")
        for name in stored
        if name.startswith(kind)
    }


def has_state(folder: Path) -> bool:
    """Whether a run can go on from a checkpoint."""
    return (folder / STATE).is_file() or parted(folder)


def parted(folder: Path) -> bool:
    """Whether several processes wrote the state, each its parts, as `run.json` says; older ones do not say it."""
    told = read_json(folder / RUN_FILE).get("parted", not (folder / STATE).is_file())
    return told is True and (folder / FOLDER).is_dir()


def _stored(folder: Path, model: nn.Module) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint, as one process or several wrote them."""
    if parted(folder):
        return read(folder / FOLDER, dict(model.named_parameters()))
    return SafeTensors([folder / STATE])


def _placed(key: str, value: Tensor, parameter: Tensor) -> Any:
    """A tensor of the state where the optimizer keeps it: counters as they are, all else beside the parameter."""
    if key == "step":
        return value.clone() if parameter.device.type == "cpu" else value.to(parameter.device)
    return placed(value, parameter)


def seed(number: int) -> None:
    """Seeds every generator that this process draws from."""
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def random_state() -> dict[str, Any]:
    """The state of every generator that this process draws from."""
    kind, keys, place, has, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), place, has, cached],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def save_random(folder: Path, states: Sequence[Any]) -> None:
    """Writes each process's generators."""
    for rank, state in enumerate(states):
        write_json(folder / f"{RANDOM}_{rank}.json", state)


def load_random(folder: Path, rank: int) -> None:
    """Sets every generator as it was; a process that was not there keeps its own. Raises CheckpointBroken."""
    path = folder / f"{RANDOM}_{rank}.json"
    if not path.is_file():
        return
    try:
        told = read_json(path)
        version, inner, cached = told["python"]
        random.setstate((version, tuple(inner), cached))
        kind, keys, place, has, more = told["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), place, has, more))
        torch.set_rng_state(torch.tensor(told["torch"], dtype=torch.uint8))
        if told["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([torch.tensor(state, dtype=torch.uint8) for state in told["cuda"]])
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointBroken(f"{path} holds no state of random generators: {error}.") from error
