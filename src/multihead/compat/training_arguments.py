"""Training arguments under their public name: with the reference's other settings for a program's own dataclass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from ..config import accepts, type_hints
from ..errors import InvalidInput, UnsupportedOption
from ..training import arguments as packed
from ..training.optional_packages import optional
from .enums import ParallelMode

if TYPE_CHECKING:
    import torch

# Settings of the reference that inner hooks read, with their defaults. A program's own dataclass has them as fields.
OTHERS: Mapping[str, Any] = {
    "dataloader_num_workers": 0, "dataloader_pin_memory": True, "dataloader_persistent_workers": False,
    "dataloader_prefetch_factor": None, "dataloader_in_order": True, "dataloader_multiprocessing_context": None,
    "accelerator_config": None, "auto_find_batch_size": False, "average_tokens_across_devices": True,
    "batch_eval_metrics": False, "deepspeed": None, "eval_accumulation_steps": None, "eval_do_concat_batches": True,
    "eval_use_gather_object": False, "gradient_checkpointing_kwargs": None, "include_num_input_tokens_seen": False,
    "label_names": None, "length_column_name": "length", "ignore_data_skip": False, "log_level": "passive",
    "log_level_replica": "warning", "log_on_each_node": True, "logging_nan_inf_filter": True,
    "restore_callback_states_from_checkpoint": False, "skip_memory_metrics": True, "use_liger_kernel": False,
    "liger_kernel_config": None, "neftune_noise_alpha": None, "torch_empty_cache_steps": None, "optim_args": None,
    "optim_target_modules": None, "debug": "", "use_cache": False, "parallelism_config": None,
    "enable_jit_checkpoint": False, "save_on_each_node": False, "project": "huggingface", "trackio_space_id": None,
    "trackio_bucket_id": None, "trackio_static_space_id": None, "local_rank": -1, "sortish_sampler": False,
    "generation_config": None, "ddp_static_graph": None, "fsdp_transformer_layer_cls_to_wrap": None,
}  # fmt: skip
# Settings that the loop with inner hooks does not compute; each must have its default.
NOT_WITH_HOOKS = (
    "auto_find_batch_size", "batch_eval_metrics", "deepspeed", "use_liger_kernel", "neftune_noise_alpha",
    "parallelism_config", "optim_args", "optim_target_modules", "enable_jit_checkpoint", "sortish_sampler", "fsdp",
    "max_tokens_per_batch", "tensor_parallel_size", "ema_decay", "layerwise_lr_decay", "head_learning_rate",
    "torch_compile", "predict_with_generate", "bf16_full_eval", "fp16_full_eval", "eval_do_concat_batches",
)  # fmt: skip


@dataclass
class AcceleratorConfig:
    """Settings of accelerate's data loaders."""

    split_batches: bool = False
    dispatch_batches: bool | None = None
    even_batches: bool = True
    use_seedable_sampler: bool = True
    non_blocking: bool = False
    gradient_accumulation_kwargs: dict[str, Any] | None = None
    use_configured_state: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the settings by name."""
        return dict(vars(self))


class TrainingArguments(packed.TrainingArguments):
    __doc__ = packed.TrainingArguments.__doc__

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [
        "accelerator_config",
        "fsdp_config",
        "gradient_checkpointing_kwargs",
        "lr_scheduler_kwargs",
    ]

    accelerator_config: Any
    deepspeed_plugin: ClassVar[None] = None
    hf_deepspeed_config: ClassVar[None] = None
    fsdp_plugin_args: ClassVar[None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Give a program's own dataclass the settings that inner hooks read, as fields."""
        super().__init_subclass__(**options)
        if cls.__bases__[0] is TrainingArguments or TrainingArguments in cls.__bases__:
            own = dict(vars(cls).get("__annotations__", {}))
            for name, default in OTHERS.items():
                if name not in own:
                    own[name] = "Any"
                    setattr(cls, name, vars(cls).get(name, default))
            cls.__annotations__ = own

    def __post_init__(self) -> None:
        """Check the arguments, and set dependent defaults."""
        for entry, hint in type_hints(packed._Fields).items():
            value = getattr(self, entry)
            value = getattr(value, "value", value)
            setattr(self, entry, packed._default(entry) if value is None and not accepts(hint, None) else value)
        config = self.accelerator_config
        self.accelerator_config = (
            config if isinstance(config, AcceleratorConfig) else AcceleratorConfig(**(config or {}))
        )
        super().__post_init__()

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        import torch

        from ..kernels.hardware import best_device

        return torch.device("cpu" if self.use_cpu else best_device())

    @property
    def n_gpu(self) -> int:
        """GPUs that this process uses: one or none."""
        return int(self.device.type == "cuda")

    parallel_mode = property(lambda self: ParallelMode.NOT_PARALLEL)
    world_size = property(lambda self: 1)
    process_index = property(lambda self: 0)
    local_process_index = property(lambda self: 0)
    should_save = property(lambda self: True)
    should_log = property(lambda self: True)
    place_model_on_device = property(lambda self: True)

    @property
    def distributed_state(self) -> Any:
        """The state of accelerate for this process."""
        accelerate = optional("accelerate", "accelerate", "TrainingArguments.distributed_state")
        return accelerate.PartialState(cpu=self.use_cpu)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Return the number of warmup steps of a run."""
        return self.warmup(num_training_steps)

    @contextmanager
    def main_process_first(self, local: bool = True, desc: str = "work") -> Iterator[None]:
        """Do work in the first process before the others; there is one here."""
        yield

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON values: enums by value."""
        entries = {f.name: getattr(self, f.name) for f in fields(self)}
        entries = {name: getattr(value, "value", value) for name, value in entries.items()}
        if isinstance(entries.get("accelerator_config"), AcceleratorConfig):
            entries["accelerator_config"] = entries["accelerator_config"].to_dict()
        return entries | {"hub_token": packed.SECRET} if self.hub_token else entries


Seq2SeqTrainingArguments = TrainingArguments  # name of the reference; generation arguments are always included

for _name, _default in OTHERS.items():
    setattr(TrainingArguments, _name, _default)


def check_for_hooks(args: Any) -> None:
    """Check the arguments of a Trainer whose inner hooks are overridden. Raises InvalidInput, UnsupportedOption."""
    if not isinstance(args, TrainingArguments):
        raise InvalidInput(f"args are {type(args).__name__}; a Trainer needs multihead.TrainingArguments.")
    plain = packed._Fields()
    for name in NOT_WITH_HOOKS:
        value, neutral = getattr(args, name), getattr(plain, name, OTHERS.get(name))
        if value != neutral and value:
            raise UnsupportedOption(
                f"TrainingArguments: {name} = {value!r} is not computed for a Trainer whose inner hooks are overridden."
            )
