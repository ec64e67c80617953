"""What a Trainer will do and has done, in plain values: for the plan before a run and for the card after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...errors import UnsupportedOption, nearest
from ...nn.quantized_linear import QuantizedLinear
from ...pipelines.catalog import TRAINABLE
from ..data.features import Features
from .model_card import Data, Trained

if TYPE_CHECKING:
    from ..trainer import Trainer


@dataclass(frozen=True)
class DataSet:
    """One data set as a model reads it.

    Args:
        name: of its files. rows: their number. examples: what they became. tokens: of all. longest: tokens of the
            longest example. notes: sentences on what was cut or left out.
    """

    name: str
    rows: int
    examples: int
    tokens: int
    longest: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extent:
    """How long a run is: optimizer steps in all, in its first epoch, and epochs."""

    steps: int
    each: int
    epochs: float


def data_set(trainer: Trainer, source: Any, *, training: bool, exact: bool = True) -> DataSet:
    """What is known of a data set; tokens are counted where they must be `exact`. Raises as the task's preparation."""
    features = trainer.features(source, training=training)
    sizes = trainer.job.sizes(features, exact=exact)
    count, tokens, longest = len(features), int(sizes.sum()), int(sizes.max(initial=0))
    if not isinstance(features, Features) or features.rows is None:
        return DataSet("examples in memory", count, count, tokens, longest)
    name = features.rows.name
    name = "rows in memory" if name == "the data" else name
    return DataSet(name, len(features.rows), count, tokens, longest, tuple(features.notes))


def evaluated(trainer: Trainer) -> dict[str, Any]:
    """The data sets that are evaluated on, by name; one alone is "evaluation"."""
    source = trainer.eval_dataset
    if source is None:
        return {}
    several = isinstance(source, Mapping) and not trainer.job.is_table(source)
    return dict(source) if several else {"evaluation": source}


def extent(trainer: Trainer) -> Extent:
    """How long the run of these settings is. Raises UnsupportedOption where there is no batch."""
    order = trainer.order(trainer.features(trainer.train_dataset, training=True))
    steps, epochs = order.extent(trainer.args.max_steps, trainer.args.num_train_epochs)
    return Extent(steps, order.count(), epochs)


def parameters(trainer: Trainer) -> tuple[int, int]:
    """(numbers that learn, all numbers); what is quantized counts too."""
    model = trainer.model
    coded = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, QuantizedLinear))
    own = list(model.parameters())
    return sum(p.numel() for p in own if p.requires_grad), coded + sum(p.numel() for p in own)


def method(trainer: Trainer) -> str:
    """What learns, in a few words: `all weights`, `LoRA of rank 8 over a 4-bit model`."""
    inner = getattr(trainer.model, "model", trainer.model)
    adapters = getattr(inner, "adapters", None)
    bits = {int(module.format.bits) for module in inner.modules() if isinstance(module, QuantizedLinear)}
    over = f" over {'an' if 8 in bits else 'a'} {max(bits)}-bit model" if bits else ""
    if adapters is not None:
        config = adapters.configs[adapters.active[0]]
        name = "DoRA" if config.use_dora else "LoRA"
        return f"{name} of rank {config.r}{over}"
    learn, everything = parameters(trainer)
    return "all weights" if learn == everything else f"{learn:,} of {everything:,} weights"


def loss(trainer: Trainer) -> str:
    """What is learned, in a few words."""
    features = None if trainer.train_dataset is None else trainer.features(trainer.train_dataset, training=True)
    return trainer.objective.told(features)


def trained(trainer: Trainer, **facts: Any) -> Trained:
    """What a card says of a run; `facts` are fields of `Trained` that are known better, or only, by the caller."""
    task = getattr(trainer.job, "task", None)
    state, best = trainer.state, trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint
    runtime = next((log["train_runtime"] for log in reversed(state.log_history) if "train_runtime" in log), None)
    known: dict[str, Any] = {
        "name": trainer.place.resolve().name,
        "task": (TRAINABLE[task].pipeline or task) if task else None,
        "base_model": str(getattr(trainer.model, "name_or_path", "")) or None,
        "method": method(trainer),
        "loss": loss(trainer),
        "data": data(trainer),
        "settings": settings(trainer),
        "log_history": state.log_history,
        "best_step": state.best_global_step if best else None,
        "seconds": runtime,
        "tokens": state.num_input_tokens_seen or None,
        "hardware": hardware(trainer),
    }
    fields = [field.name for field in dataclasses.fields(Trained)]
    if wrong := [name for name in facts if name not in fields]:
        raise UnsupportedOption(f"A card has no {wrong[0]!r}. {nearest(wrong[0], fields)}")
    return Trained(**{**known, **facts})


def data(trainer: Trainer) -> list[Data]:
    """The rows of training and of evaluation."""
    sets = [] if trainer.train_dataset is None else [("train", trainer.train_dataset, True)]
    sets += [(name, source, False) for name, source in evaluated(trainer).items()]
    found = []
    for split, source, training in sets:
        known = data_set(trainer, source, training=training, exact=False)
        found.append(Data(name=known.name, split=split, rows=known.rows, cut=None, notes=known.notes))
    return found


def settings(trainer: Trainer) -> dict[str, Any]:
    """Settings and options of the task that are not the defaults."""
    job = trainer.job
    own = {k: v for k, v in getattr(job, "given", {}).items() if isinstance(v, (str, int, float, list, tuple, dict))}
    return {**trainer.args.changed(), **{f"options: {name}": value for name, value in own.items()}}


def hardware(trainer: Trainer) -> str:
    """What computes: `2 x NVIDIA H100`; empty for the CPU of one process, which a card tells by itself."""
    device, size = trainer.device, trainer.world.size
    if device.type == "cuda":
        return (f"{size} x " if size > 1 else "") + torch.cuda.get_device_name(device)
    return f"{size} processes" if size > 1 else ""
