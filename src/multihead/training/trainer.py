"""Trainer: fine-tuning and evaluation of a model."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ..errors import InvalidInput, UnsupportedOption
from ..kernels.hardware import best_device
from ..kernels.malloc import retain_freed_memory
from ..nn.inner_model import inner_model
from ..nn.stack import set_gradient_checkpointing
from . import user_hooks as hooks
from .arguments import TrainingArguments
from .callbacks import GRADIENT_EVENTS, Callbacks, DefaultFlowCallback, Event
from .checkpointing.folders import Checkpoints
from .checkpointing.run_state import set_seed
from .checkpointing.saver import CheckpointSaver
from .data.sampler import EpochSampler
from .data.source import StreamPrefix
from .distributed.parallel import Parallel
from .distributed.process_group import ProcessGroup
from .evaluation.loop import EvaluationResult, PredictionOutput, evaluate_features, reduce_scores, stack_arrays
from .evaluation.metrics import EvalPrediction
from .example_scripts import ScriptMethods
from .hub_methods import HubMethods
from .hub_uploads import HubUploads
from .model_setup import add_adapter, check_trainable, convert_to_float32, drop_calibration
from .objectives.padded_forward import mean_loss
from .objectives.token import Objective
from .optim.optimizer_step import Stepper
from .optim.optimizers import Muon, WeightAverage, create_optimizer, create_scheduler
from .optim.sparse_embeddings import AdamW, sparse_gradients
from .prepared_datasets import PreparedDatasets, limit_stream
from .reporting.loggers import create_loggers
from .reporting.progress_bar import ProgressCallback
from .run import TrainingRun, TrainOutput
from .signals import Signals
from .state import TrainerControl, TrainerState
from .tasks.base import TrainingJob
from .tasks.registry import create_job


class Trainer(ScriptMethods, HubMethods):
    """Fine-tunes a model.

    Args:
        model: a model, or a name from which the model for `task` is loaded. args: training arguments.
        train_dataset, eval_dataset: a file (csv, tsv, jsonl, json, parquet, txt), rows (lists of dicts, data sets,
            data frames), or tokenized examples; `eval_dataset` may be a dict of several data sets. From a stream the
            first rows are read, as many as `max_steps` needs.
        processing_class: the tokenizer (`tokenizer` is the older name); loaded with the model if a name is given.
        task: name of the task (see `pipelines.catalog.TRAINABLE`); follows from the head for tokenized data.
        options: options of the task: columns, max_length, ...; see the reader of the task in `training.data`.
        data_collator: makes padded batches; with a collator of this library batches are packed without padding.
        model_init: creates a new model at each `train()`; may take one argument, a trial, which is None.
        compute_loss_func: (outputs, labels, num_items_in_batch) -> loss.
        compute_metrics: takes an `EvalPrediction`; default: the metrics of the task.
        optimizers: (optimizer, schedule) that replace those of `args`.
        peft_config: a `LoraConfig`: trains adapters, the weights of the model stay frozen.

    A subclass may override `compute_loss(model, inputs, return_outputs=False, num_items_in_batch=None)` as in
    Transformers; its inputs are padded tensors. It may also override `create_optimizer`, `save_model`,
    `call_model_init`, `log`, `evaluate` and `predict`.

    Raises:
        UnsupportedOption, InvalidInput: arguments or data that do not fit each other or the model.
    """

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
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        preprocess_logits_for_metrics: Callable[..., Any] | None = None,
        *,
        tokenizer: Any = None,
        task: str | None = None,
        options: Mapping[str, Any] | None = None,
        peft_config: Any = None,
    ) -> None:
        hooks.check_arguments(args)
        if (model is None) == (model_init is None):
            raise InvalidInput("Give either model or model_init.")
        if model_init is not None and any(optimizers):
            raise InvalidInput("optimizers belong to one model and model_init makes others; override create_optimizer.")
        self.args, self.model_init, self._peft_config = args or TrainingArguments(), model_init, peft_config
        if self.args.eval_strategy != "no" and eval_dataset is None:
            raise InvalidInput(
                f"eval_strategy = {self.args.eval_strategy!r} evaluates, and there is nothing to evaluate on: give "
                'eval_dataset, or eval_strategy="no".'
            )
        self._set_up_torch()
        train_dataset = limit_stream(train_dataset, self.args, self.process_group.size)
        self._create_job: Callable[[Any], TrainingJob] = lambda model: create_job(
            model, task, options or {}, tokenizer or processing_class, train_dataset,
            collator=data_collator, loss=self._custom_loss(compute_loss_func),
            smoothing=self.args.label_smoothing_factor, keep_columns=not self.args.remove_unused_columns,
        )  # fmt: skip
        self._set_model(self.call_model_init() if model_init is not None else model)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.compute_metrics, self._custom_optimizers = compute_metrics, optimizers
        self._preprocess = preprocess_logits_for_metrics
        self.state = TrainerState(is_world_process_zero=self.process_group.is_first)
        self.control = TrainerControl()
        default = [DefaultFlowCallback(), ProgressCallback(), *create_loggers(self.args.report_to)]
        self.callbacks = Callbacks(
            [*default, *(callbacks or ())], model=self.model, processing_class=self.processing_class
        )
        self.checkpoints = Checkpoints(Path(self.args.output_dir), self.args.save_total_limit)
        self.uploads = HubUploads(self)
        if self.args.push_to_hub:
            self.init_hf_repo()
        self.saver = CheckpointSaver(self, custom_save=type(self).save_model is not Trainer.save_model)
        self.optimizer: Any = None
        self.lr_scheduler: Any = None
        self.average: WeightAverage | None = None
        self.notify("on_init_end")

    def _set_up_torch(self) -> None:
        """Set the precision, the process group and the seed."""
        if self.args.tf32 is not None:
            torch.set_float32_matmul_precision("high" if self.args.tf32 else "highest")
        if self.args.full_determinism:
            torch.use_deterministic_algorithms(True)
        device = "cpu" if self.args.use_cpu else best_device()
        self.process_group = ProcessGroup.from_environment(device, self.args.ddp_backend, self.args.ddp_timeout)
        self.parallel = Parallel.of(self.args, self.process_group)
        set_seed(self.args.seed)

    def _set_model(self, model: Any) -> None:
        """Set the model to train; a name is loaded."""
        self.job = self._create_job(model)
        self.model: Any = self.job.model
        self.processing_class = self.job.tokenizer
        if self._peft_config is not None:
            add_adapter(self.model, self._peft_config)
        convert_to_float32(self.model, self.args)
        if self.parallel.sharding is None:  # sharding moves layers one by one, since the full model may not fit
            device = self.process_group.device
            self.model.to(torch.device(device, self.process_group.local_rank) if device == "cuda" else device)
        self._datasets = PreparedDatasets(self.job)
        self.objective: Objective = self.job.build_objective()

    def call_model_init(self, trial: Any = None) -> Any:
        """Call `model_init`, with the trial if it takes an argument. Raises InvalidInput."""
        assert self.model_init is not None
        return hooks.call_model_init(self.model_init, trial)

    tokenizer = property(lambda self: self.processing_class)

    @property
    def device(self) -> torch.device:
        return self.objective.device

    @property
    def output_dir(self) -> Path:
        """Output folder."""
        return Path(self.args.output_dir)

    def add_callback(self, callback: Any) -> None:
        self.callbacks.add(callback)

    def pop_callback(self, callback: Any) -> Any:
        return self.callbacks.pop(callback)

    def remove_callback(self, callback: Any) -> None:
        self.callbacks.remove(callback)

    def features(self, source: Any, *, training: bool, require_labels: bool = True) -> Any:
        """Return the examples of a data set, prepared once."""
        return self._datasets.features(source, training=training, require_labels=require_labels)

    def train(self, resume_from_checkpoint: str | os.PathLike[str] | bool | None = None) -> TrainOutput:
        """Train the model, or resume training from a checkpoint.

        Args:
            resume_from_checkpoint: a checkpoint, or True for the newest valid checkpoint in the output folder.

        Raises:
            InvalidInput: no data, or a model that was prepared for inference.
            TrainingDiverged: the loss is not finite; the last good state is saved as a checkpoint.
            CheckpointNotWritten: the disk is full or not writable. CheckpointBroken: the checkpoint is invalid.
            SystemExit: 143 after SIGTERM, with a checkpoint.
        """
        if self.train_dataset is None:
            raise InvalidInput("There is nothing to train on: give train_dataset.")
        if getattr(self.model, "prepared", None) or getattr(inner_model(self.model), "prepared", None):
            raise InvalidInput("This model was prepared for inference; load it without precision=... to train it.")
        if self.model_init is not None:
            set_seed(self.args.seed)
            self._set_model(self.call_model_init())
            self.callbacks.share(model=self.model)
        self.saver.check_writable()
        check_trainable(self.model)
        drop_calibration(self.model)
        features = self.features(self.train_dataset, training=True)
        self.job.check(features, self.objective)
        retain_freed_memory(largest=True)
        sampler = self.sampler(features)
        steps, epochs = sampler.extent(self.args.max_steps, self.args.num_train_epochs)
        set_seed(self.args.seed + self.parallel.data_group.rank)
        stepper = self._create_stepper(steps)
        self.state = TrainerState(
            max_steps=steps, num_train_epochs=math.ceil(epochs), train_batch_size=self.args.train_batch_size,
            is_world_process_zero=self.process_group.is_first,
            is_local_process_zero=self.process_group.local_rank == 0,
        )  # fmt: skip
        self.state.compute_steps(self.args, steps)
        self.control = TrainerControl()
        checkpoint = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        self.saver.start(checkpoint, stepper, sampler)
        with Signals() as signals, self._sparse_gradients(stepper):
            try:
                return TrainingRun(self, self.saver, features, sampler, stepper, signals).run()
            finally:
                self.callbacks.close()
                self.objective.eval()  # without dropout for later use of the model

    def sampler(self, features: Any) -> EpochSampler:
        """Build the sampler of the training examples."""
        a = self.args
        replicas = self.parallel.replicas
        exact = a.max_tokens_per_batch is not None or a.train_sampling_strategy == "group_by_length"
        return EpochSampler(
            self.job.sizes(features, exact=exact), a.per_device_train_batch_size,
            a.gradient_accumulation_steps * replicas, a.order_seed, a.max_tokens_per_batch,
            "sequential" if isinstance(self.train_dataset, StreamPrefix) else a.train_sampling_strategy,
            a.dataloader_drop_last,
        )  # fmt: skip

    def create_optimizer(self) -> Any:
        """Create the optimizer and return it."""
        self.optimizer = self._custom_optimizers[0] or create_optimizer(self.model, self.args)
        return self.optimizer

    def _sparse_gradients(self, stepper: Stepper) -> AbstractContextManager[None]:
        """Use sparse embedding gradients in a single process on a CPU, unless a callback may read gradients."""
        single = self.process_group.size == 1 and self.device.type == "cpu"
        single = single and not self.callbacks.handles(*GRADIENT_EVENTS)
        supported = isinstance(self.optimizer, (AdamW, Muon)) and stepper.scaler is None and not self.args.torch_compile
        return sparse_gradients(self.model) if single and supported else nullcontext()

    def _create_stepper(self, steps: int) -> Stepper:
        if self.args.gradient_checkpointing:
            set_gradient_checkpointing(self.model)
        wrapped = self.parallel.wrap(self.objective, self.args)
        self.create_optimizer()
        if self.args.torch_compile:
            wrapped.compile(backend=self.args.torch_compile_backend or "inductor", mode=self.args.torch_compile_mode)
        self.average = WeightAverage(self.model, self.args.ema_decay) if self.args.ema_decay is not None else None
        self.lr_scheduler = create_scheduler(self.optimizer, self._custom_optimizers[1], self.args, steps)
        self.callbacks.share(optimizer=self.optimizer, lr_scheduler=self.lr_scheduler)
        return Stepper(
            self.objective, wrapped, self.optimizer, self.lr_scheduler, self.args, self.parallel.data_group,
            self.average, self.notify,
        )  # fmt: skip

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval", **generation: Any
    ) -> dict[str, float]:
        """Compute the loss and metrics of a data set; they are logged and returned, with the prefix in their names.

        Args:
            eval_dataset: default: the `eval_dataset` of the Trainer; may be the name of one of several data sets.
            generation: generation options for predict_with_generate=True: max_length, num_beams, ...
        """
        source = self.eval_dataset if eval_dataset is None else eval_dataset
        if source is None:
            raise InvalidInput("There is nothing to evaluate on: give eval_dataset.")
        if isinstance(source, str) and isinstance(self.eval_dataset, Mapping) and source in self.eval_dataset:
            metric_key_prefix, source = f"{metric_key_prefix}_{source}", self.eval_dataset[source]
        if isinstance(source, Mapping) and not self.job.is_table(source):
            every: dict[str, float] = {}
            for name, each in source.items():
                every |= self.evaluate(each, metric_key_prefix=f"{metric_key_prefix}_{name}", **generation)
            return every
        with_metrics = not self.args.prediction_loss_only
        metrics = self._evaluate_dataset(source, metric_key_prefix, generation, with_metrics=with_metrics)[1]
        self.log(metrics)
        self.notify("on_evaluate", metrics=metrics)
        return metrics

    def predict(
        self, test_dataset: Any, ignore_keys: Any = None, metric_key_prefix: str = "test", **generation: Any
    ) -> PredictionOutput:
        """Return scores, labels and metrics of a data set, which may have no labels; `generation`: see `evaluate`."""
        result, metrics = self._evaluate_dataset(
            test_dataset, metric_key_prefix, generation, with_metrics=True, scores=True
        )
        self.notify("on_predict", metrics=metrics)
        return PredictionOutput(stack_arrays(result.scores), stack_arrays(result.targets), metrics)

    def _evaluate_dataset(
        self, source: Any, prefix: str, generation: Mapping[str, Any], *, with_metrics: bool, scores: bool = False
    ) -> tuple[EvaluationResult, dict[str, float]]:
        features = self.features(source, training=False, require_labels=not scores)
        self.job.check(features, self.objective, require_labels=not scores)
        generates = self.job.generates(self.args) and with_metrics
        if generation and not generates:
            raise UnsupportedOption(
                f"{', '.join(generation)}: nothing is generated here. Set predict_with_generate=True, with an "
                "encoder-decoder."
            )
        self.parallel.distribute(self.objective)
        with self.saver.averaged_weights():
            result = self._run_evaluation(features, with_metrics=with_metrics, scores=scores, generates=generates)
            if generates:
                result.targets = [example["labels"] for example in features if "labels" in example]
                texts = self.job.generate(features, self.args, generation)
                result.scores = reduce_scores(self._preprocess, texts, result.targets)
            metrics: dict[str, float] = {"loss": result.mean} if result.count else {}
            if self.compute_metrics is not None and with_metrics and result.count:
                metrics |= self.compute_metrics(result.eval_prediction())
            elif with_metrics and result.count:
                metrics |= self.job.metrics(features, result, self.args)
        rate = len(features) / max(result.seconds, 1e-9)
        metrics |= {"runtime": round(result.seconds, 4), "samples_per_second": round(rate, 3)}
        return result, {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": v for name, v in metrics.items()}

    def _run_evaluation(self, features: Any, *, with_metrics: bool, scores: bool, generates: bool) -> EvaluationResult:
        """Run the evaluation loop; generated texts of data without labels have no loss."""
        custom = self.compute_metrics is not None
        task_scores = with_metrics and not custom and self.job.needs_scores(self.args)
        if task_scores and self._preprocess is not None:
            raise UnsupportedOption(
                "preprocess_logits_for_metrics changes the scores that the task's own metrics need; give "
                "compute_metrics with it, or leave it out."
            )
        if generates and not self.job.has_labels(features):
            return EvaluationResult()
        sizes = self.job.sizes(features, exact=False)
        return evaluate_features(
            self.objective, features, sizes, self.args, self.parallel.data_group,
            predict=not generates and (scores or task_scores or (with_metrics and custom)), reduce=self._preprocess,
            include=self.args.include_for_metrics if custom and with_metrics else (),
            on_batch=lambda: self.notify("on_prediction_step", eval_dataloader=sizes),
        )  # fmt: skip

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Report values to callbacks and append them to `state.log_history`."""
        entry = {**logs, "epoch": self.state.epoch, "step": self.state.global_step}
        self.state.log_history.append(entry)
        self.notify("on_log", logs={**logs, "epoch": self.state.epoch})

    def save_model(self, output_dir: str | os.PathLike[str] | None = None, _internal_call: bool = False) -> None:
        """Write the model (the averaged weights, if they exist) and the tokenizer, in the format of Transformers.

        With `push_to_hub=True` among the training arguments, the output folder is then uploaded.

        Args:
            _internal_call: the call is part of a checkpoint, which only the first process writes, or of an upload.
        """
        folder = Path(output_dir or self.args.output_dir)
        self.saver.save_model(folder)
        if self.args.push_to_hub and not (_internal_call or self.uploads.active or self.saver.in_checkpoint):
            self.push_to_hub("Model save")

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of `compute_loss_func`, of smoothed labels or of the model; a subclass may override it."""
        smoothing = self.args.label_smoothing_factor
        loss, outputs = mean_loss(model, inputs, self._loss_function, smoothing, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _custom_loss(self, function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """Return `compute_loss` if the user defines the loss, else None."""
        self._loss_function = function
        custom = function is not None or type(self).compute_loss is not Trainer.compute_loss
        return self.compute_loss if custom else None

    def notify(self, event: Event, **values: Any) -> None:
        """Call an event of all callbacks."""
        self.control = self.callbacks.call(event, self.args, self.state, self.control, **values)


Seq2SeqTrainer = Trainer  # name of Transformers; every Trainer here has predict_with_generate
