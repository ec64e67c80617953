"""The Trainer: a pretrained model becomes yours."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ..errors import InvalidInput, UnsupportedOption
from ..files import write_text
from ..kernels.hardware import best_device
from ..kernels.malloc import keep_freed
from ..nn.stack import set_gradient_checkpointing
from . import user_hooks as hooks
from .arguments import TrainingArguments
from .callbacks import WITH_GRADIENTS, Callbacks, DefaultFlowCallback
from .checkpointing.folders import Checkpoints
from .checkpointing.run_state import seed
from .checkpointing.saver import Saver
from .data.prepared_datasets import Prepared, bounded
from .data.sampler import Order
from .data.source import Stream
from .distributed.parallel import Parallel
from .distributed.process_group import World
from .evaluation.loop import PredictionOutput, Seen, reduced, see, stacked
from .evaluation.metrics import EvalPrediction
from .example_scripts import ForScripts
from .jobs import Job
from .model_setup import add_adapter, check_learns, widened
from .objectives.padded_forward import mean_loss
from .objectives.token import Objective
from .optim.optimizer_step import Stepper
from .optim.optimizers import Average, Muon, optimizer_of, scheduled
from .optim.sparse_embeddings import AdamW, by_rows
from .reporting.loggers import reporters
from .reporting.model_card import model_card
from .reporting.progress_bar import ProgressCallback
from .reporting.run_summary import trained
from .run import Run, TrainOutput
from .signals import Signals
from .state import TrainerControl, TrainerState
from .tasks import job_of


class Trainer(ForScripts):
    """Fine-tunes a model.

    Args:
        model: a model, or its name, which is loaded for `task`. args: settings.
        train_dataset, eval_dataset: a file (csv, tsv, jsonl, json, parquet, txt), rows (lists of dicts, data sets,
            data frames), or examples that are tokenized already; `eval_dataset` may be a dict of several. Of a stream
            as many are read, in order, as `max_steps` needs.
        processing_class: the tokenizer (`tokenizer` is its older name); the model's own when left out with a name.
        task: what to train for, as `tasks.TASKS` names it; told by the model's kind where data is tokenized.
        options: of the task: columns, max_length, ...; see the task's file in `training.data`.
        data_collator: makes a batch of examples; the ones of this library mean that nothing is padded.
        model_init: makes the model, anew at each `train()`; it may take one argument, a trial, which is None.
        compute_loss_func: (outputs, labels, num_items_in_batch) -> loss.
        compute_metrics: of an `EvalPrediction`; the task's own metrics when left out.
        optimizers: (optimizer, schedule) instead of those that `args` name.
        peft_config: a `LoraConfig`: adapters learn, the model's own weights stay.

    A subclass may override `compute_loss(model, inputs, return_outputs=False, num_items_in_batch=None)` as with the
    reference; its inputs are padded tensors then. It may override `create_optimizer`, `save_model`, `call_model_init`,
    `log`, `evaluate` and `predict` too; other hooks of the reference are refused by name.

    Raises:
        UnsupportedOption, InvalidInput: settings or data that do not fit each other or the model.
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
        hooks.check(type(self), args)
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
        if self.args.tf32 is not None:
            torch.set_float32_matmul_precision("high" if self.args.tf32 else "highest")
        if self.args.full_determinism:
            torch.use_deterministic_algorithms(True)
        device = "cpu" if self.args.use_cpu else best_device()
        self.world = World.here(device, self.args.ddp_backend, self.args.ddp_timeout)
        self.parallel = Parallel.of(self.args, self.world)
        seed(self.args.seed)
        train_dataset = bounded(train_dataset, self.args, self.world.size)
        self._job_of: Callable[[Any], Job] = lambda given: job_of(
            given, task, options or {}, tokenizer or processing_class, train_dataset,
            collator=data_collator, loss=self._own_loss(compute_loss_func), smoothing=self.args.label_smoothing_factor,
            everything=not self.args.remove_unused_columns,
        )  # fmt: skip
        self._take(self.call_model_init() if model_init is not None else model)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.compute_metrics, self._given_optimizers = compute_metrics, optimizers
        self._preprocess = preprocess_logits_for_metrics
        self.state, self.control = TrainerState(is_world_process_zero=self.world.first), TrainerControl()
        reporting = [ProgressCallback(), *reporters(self.args.report_to)]
        listening = [DefaultFlowCallback(), *reporting, *(callbacks or ())]
        self.callbacks = Callbacks(listening, model=self.model, processing_class=self.processing_class)
        self.checkpoints = Checkpoints(Path(self.args.output_dir), self.args.save_total_limit)
        self.saver = Saver(self, overridden=type(self).save_model is not Trainer.save_model)
        self.optimizer: Any = None
        self.lr_scheduler: Any = None
        self.average: Average | None = None
        self._tell("on_init_end")

    def _take(self, given: Any) -> None:
        """Trains this model from now on, or that of this name."""
        self.job = self._job_of(given)
        self.model: Any = self.job.model
        self.processing_class = self.job.tokenizer
        if self._peft_config is not None:
            add_adapter(self.model, self._peft_config)
        widened(self.model, self.args)
        if self.parallel.sharding is None:  # its parts are moved one by one, and the whole may not fit
            device = self.world.device
            self.model.to(torch.device(device, self.world.local) if device == "cuda" else device)
        self._prepared = Prepared(self.job)
        self.objective: Objective = self.job.objective()

    def call_model_init(self, trial: Any = None) -> Any:
        """The model that `model_init` makes, given the trial where it takes one. Raises InvalidInput."""
        assert self.model_init is not None
        return hooks.made(self.model_init, trial)

    tokenizer = property(lambda self: self.processing_class)

    @property
    def device(self) -> torch.device:
        return self.objective.device

    @property
    def place(self) -> Path:
        """The output folder."""
        return Path(self.args.output_dir)

    def add_callback(self, callback: Any) -> None:
        self.callbacks.add(callback)

    def pop_callback(self, callback: Any) -> Any:
        return self.callbacks.pop(callback)

    def remove_callback(self, callback: Any) -> None:
        self.callbacks.remove(callback)

    def features(self, source: Any, *, training: bool, answers: bool = True) -> Any:
        """The examples of a data set, prepared once; of `predict` they need no `answers`."""
        return self._prepared.of(source, training=training, answers=answers)

    def train(self, resume_from_checkpoint: str | os.PathLike[str] | bool | None = None) -> TrainOutput:
        """Trains to the end, or from a checkpoint on.

        Args:
            resume_from_checkpoint: a folder, or True for the newest whole one of the output folder.

        Raises:
            InvalidInput: no data, or a model that was prepared for inference.
            TrainingDiverged: a loss that is no number; the last good state is kept as a checkpoint.
            CheckpointNotWritten, CheckpointBroken: the disk. SystemExit (143): after SIGTERM, with a checkpoint.
        """
        if self.train_dataset is None:
            raise InvalidInput("There is nothing to train on: give train_dataset.")
        if getattr(self.model, "prepared", None) or getattr(getattr(self.model, "model", None), "prepared", None):
            raise InvalidInput("This model was prepared for inference; load it without precision=... to train it.")
        if self.model_init is not None:
            seed(self.args.seed)
            self._take(self.call_model_init())
            self.callbacks.share(model=self.model)
        self.saver.probe()
        check_learns(self.model)
        features = self.features(self.train_dataset, training=True)
        self.job.check(features, self.objective)
        keep_freed(largest=True)
        order = self.order(features)
        steps, epochs = order.extent(self.args.max_steps, self.args.num_train_epochs)
        seed(self.args.seed + self.parallel.data.rank)
        stepper = self._stepper(steps)
        self.state = TrainerState(
            max_steps=steps, num_train_epochs=math.ceil(epochs), train_batch_size=self.args.train_batch_size,
            is_world_process_zero=self.world.first, is_local_process_zero=self.world.local == 0,
        )  # fmt: skip
        self.state.compute_steps(self.args, steps)
        self.control = TrainerControl()
        chosen = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        self.saver.resume(chosen, stepper, order)
        with Signals() as signals, self._by_rows(stepper):
            try:
                return Run(self, features, order, stepper, signals).go()
            finally:
                self.callbacks.close()
                self.objective.eval()  # what uses the model next draws no dropout

    def order(self, features: Any) -> Order:
        """The plan of which examples each step sees."""
        a = self.args
        replicas = self.parallel.replicas
        exact = a.max_tokens_per_batch is not None or a.train_sampling_strategy == "group_by_length"
        return Order(
            self.job.sizes(features, exact=exact), a.per_device_train_batch_size,
            a.gradient_accumulation_steps * replicas, a.order_seed, a.max_tokens_per_batch,
            "sequential" if isinstance(self.train_dataset, Stream) else a.train_sampling_strategy,
            a.dataloader_drop_last,
        )  # fmt: skip

    def create_optimizer(self) -> Any:
        """The optimizer that learns."""
        self.optimizer = self._given_optimizers[0] or optimizer_of(self.model, self.args)
        return self.optimizer

    def _by_rows(self, stepper: Stepper) -> AbstractContextManager[None]:
        """Word tables learn by rows where one process trains on a CPU, whose memory is slow, and nobody looks on."""
        alone = self.world.size == 1 and self.device.type == "cpu" and not self.callbacks.hear(*WITH_GRADIENTS)
        knows = isinstance(self.optimizer, (AdamW, Muon)) and stepper.scaler is None and not self.args.torch_compile
        return by_rows(self.model) if alone and knows else nullcontext()

    def _stepper(self, steps: int) -> Stepper:
        if self.args.gradient_checkpointing:
            set_gradient_checkpointing(self.model)
        wrapped = self.parallel.wrapped(self.objective, self.args)
        self.create_optimizer()
        if self.args.torch_compile:
            wrapped.compile(backend=self.args.torch_compile_backend or "inductor", mode=self.args.torch_compile_mode)
        self.average = Average(self.model, self.args.ema_decay) if self.args.ema_decay is not None else None
        self.lr_scheduler = scheduled(self.optimizer, self._given_optimizers[1], self.args, steps)
        self.callbacks.share(optimizer=self.optimizer, lr_scheduler=self.lr_scheduler)
        return Stepper(
            self.objective, wrapped, self.optimizer, self.lr_scheduler, self.args, self.parallel.data, self.average,
            self._tell,
        )  # fmt: skip

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval", **generation: Any
    ) -> dict[str, float]:
        """The loss and metrics of a data set, logged and returned, each name with the prefix.

        Args:
            eval_dataset: of the settings' where left out; the name of one of several.
            generation: options of what the model writes, with predict_with_generate=True: max_length, num_beams, ...
        """
        source = self.eval_dataset if eval_dataset is None else eval_dataset
        if source is None:
            raise InvalidInput("There is nothing to evaluate on: give eval_dataset.")
        if isinstance(source, str) and isinstance(self.eval_dataset, Mapping) and source in self.eval_dataset:
            metric_key_prefix, source = f"{metric_key_prefix}_{source}", self.eval_dataset[source]
        if isinstance(source, Mapping) and not self.job.is_table(source):
            found: dict[str, float] = {}
            for name, each in source.items():
                found |= self.evaluate(each, metric_key_prefix=f"{metric_key_prefix}_{name}", **generation)
            return found
        wanted = not self.args.prediction_loss_only
        metrics = self._judged(source, metric_key_prefix, generation, wanted=wanted)[1]
        self.log(metrics)
        self._tell("on_evaluate", metrics=metrics)
        return metrics

    def predict(
        self, test_dataset: Any, ignore_keys: Any = None, metric_key_prefix: str = "test", **generation: Any
    ) -> PredictionOutput:
        """Scores, labels and metrics of a data set, which may have no labels; `generation` as of `evaluate`."""
        seen, metrics = self._judged(test_dataset, metric_key_prefix, generation, wanted=True, scores=True)
        self._tell("on_predict", metrics=metrics)
        return PredictionOutput(stacked(seen.scores), stacked(seen.targets), metrics)

    def _judged(
        self, source: Any, prefix: str, generation: Mapping[str, Any], *, wanted: bool, scores: bool = False
    ) -> tuple[Seen, dict[str, float]]:
        features = self.features(source, training=False, answers=not scores)
        self.job.check(features, self.objective, learned=not scores)
        sizes = self.job.sizes(features, exact=False)
        own, writes = self.compute_metrics is not None, self.job.writes(self.args) and wanted
        scored = wanted and not own and self.job.scored(self.args)
        if generation and not writes:
            raise UnsupportedOption(
                f"{', '.join(generation)}: the model writes nothing here. Set predict_with_generate=True, with an "
                "encoder-decoder."
            )
        if scored and self._preprocess is not None:
            raise UnsupportedOption(
                "preprocess_logits_for_metrics changes the scores that the task's own metrics need; give "
                "compute_metrics with it, or leave it out."
            )
        self.parallel.spread(self.objective)
        with self.saver.averaged():
            seen = Seen()
            if not writes or self.job.answered_in(features):
                seen = see(
                    self.objective, features, sizes, self.args, self.parallel.data,
                    predict=not writes and (scores or scored or (wanted and own)), reduce=self._preprocess,
                    keep=self.args.include_for_metrics if own and wanted else (),
                    each=lambda: self._tell("on_prediction_step", eval_dataloader=sizes),
                )  # fmt: skip
            if writes:
                seen.targets = [example["labels"] for example in features if "labels" in example]
                said = self.job.written(features, self.args, generation)
                seen.scores = reduced(self._preprocess, said, seen.targets)
            metrics: dict[str, float] = {"loss": seen.mean} if seen.count else {}
            if self.compute_metrics is not None and wanted and seen.count:
                metrics |= self.compute_metrics(seen.evaluated())
            elif wanted and seen.count:
                metrics |= self.job.metrics(features, seen, self.args)
        rate = len(features) / max(seen.seconds, 1e-9)
        metrics |= {"runtime": round(seen.seconds, 4), "samples_per_second": round(rate, 3)}
        return seen, {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": v for name, v in metrics.items()}

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Reports numbers to callbacks and keeps them in `state.log_history`."""
        entry = {**logs, "epoch": self.state.epoch, "step": self.state.global_step}
        self.state.log_history.append(entry)
        self._tell("on_log", logs={**logs, "epoch": self.state.epoch})

    def save_model(self, output_dir: str | os.PathLike[str] | None = None, _internal_call: bool = False) -> None:
        """Writes the model (its averages, where there are any) and the tokenizer, as the reference reads them.

        Args:
            _internal_call: whether it is part of a checkpoint, which the first process alone writes.
        """
        self.saver.model(Path(output_dir or self.args.output_dir))

    def create_model_card(self, folder: str | os.PathLike[str] | None = None, **facts: Any) -> Path:
        """Writes README.md, the model's card, into a folder (the output folder when left out); returns its path.

        Args:
            facts: fields of `card.Trained`, such as license="apache-2.0", instead of what is known of the run.
        """
        path = Path(folder or self.args.output_dir) / "README.md"
        text = model_card(trained(self, **facts))
        if self.world.first:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        return path

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss that `compute_loss_func`, smoothed labels or the model give; subclasses may compute another."""
        smoothing = self.args.label_smoothing_factor
        loss, outputs = mean_loss(model, inputs, self._loss_function, smoothing, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _own_loss(self, function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """What a caller computes instead of the model's loss."""
        self._loss_function = function
        own = function is not None or type(self).compute_loss is not Trainer.compute_loss
        return self.compute_loss if own else None

    def _tell(self, event: Any, **more: Any) -> None:
        self.control = self.callbacks.call(event, self.args, self.state, self.control, **more)


Seq2SeqTrainer = Trainer  # the reference's name; predict_with_generate belongs to every Trainer here
