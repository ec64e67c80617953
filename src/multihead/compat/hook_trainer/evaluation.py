"""Hooks of an evaluation: batches, losses, scores, metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...training.evaluation.loop import PredictionOutput
from ...training.evaluation.metrics import EvalPrediction
from ..tensors import find_batch_size, nested_concat, nested_detach, nested_numpify
from ..training_names import EvalLoopOutput, denumpify_detensorize, has_length, speed_metrics
from .data_loaders import DataLoaderHooks
from .steps import StepHooks

PADDING = -100


class EvaluationHooks(DataLoaderHooks, StepHooks):
    """Evaluation of a `HookTrainer`; a subclass may override each method."""

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the metrics of a data set, or of each of several, with a prefix; they are logged."""
        source = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(source, Mapping):
            every: dict[str, float] = {}
            for name, one in source.items():
                every |= self.evaluate(
                    name if eval_dataset is None else one, ignore_keys, f"{metric_key_prefix}_{name}"
                )
            return every
        loader = self.get_eval_dataloader(eval_dataset)
        start = time.time()
        only_loss = True if self.compute_metrics is None else None
        output = self.evaluation_loop(loader, "Evaluation", only_loss, ignore_keys, metric_key_prefix)
        metrics: dict[str, float] = output.metrics or {}
        metrics |= self._speed(metric_key_prefix, start, output.num_samples)
        self.log(metrics)
        self.notify("on_evaluate", metrics=metrics)
        return metrics

    def predict(self, test_dataset: Any, ignore_keys: Any = None, metric_key_prefix: str = "test") -> PredictionOutput:
        """Return scores, labels and metrics of a data set, which may have no labels."""
        loader = self.get_test_dataloader(test_dataset)
        start = time.time()
        output = self.evaluation_loop(
            loader, description="Prediction", ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix
        )
        metrics = (output.metrics or {}) | self._speed(metric_key_prefix, start, output.num_samples)
        self.notify("on_predict", metrics=metrics)
        return PredictionOutput(output.predictions, output.label_ids, metrics)

    def _speed(self, prefix: str, start: float, rows: int | None) -> dict[str, float]:
        return speed_metrics(prefix, start, rows, math.ceil((rows or 0) / self.args.eval_batch_size))

    def evaluation_loop(
        self, dataloader: Any, description: str, prediction_loss_only: bool | None = None, ignore_keys: Any = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:  # fmt: skip
        """Return scores, labels and metrics of the batches of a loader."""
        only_loss = self.args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        model = (
            self.model_wrapped if self.is_in_train else self.accelerator.prepare_model(self.model, evaluation_mode=True)
        )
        model.eval()
        self.callbacks.share(eval_dataloader=dataloader)
        losses, rows = [], 0
        parts: dict[str, Any] = {"scores": None, "labels": None, "inputs": None}
        for batch in dataloader:
            size = find_batch_size(batch) or self.args.eval_batch_size
            rows += size
            loss, scores, labels = self.prediction_step(model, batch, only_loss, ignore_keys=ignore_keys)
            if loss is not None:
                losses += loss.detach().cpu().float().repeat(size).tolist()
            if scores is not None and self.preprocess_logits_for_metrics is not None:
                scores = self.preprocess_logits_for_metrics(scores, labels)
            ids = batch["input_ids"] if "inputs" in self.args.include_for_metrics else None
            for name, value in (("scores", scores), ("labels", labels), ("inputs", ids)):
                if value is not None:
                    value, before = nested_numpify(value), parts[name]
                    parts[name] = value if before is None else nested_concat(before, value, PADDING)
            self.notify("on_prediction_step")
        if has_length(getattr(dataloader, "dataset", None)):
            rows = len(dataloader.dataset)
        metrics = self._metrics(parts, losses, metric_key_prefix)
        return EvalLoopOutput(parts["scores"], parts["labels"], metrics, rows)

    def _metrics(self, parts: Mapping[str, Any], losses: list[float], prefix: str) -> dict[str, float]:
        """Return the metrics of all batches, and the mean loss of all rows."""
        metrics: dict[str, Any] = {}
        if self.compute_metrics is not None and parts["scores"] is not None and parts["labels"] is not None:
            wanted = np.array(losses) if "loss" in self.args.include_for_metrics else None
            metrics = self.compute_metrics(EvalPrediction(parts["scores"], parts["labels"], parts["inputs"], wanted))
        metrics = dict(denumpify_detensorize(metrics))
        if losses:
            finite = [loss for loss in losses if math.isfinite(loss)] if self.args.logging_nan_inf_filter else losses
            metrics["loss"] = float(np.mean(finite or losses))
        return {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": v for name, v in metrics.items()}

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return loss, scores and labels of a batch; None for each that there is not."""
        labeled = bool(self.label_names) and all(inputs.get(name) is not None for name in self.label_names)
        asked = inputs.get("return_loss", self.can_return_loss)
        with_loss = labeled or (not self.label_names and asked)
        inputs = self._prepare_inputs(inputs)
        if ignore_keys is None:
            config = getattr(self.model, "config", None)
            ignore_keys = getattr(config, "keys_to_ignore_at_inference", ["past_key_values"])
        labels = nested_detach(tuple(inputs.get(name) for name in self.label_names)) if with_loss else None
        labels = labels[0] if labels is not None and len(labels) == 1 else labels
        loss, scores = None, None
        with torch.no_grad(), self.compute_loss_context_manager():
            if with_loss:
                count = self._get_num_items_in_batch([inputs], self._device)
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True, num_items_in_batch=count)
                loss = loss.detach().mean()
            else:
                outputs = model(**inputs)
        if prediction_loss_only:
            return loss, None, None
        if isinstance(outputs, Mapping):
            scores = tuple(v for name, v in outputs.items() if name not in {*ignore_keys, *(["loss"] * with_loss)})
        else:
            scores = outputs[1:] if with_loss else outputs
        scores = nested_detach(scores)
        return loss, scores[0] if len(scores) == 1 else scores, labels
