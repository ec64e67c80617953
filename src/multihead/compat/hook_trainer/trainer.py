"""Trainer under its public name, and the Trainer that a class with inner hooks becomes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...errors import InvalidInput, UnsupportedOption
from ...training import trainer as packed
from ...training.callbacks import DefaultFlowCallback, Event
from ...training.checkpointing.folders import Checkpoints
from ...training.checkpointing.run_state import set_seed
from ...training.data.collators import DataCollatorWithPadding, default_data_collator
from ...training.hub_uploads import HubUploads
from ...training.model_setup import check_trainable
from ...training.optional_packages import optional
from ...training.reporting.loggers import create_loggers
from ...training.reporting.progress_bar import ProgressCallback
from ...training.run import TrainOutput
from ...training.state import TrainerControl, TrainerState
from ..loops import LabelSmoother
from ..tensors import can_return_loss, find_labels
from ..training_arguments import TrainingArguments, check_for_hooks
from .callback_handler import CallbackHandler
from .hooks import CALLED, UNCALLED
from .loop import LoopHooks

CAUSAL = "AutoModelForCausalLM"


class Trainer(packed.Trainer):
    """Fine-tunes a model.

    A class that overrides an inner hook of the reference's Trainer (`training_step`, `get_train_dataloader`,
    `prediction_step`, …) trains in a loop that calls all of them: with padded batches of a `DataLoader`, as accelerate
    prepares them, and a model that may be any module.
    """

    __doc__ = f"{__doc__}\n{packed.Trainer.__doc__}"

    def __init_subclass__(cls, **options: Any) -> None:
        """Make a class with inner hooks a `HookTrainer`. Raises UnsupportedOption for a hook that is never called."""
        super().__init_subclass__(**options)
        if cls.__dict__.get("_calls_hooks"):
            return
        if never := sorted(UNCALLED & vars(cls).keys()):
            raise UnsupportedOption(
                f"{cls.__name__}.{never[0]} is a hook that no Trainer here calls. Override one of those that are "
                f"called: {', '.join(sorted(CALLED))}."
            )
        if CALLED & vars(cls).keys() and not issubclass(cls, HookTrainer):
            bases = tuple(HookTrainer if base is Trainer else base for base in cls.__bases__)
            cls.__bases__ = bases if HookTrainer in bases else (*bases, HookTrainer)


class HookTrainer(LoopHooks, Trainer):  # type: ignore[misc] # hooks take fewer arguments
    """A Trainer whose inner hooks are called, under the names and with the arguments of the reference."""

    _calls_hooks = True
    is_fsdp_enabled = is_deepspeed_enabled = is_model_parallel = False

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., Any] | None = None,
        compute_loss_func: Callable[..., Any] | None = None,
        compute_metrics: Callable[..., Any] | None = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[..., Any] | None = None,
        *,
        tokenizer: Any = None,
    ) -> None:
        if (model is None) == (model_init is None):
            raise InvalidInput("Give either model or model_init.")
        self.args = TrainingArguments() if args is None else args
        check_for_hooks(self.args)
        if self.args.eval_strategy != "no" and eval_dataset is None:
            raise InvalidInput(f"eval_strategy = {self.args.eval_strategy!r} needs eval_dataset.")
        self.model_init = model_init
        self._set_up_torch()
        if self.process_group.size > 1:
            raise UnsupportedOption("A Trainer whose inner hooks are overridden runs in one process; start one.")
        self.create_accelerator_and_postprocess()
        self.processing_class = processing_class if processing_class is not None else tokenizer
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.compute_loss_func, self.compute_metrics = compute_loss_func, compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.optimizer, self.lr_scheduler = optimizers
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        self._custom_optimizers = optimizers
        self._take_model(self.call_model_init() if model is None else model)
        default = DataCollatorWithPadding(self.processing_class) if self.processing_class is not None else None
        self.data_collator = data_collator or default or default_data_collator
        self.is_in_train, self.current_flos, self._signature_columns = False, 0.0, None
        self._set_up_reports(callbacks)
        self.notify("on_init_end")

    def _set_up_reports(self, callbacks: Sequence[Any] | None) -> None:
        """Make the callbacks, the state, and the folders of checkpoints."""
        self.state, self.control = TrainerState(), TrainerControl()
        default = [DefaultFlowCallback(), ProgressCallback(), *create_loggers(self.args.report_to)]
        self.callbacks = CallbackHandler(
            [*default, *(callbacks or ())], model=self.model, processing_class=self.processing_class
        )
        self.checkpoints = Checkpoints(self.output_dir, self.args.save_total_limit)
        self.uploads = HubUploads(self)
        if self.args.push_to_hub:
            self.init_hf_repo()

    @staticmethod
    def _one() -> int:
        """Return the number of parts of a tensor, of a context and of a sequence: one, in one process."""
        return 1

    get_tp_size = get_cp_size = get_sp_size = _one

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator. Raises UnsupportedOption where accelerate is not installed."""
        accelerate = optional("accelerate", "accelerate", "A Trainer whose inner hooks are overridden")
        utils = optional("accelerate.utils", "accelerate", "A Trainer whose inner hooks are overridden")
        settings = self.args.accelerator_config
        loading = utils.DataLoaderConfiguration(
            split_batches=settings.split_batches, dispatch_batches=settings.dispatch_batches,
            even_batches=settings.even_batches, use_seedable_sampler=settings.use_seedable_sampler,
            data_seed=self.args.data_seed, non_blocking=settings.non_blocking,
        )  # fmt: skip
        self.accelerator = accelerate.Accelerator(
            mixed_precision="bf16" if self.args.bf16 else "fp16" if self.args.fp16 else "no",
            cpu=self.args.use_cpu, dataloader_config=loading,
            gradient_accumulation_plugin=utils.GradientAccumulationPlugin(num_steps=1),
        )  # fmt: skip
        self.gather_function = self.accelerator.gather_for_metrics

    def _take_model(self, model: Any) -> None:
        """Set the model to train, and what its class tells of losses and labels."""
        if isinstance(model, str):
            raise InvalidInput(
                f"model is {model!r}: a Trainer whose inner hooks are overridden needs the model itself."
            )
        self.model = self.model_wrapped = model.to(self.args.device)
        if self.args.gradient_checkpointing:
            model.gradient_checkpointing_enable(self.args.gradient_checkpointing_kwargs)
        inner = self.inner_model
        accepts = getattr(inner, "accepts_loss_kwargs", None)
        parameters = inspect.signature(inner.forward).parameters
        free = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        self.model_accepts_loss_kwargs = (free or "num_items_in_batch" in parameters) if accepts is None else accepts
        found = find_labels(type(inner))
        self.label_names = list(self.args.label_names or found)
        self.can_return_loss = can_return_loss(type(inner))
        self._shifts_labels = getattr(getattr(inner, "head_type", None), "auto", None) == CAUSAL
        epsilon = self.args.label_smoothing_factor
        self.label_smoother = LabelSmoother(epsilon=epsilon) if epsilon else None

    @property
    def callback_handler(self) -> CallbackHandler:
        """The callbacks."""
        found: CallbackHandler = self.callbacks
        return found

    def notify(self, event: Event, **values: Any) -> None:
        """Call an event of all callbacks."""
        self.control = self.callback_handler.event(event, self.args, self.state, self.control, **values)

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def _train_batch_size(self) -> int:
        return int(self.args.train_batch_size)

    def train(
        self, resume_from_checkpoint: str | os.PathLike[str] | bool | None = None, trial: Any = None,
        ignore_keys_for_eval: Any = None,
    ) -> TrainOutput:  # fmt: skip
        """Train the model, or resume from a checkpoint, or with True from the newest one.

        Raises:
            InvalidInput: no data, nothing to train, or no checkpoint. CheckpointBroken: the checkpoint is not whole.
        """
        if self.model_init is not None:
            set_seed(self.args.seed)
            self._take_model(self.call_model_init(trial))
            self.optimizer, self.lr_scheduler = self._custom_optimizers
        check_trainable(self.model)
        set_seed(self.args.seed)
        self.control, self.is_in_train = TrainerControl(), True
        wanted = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        try:
            return self._run(self._find_checkpoint(wanted))
        finally:
            self.is_in_train = False
            self.callbacks.close()

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Report values to callbacks and append them to `state.log_history`."""
        logs["epoch"] = self.state.epoch
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.notify("on_log", logs=logs)


Seq2SeqTrainer = Trainer  # name of the reference; every Trainer here has predict_with_generate
