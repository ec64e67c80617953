"""Summary of a run in plain values: for the plan before a run and for the model card after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import UnsupportedOption, nearest
from ...nn.inner_model import inner_model
from ...nn.quantized_linear import QuantizedLinear
from ...pipelines.catalog import TRAINABLE
from ..data.features import Features
from ..session import TrainingSession
from .model_card import DataSummary, RunSummary


@dataclass(frozen=True)
class DatasetSize:
    """Size of a prepared data set.

    Args:
        name: file names. rows, examples, tokens: their numbers. longest: tokens of the longest example.
        notes: sentences on texts that were cut or left out.
    """

    name: str
    rows: int
    examples: int
    tokens: int
    longest: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunLength:
    """Length of a run: optimizer steps in all and in the first epoch, and number of epochs."""

    steps: int
    steps_per_epoch: int
    epochs: float


def dataset_size(trainer: TrainingSession, source: Any, *, training: bool, exact: bool = True) -> DatasetSize:
    """Prepare a data set and return its size; without `exact`, live examples are not read to count tokens."""
    features = trainer.features(source, training=training)
    sizes = trainer.job.sizes(features, exact=exact)
    count, tokens, longest = len(features), int(sizes.sum()), int(sizes.max(initial=0))
    if not isinstance(features, Features) or features.rows is None:
        return DatasetSize("examples in memory", count, count, tokens, longest)
    name = features.rows.name
    name = "rows in memory" if name == "the data" else name
    return DatasetSize(name, len(features.rows), count, tokens, longest, tuple(features.notes))


def evaluation_datasets(trainer: TrainingSession) -> dict[str, Any]:
    """Return the evaluation data sets by name; a single one has the name "evaluation"."""
    source = trainer.eval_dataset
    if source is None:
        return {}
    several = isinstance(source, Mapping) and not trainer.job.is_table(source)
    return dict(source) if several else {"evaluation": source}


def run_length(trainer: TrainingSession) -> RunLength:
    """Return the length of the run. Raises UnsupportedOption if there is no batch."""
    sampler = trainer.sampler(trainer.features(trainer.train_dataset, training=True))
    steps, epochs = sampler.extent(trainer.args.max_steps, trainer.args.num_train_epochs)
    return RunLength(steps, sampler.count(), epochs)


def parameter_counts(trainer: TrainingSession) -> tuple[int, int]:
    """Return the numbers of trainable and of all parameters, quantized ones included."""
    model = trainer.model
    quantized = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, QuantizedLinear))
    dense = list(model.parameters())
    return sum(p.numel() for p in dense if p.requires_grad), quantized + sum(p.numel() for p in dense)


def training_method(trainer: TrainingSession) -> str:
    """Return what is trained, in a few words: `all weights`, `LoRA of rank 8 over a 4-bit model`."""
    inner = inner_model(trainer.model)
    adapters = getattr(inner, "adapters", None)
    bits = {int(module.format.bits) for module in inner.modules() if isinstance(module, QuantizedLinear)}
    over = f" over {'an' if 8 in bits else 'a'} {max(bits)}-bit model" if bits else ""
    if adapters is not None:
        config = adapters.configs[adapters.active[0]]
        name = "DoRA" if config.use_dora else "LoRA"
        return f"{name} of rank {config.r}{over}"
    trainable, total = parameter_counts(trainer)
    return "all weights" if trainable == total else f"{trainable:,} of {total:,} weights"


def loss_name(trainer: TrainingSession) -> str:
    """Return the name of the loss."""
    features = None if trainer.train_dataset is None else trainer.features(trainer.train_dataset, training=True)
    return trainer.objective.describe(features)


def summarize_run(trainer: TrainingSession, **facts: Any) -> RunSummary:
    """Return the summary of a run for its model card; `facts` are fields of `RunSummary` that the caller knows."""
    task = trainer.job.name
    state, best = trainer.state, trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint
    runtime = next((log["train_runtime"] for log in reversed(state.log_history) if "train_runtime" in log), None)
    known: dict[str, Any] = {
        "name": trainer.output_dir.resolve().name,
        "task": (TRAINABLE[task].pipeline or task) if task else None,
        "base_model": str(getattr(trainer.model, "name_or_path", "")) or None,
        "method": training_method(trainer),
        "loss": loss_name(trainer),
        "data": data_summaries(trainer),
        "settings": non_default_settings(trainer),
        "log_history": state.log_history,
        "best_step": state.best_global_step if best else None,
        "seconds": runtime,
        "tokens": state.num_input_tokens_seen or None,
        "hardware": hardware_name(trainer),
    }
    fields = [field.name for field in dataclasses.fields(RunSummary)]
    if unknown := [name for name in facts if name not in fields]:
        raise UnsupportedOption(f"A card has no {unknown[0]!r}. {nearest(unknown[0], fields)}")
    return RunSummary(**{**known, **facts})


def data_summaries(trainer: TrainingSession) -> list[DataSummary]:
    """Return the summaries of the training and evaluation data."""
    sets = [] if trainer.train_dataset is None else [("train", trainer.train_dataset, True)]
    sets += [(name, source, False) for name, source in evaluation_datasets(trainer).items()]
    summaries = []
    for split, source, training in sets:
        size = dataset_size(trainer, source, training=training, exact=False)
        summaries.append(DataSummary(name=size.name, split=split, rows=size.rows, cut=None, notes=size.notes))
    return summaries


def non_default_settings(trainer: TrainingSession) -> dict[str, Any]:
    """Return the training arguments and task options that differ from the defaults."""
    plain = (str, int, float, list, tuple, dict)
    options = {f"options: {k}": v for k, v in trainer.job.user_options.items() if isinstance(v, plain)}
    return {**trainer.args.non_default(), **options}


def hardware_name(trainer: TrainingSession) -> str:
    """Return the hardware, such as `2 x NVIDIA H100`; empty for one process on a CPU, whose card names the machine."""
    device, size = trainer.device, trainer.process_group.size
    if device.type == "cuda":
        return (f"{size} x " if size > 1 else "") + torch.cuda.get_device_name(device)
    return f"{size} processes" if size > 1 else ""
