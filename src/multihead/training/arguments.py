"""Training arguments with the names of Transformers, checked before anything is loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..config import accepts, describe, type_hints, write_json
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
UPLOADS = ("every_save", "end", "checkpoint", "all_checkpoints")
SECRET = "<HUB_TOKEN>"  # stands for the token wherever arguments are written
ARGUMENTS_FILE = "training_args.json"

# Arguments of Transformers without effect here: name -> (accepted values, None for all; what to do instead).
NO_EFFECT: Mapping[str, tuple[tuple[Any, ...] | None, str]] = {
    "auto_find_batch_size": ((False,), "max_tokens_per_pass bounds memory without changing the result."),
    "average_tokens_across_devices": ((True,), "losses are always averaged over the tokens of all devices."),
    "batch_eval_metrics": ((False,), "compute_metrics gets all predictions at once."),
    "dataloader_num_workers": ((0,), "examples are packed without worker processes."),
    "dataloader_persistent_workers": ((False,), ""),
    "dataloader_pin_memory": ((True, False), ""),
    "dataloader_prefetch_factor": ((None,), ""),
    "dataloader_in_order": ((True,), ""),
    "deepspeed": ((None,), "use fsdp=True for models larger than one device."),
    "eval_accumulation_steps": (None, ""),  # predictions are copied to the CPU after each batch
    "eval_do_concat_batches": ((True,), ""),
    "eval_use_gather_object": ((False,), ""),
    "gradient_checkpointing_kwargs": (
        (None, {}, {"use_reentrant": False}, {"use_reentrant": True}),
        "layers are recomputed without reentrant autograd.",
    ),
    "include_num_input_tokens_seen": (None, ""),  # always counted
    "label_names": ((None, ["labels"], ["start_positions", "end_positions"]), "labels are `labels`."),
    "length_column_name": (("length",), "lengths are always computed."),
    "ignore_data_skip": ((False,), "a resumed run always continues exactly where it stopped."),
    "log_level": (("passive",), ""),
    "log_level_replica": (("warning",), ""),
    "log_on_each_node": ((True, False), ""),
    "logging_nan_inf_filter": ((True, False), "a loss that is not finite stops the run."),
    "restore_callback_states_from_checkpoint": ((True, False), "states are always restored."),
    "save_safetensors": ((True,), ""),
    "skip_memory_metrics": ((True,), ""),
    "overwrite_output_dir": ((True, False), ""),
    "use_liger_kernel": ((False,), "the loss of large vocabularies is always computed in chunks."),
    "neftune_noise_alpha": ((None,), ""),
    "local_rank": ((-1, 0), "torchrun sets it."),
    "no_cuda": ((False,), "use_cpu=True is the current name."),
    "group_by_length": ((False,), 'train_sampling_strategy="group_by_length" is the current name.'),
    "use_cache": ((False,), ""),
}
RENAMED: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "activation_checkpointing": "gradient_checkpointing",
}


@dataclass(kw_only=True)
class _Fields:
    """Fields of `TrainingArguments`."""

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

    push_to_hub: bool = False
    hub_model_id: str | None = None
    hub_strategy: str = "every_save"
    hub_token: str | None = field(default=None, repr=False)
    hub_private_repo: bool | None = None
    hub_always_push: bool = False
    hub_revision: str | None = None

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


class TrainingArguments(_Fields):
    """Training arguments with the names and defaults of Transformers; arguments without effect are refused by name.

    Arguments beyond those of Transformers, or with another meaning:

    Args:
        max_tokens_per_batch: maximum tokens of a batch, instead of `per_device_train_batch_size` examples: a batch
            takes examples in order until the next one does not fit.
        max_tokens_per_pass: maximum tokens of a forward pass. A larger batch runs in several passes with the same
            total gradient; this bounds memory and changes nothing else.
        warmup_steps: optimizer steps; below 1, a share of all steps. `warmup_ratio` is the older name of the share.
        layerwise_lr_decay: factor of the learning rate from each layer to the layer below (arXiv:1801.06146).
        head_learning_rate: learning rate of the head.
        ema_decay: decay of an exponential moving average of the weights; the average is evaluated and saved.
        optim: "muon" updates the matrices of layers by orthogonalized momentum (Jordan et al., 2024), all other
            parameters by AdamW.
        fsdp: shard parameters, gradients and optimizer state over the processes of torchrun (FSDP2).
        tensor_parallel_size: number of processes that split each layer.
        hub_token: of `push_to_hub`; None for the saved one. No file, log or card has it.

    Raises:
        UnsupportedOption: an unknown argument or value, or arguments that contradict each other.
    """

    def __init__(self, output_dir: str | os.PathLike[str] = "trainer_output", **settings: Any) -> None:
        super().__init__(output_dir=os.fspath(output_dir), **_current_names(settings))
        self.__post_init__()  # which the constructor of the fields does not know

    def __post_init__(self) -> None:
        """Check the arguments; the constructor of a program's own dataclass calls this too."""
        self.output_dir = os.fspath(self.output_dir)
        self._check()

    def warmup(self, steps: int) -> int:
        """Return the number of warmup steps of a run of `steps` steps."""
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
        """Seed of the sampler."""
        return self.seed if self.data_seed is None else self.data_seed

    def to_dict(self) -> dict[str, Any]:
        entries = asdict(self)
        return entries | {"hub_token": SECRET} if self.hub_token else entries

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def non_default(self) -> dict[str, Any]:
        """Return the arguments that differ from the defaults."""
        default = _Fields()
        return {name: value for name, value in self.to_dict().items() if value != getattr(default, name)}

    def save(self, folder: Path) -> None:
        write_json(folder / ARGUMENTS_FILE, self.to_dict())

    def _check(self) -> None:
        for name, hint in type_hints(_Fields).items():
            value = getattr(self, name)
            if not accepts(hint, value):
                raise UnsupportedOption(f"TrainingArguments: {name} = {value!r} must be {describe(hint)}.")
        _one_of(self, "lr_scheduler_type", SCHEDULES)
        _one_of(self, "optim", OPTIMIZERS)
        _one_of(self, "train_sampling_strategy", ORDERS)
        _one_of(self, "logging_strategy", STRATEGIES)
        _one_of(self, "eval_strategy", STRATEGIES)
        _one_of(self, "save_strategy", (*STRATEGIES, "best"))
        _one_of(self, "hub_strategy", UPLOADS)
        for name in COUNTS:
            if (value := getattr(self, name)) is not None and value < 1:
                raise UnsupportedOption(f"TrainingArguments: {name} = {value} must be at least 1.")
        for name in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "num_train_epochs"):
            if not getattr(self, name) >= 0 or math.isinf(getattr(self, name)):
                raise UnsupportedOption(f"TrainingArguments: {name} = {getattr(self, name)} must be a number from 0.")
        for name in ("adam_beta1", "adam_beta2", "label_smoothing_factor"):
            if not 0 <= getattr(self, name) < 1:
                raise UnsupportedOption(f"TrainingArguments: {name} = {getattr(self, name)} must be in [0, 1).")
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Set dependent defaults. Raises UnsupportedOption for arguments that contradict each other."""
        if self.bf16 and self.fp16:
            raise UnsupportedOption("TrainingArguments: bf16 and fp16 exclude each other; choose one.")
        if self.warmup_ratio and self.warmup_steps:
            raise UnsupportedOption("TrainingArguments: give warmup_steps or warmup_ratio, not both.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise UnsupportedOption(f"TrainingArguments: ema_decay = {self.ema_decay} must be between 0 and 1.")
        if self.eval_strategy == "steps" and self.eval_steps is None:
            self.eval_steps = self.logging_steps
        if self.load_best_model_at_end:
            if self.save_strategy not in (self.eval_strategy, "best"):
                raise UnsupportedOption(
                    "TrainingArguments: load_best_model_at_end needs a checkpoint at each evaluation: save_strategy = "
                    f"{self.save_strategy!r} and eval_strategy = {self.eval_strategy!r} must be equal."
                )
            if self.eval_strategy == "steps" and self.save_strategy == "steps" and _saves_without_evaluation(self):
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


Seq2SeqTrainingArguments = TrainingArguments  # name of Transformers; generation arguments are always included


def _saves_without_evaluation(arguments: _Fields) -> bool:
    """Return whether a checkpoint may fall on a step without evaluation; also for a mix of steps and shares."""
    evaluate, save = arguments.eval_steps or 1, arguments.save_steps
    return (evaluate < 1) != (save < 1) or abs(save / evaluate - round(save / evaluate)) > 1e-6


def _one_of(arguments: _Fields, name: str, known: tuple[str, ...]) -> None:
    value = getattr(arguments, name)
    value = getattr(value, "value", value)
    if value not in known:
        raise UnsupportedOption(f"TrainingArguments: {name} = {value!r}. {nearest(str(value), known)}")
    setattr(arguments, name, str(value))


def _current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that have a field, under current names. Raises UnsupportedOption for others."""
    names = {f.name for f in fields(_Fields)}
    out: dict[str, Any] = {}
    for name, value in settings.items():
        current = RENAMED.get(name, name)
        value = getattr(value, "value", value)
        if current in NO_EFFECT:
            accepted, advice = NO_EFFECT[current]
            if accepted is not None and value not in accepted:
                raise UnsupportedOption(f"TrainingArguments: {name} = {value!r} has no meaning here. {advice}".rstrip())
        elif current not in names:
            raise UnsupportedOption(f"TrainingArguments has no {name!r}. {nearest(name, names)}")
        else:
            out[current] = _default(current) if value is None else value
    return out


def _default(name: str) -> Any:
    """Return the default of a field, which replaces None."""
    entry = next(f for f in fields(_Fields) if f.name == name)
    return entry.default if entry.default_factory is MISSING else entry.default_factory()
