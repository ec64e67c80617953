"""How a model is trained: settings under the reference's names, checked before anything is loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..config import admits, describe, hints, write_json
from ..errors import UnsupportedOption, nearest

STRATEGIES = ("no", "steps", "epoch")
SCHEDULES = (
    "linear", "cosine", "cosine_with_restarts", "cosine_with_min_lr", "polynomial", "constant", "constant_with_warmup",
    "inverse_sqrt", "warmup_stable_decay",
)  # fmt: skip
OPTIMIZERS = ("adamw_torch_fused", "adamw_torch", "sgd", "adafactor", "muon")
ORDERS = ("random", "sequential", "group_by_length")
COUNTS = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "max_tokens_per_batch",
    "max_tokens_per_pass", "tensor_parallel_size", "save_total_limit",
)  # fmt: skip
ARGUMENTS_FILE = "training_args.json"

# The reference's names whose other values have no meaning here: name -> (values that are taken, what to do instead).
WITHOUT_MEANING: Mapping[str, tuple[tuple[Any, ...] | None, str]] = {
    "auto_find_batch_size": ((False,), "max_tokens_per_pass bounds memory without changing the result."),
    "average_tokens_across_devices": ((True,), "losses are always divided by the count of all devices."),
    "batch_eval_metrics": ((False,), "compute_metrics sees all predictions at once."),
    "dataloader_num_workers": ((0,), "examples are packed without worker processes."),
    "dataloader_persistent_workers": ((False,), ""),
    "dataloader_pin_memory": ((True, False), ""),
    "dataloader_prefetch_factor": ((None,), ""),
    "dataloader_in_order": ((True,), ""),
    "deepspeed": ((None,), "use fsdp=True for models larger than one device."),
    "eval_accumulation_steps": (None, ""),  # predictions leave the device at once
    "eval_do_concat_batches": ((True,), ""),
    "eval_use_gather_object": ((False,), ""),
    "gradient_checkpointing_kwargs": (
        (None, {}, {"use_reentrant": False}, {"use_reentrant": True}),
        "layers are computed again without re-entering autograd.",
    ),
    "include_num_input_tokens_seen": (None, ""),  # they are always counted
    "label_names": ((None, ["labels"], ["start_positions", "end_positions"]), "labels are `labels`."),
    "length_column_name": (("length",), "lengths are counted."),
    "ignore_data_skip": ((False,), "a resumed run goes on exactly where it stopped."),
    "log_level": (("passive",), ""),
    "log_level_replica": (("warning",), ""),
    "log_on_each_node": ((True, False), ""),
    "logging_nan_inf_filter": ((True, False), "a loss that is no number stops the run."),
    "push_to_hub": ((False,), "save, then upload the folder with huggingface_hub."),
    "restore_callback_states_from_checkpoint": ((True, False), "they are always restored."),
    "save_safetensors": ((True,), ""),
    "skip_memory_metrics": ((True,), ""),
    "overwrite_output_dir": ((True, False), ""),
    "use_liger_kernel": ((False,), "large vocabularies are scored in chunks by themselves."),
    "neftune_noise_alpha": ((None,), ""),
    "local_rank": ((-1, 0), "torchrun tells it."),
    "no_cuda": ((False,), "use_cpu=True is today's name."),
    "group_by_length": ((False,), 'train_sampling_strategy="group_by_length" is today\'s name.'),
    "use_cache": ((False,), ""),
}
RENAMED: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "activation_checkpointing": "gradient_checkpointing",
}


@dataclass(kw_only=True)
class _Settings:
    """The fields of `TrainingArguments`."""

    output_dir: str = "trainer_output"
    do_train: bool = False
    do_eval: bool = False
    do_predict: bool = False

    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    max_tokens_per_batch: int | None = None
    max_tokens_per_pass: int | None = 16_384
    gradient_accumulation_steps: int = 1
    num_train_epochs: float = 3.0
    max_steps: int = -1
    train_sampling_strategy: str = "random"
    dataloader_drop_last: bool = False
    remove_unused_columns: bool = True

    learning_rate: float = 5e-5
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: dict[str, Any] = field(default_factory=dict)
    warmup_steps: float = 0
    warmup_ratio: float | None = None
    optim: str = "adamw_torch_fused"
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    layerwise_lr_decay: float = 1.0
    head_learning_rate: float | None = None
    max_grad_norm: float = 1.0
    label_smoothing_factor: float = 0.0
    ema_decay: float | None = None

    bf16: bool = False
    fp16: bool = False
    bf16_full_eval: bool = False
    fp16_full_eval: bool = False
    tf32: bool | None = None
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    torch_compile_backend: str | None = None
    torch_compile_mode: str | None = None

    logging_strategy: str = "steps"
    logging_steps: float = 500
    logging_first_step: bool = False
    logging_dir: str | None = None
    disable_tqdm: bool | None = None
    report_to: str | list[str] | None = "none"
    run_name: str | None = None

    eval_strategy: str = "no"
    eval_steps: float | None = None
    eval_delay: float = 0
    eval_on_start: bool = False
    prediction_loss_only: bool = False
    include_for_metrics: list[str] = field(default_factory=list)
    predict_with_generate: bool = False
    generation_max_length: int | None = None
    generation_num_beams: int | None = None

    save_strategy: str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = None
    save_only_model: bool = False
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    resume_from_checkpoint: str | bool | None = None

    seed: int = 42
    data_seed: int | None = None
    full_determinism: bool = False
    use_cpu: bool = False

    ddp_backend: str | None = None
    ddp_timeout: int = 1800
    ddp_find_unused_parameters: bool | None = None
    ddp_bucket_cap_mb: int | None = None
    ddp_broadcast_buffers: bool | None = None
    fsdp: bool | str | None = None
    fsdp_config: dict[str, Any] | None = None
    tensor_parallel_size: int = 1


class TrainingArguments(_Settings):
    """How a model is trained. Names and defaults are the reference's; what has no meaning here is refused by name.

    Beside the reference's own:

    Args:
        max_tokens_per_batch: tokens of a batch at most, instead of `per_device_train_batch_size` texts: examples are
            taken in their order until the next one would not fit.
        max_tokens_per_pass: tokens that are computed at once. A batch with more is computed in several passes whose
            gradients add up to the same: this bounds memory and changes nothing else.
        warmup_steps: optimizer steps; below 1, the share of all steps. `warmup_ratio` is the older name of that share.
        layerwise_lr_decay: factor of the learning rate from each layer to the one below it (arXiv:1801.06146).
        head_learning_rate: of the head alone.
        ema_decay: of an exponential moving average of the weights, which is evaluated and saved instead of them.
        optim: "muon" updates the layers' matrices by their orthogonalized momentum (Jordan et al., 2024), the rest by
            AdamW.
        fsdp: shards parameters, gradients and optimizer state over the processes of torchrun (FSDP2).
        tensor_parallel_size: processes that share each layer.

    Raises:
        UnsupportedOption: a name or value that has no meaning here, or settings that contradict each other.
    """

    def __init__(self, output_dir: str | os.PathLike[str] = "trainer_output", **given: Any) -> None:
        super().__init__(output_dir=os.fspath(output_dir), **_known(given))
        self._check()

    def warmup(self, steps: int) -> int:
        """Optimizer steps of the warm-up, of so many in all."""
        if self.warmup_ratio:
            return math.ceil(steps * self.warmup_ratio)
        return int(self.warmup_steps) if self.warmup_steps >= 1 else math.ceil(steps * self.warmup_steps)

    @property
    def train_batch_size(self) -> int:
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        return self.per_device_eval_batch_size

    @property
    def order_seed(self) -> int:
        """Seed of the order of examples."""
        return self.seed if self.data_seed is None else self.data_seed

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def changed(self) -> dict[str, Any]:
        """The settings that are not the defaults."""
        usual = _Settings()
        return {name: value for name, value in self.to_dict().items() if value != getattr(usual, name)}

    def save(self, folder: Path) -> None:
        write_json(folder / ARGUMENTS_FILE, self.to_dict())

    def _check(self) -> None:
        for name, hint in hints(_Settings).items():
            value = getattr(self, name)
            if not admits(hint, value):
                raise UnsupportedOption(f"TrainingArguments: {name} = {value!r} must be {describe(hint)}.")
        _one_of(self, "lr_scheduler_type", SCHEDULES)
        _one_of(self, "optim", OPTIMIZERS)
        _one_of(self, "train_sampling_strategy", ORDERS)
        _one_of(self, "logging_strategy", STRATEGIES)
        _one_of(self, "eval_strategy", STRATEGIES)
        _one_of(self, "save_strategy", (*STRATEGIES, "best"))
        for name in COUNTS:
            if (value := getattr(self, name)) is not None and value < 1:
                raise UnsupportedOption(f"TrainingArguments: {name} = {value} must be at least 1.")
        for name in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "num_train_epochs"):
            if not getattr(self, name) >= 0 or math.isinf(getattr(self, name)):
                raise UnsupportedOption(f"TrainingArguments: {name} = {getattr(self, name)} must be a number from 0.")
        for name in ("adam_beta1", "adam_beta2", "label_smoothing_factor"):
            if not 0 <= getattr(self, name) < 1:
                raise UnsupportedOption(f"TrainingArguments: {name} = {getattr(self, name)} must be in [0, 1).")
        self._agree()

    def _agree(self) -> None:
        """Raises UnsupportedOption for settings that contradict each other."""
        if self.bf16 and self.fp16:
            raise UnsupportedOption("TrainingArguments: bf16 and fp16 exclude each other; choose one.")
        if self.warmup_ratio and self.warmup_steps:
            raise UnsupportedOption("TrainingArguments: give warmup_steps or warmup_ratio, not both.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise UnsupportedOption(f"TrainingArguments: ema_decay = {self.ema_decay} must lie between 0 and 1.")
        if self.eval_strategy == "steps" and self.eval_steps is None:
            self.eval_steps = self.logging_steps
        if self.load_best_model_at_end:
            if self.save_strategy not in (self.eval_strategy, "best"):
                raise UnsupportedOption(
                    "TrainingArguments: load_best_model_at_end needs a checkpoint at each evaluation: save_strategy = "
                    f"{self.save_strategy!r} and eval_strategy = {self.eval_strategy!r} must be alike."
                )
            if self.eval_strategy == "steps" and self.save_strategy == "steps" and _apart(self):
                raise UnsupportedOption(
                    f"TrainingArguments: load_best_model_at_end: save_steps = {self.save_steps} must be a multiple of "
                    f"eval_steps = {self.eval_steps}, both of them steps or both shares of all steps."
                )
            self.metric_for_best_model = self.metric_for_best_model or "loss"
        if self.save_strategy == "best" and self.metric_for_best_model is None:
            raise UnsupportedOption("TrainingArguments: save_strategy='best' needs metric_for_best_model.")
        if self.metric_for_best_model is not None and self.greater_is_better is None:
            self.greater_is_better = not self.metric_for_best_model.endswith(("loss", "perplexity"))
        if self.torch_compile_mode and not self.torch_compile:
            raise UnsupportedOption("TrainingArguments: torch_compile_mode needs torch_compile=True.")


Seq2SeqTrainingArguments = TrainingArguments  # the reference's name; generation's settings are among the others


def _apart(arguments: _Settings) -> bool:
    """Whether checkpoints fall beside evaluations: of steps and a share of them nobody knows before the run."""
    every, save = arguments.eval_steps or 1, arguments.save_steps
    return (every < 1) != (save < 1) or abs(save / every - round(save / every)) > 1e-6


def _one_of(arguments: _Settings, name: str, known: tuple[str, ...]) -> None:
    value = getattr(arguments, name)
    value = getattr(value, "value", value)
    if value not in known:
        raise UnsupportedOption(f"TrainingArguments: {name} = {value!r}. {nearest(str(value), known)}")
    setattr(arguments, name, str(value))


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that have a field, under today's names. Raises UnsupportedOption for all others."""
    names = {f.name for f in fields(_Settings)}
    out: dict[str, Any] = {}
    for name, value in given.items():
        today = RENAMED.get(name, name)
        value = getattr(value, "value", value)
        if today in WITHOUT_MEANING:
            taken, advice = WITHOUT_MEANING[today]
            if taken is not None and value not in taken:
                raise UnsupportedOption(f"TrainingArguments: {name} = {value!r} has no meaning here. {advice}".rstrip())
        elif today not in names:
            raise UnsupportedOption(f"TrainingArguments has no {name!r}. {nearest(name, names)}")
        else:
            out[today] = _usual(today) if value is None else value
    return out


def _usual(name: str) -> Any:
    """A field's default: what the reference's None means where a field has no None."""
    found = next(f for f in fields(_Settings) if f.name == name)
    return found.default if found.default_factory is MISSING else found.default_factory()
