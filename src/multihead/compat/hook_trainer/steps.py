"""Hooks of a batch: inputs on the device, the loss, the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from .hooks import HookState


class StepHooks(HookState):
    """Passes of a `HookTrainer` over a batch; a subclass may override each method."""

    loss_is_scaled_for_ga: bool | None = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: Any
    ) -> tuple[list[Any], Tensor | int | None]:
        """Return the next batches, and the number of labels in them."""
        batches = list(islice(epoch_iterator, num_batches))
        return batches, self._get_num_items_in_batch(batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Tensor | int | None:
        """Return the number of labels of some batches; None if the loss does not divide by it."""
        wanted = self.model_accepts_loss_kwargs or self.compute_loss_func is not None
        if not (wanted and batch_samples and "labels" in batch_samples[0]):
            return None
        try:
            labels = [self._counted_labels(batch) for batch in batch_samples]
            return sum(one.ne(IGNORED).sum() for one in labels).to(device)
        except (AttributeError, TypeError):  # labels that are no tensors
            return None

    def _counted_labels(self, batch: Mapping[str, Any]) -> Any:
        if "shift_labels" in batch:
            return batch["shift_labels"]
        return batch["labels"][..., 1:] if self._shifts_labels else batch["labels"]

    def _prepare_input(self, data: Any) -> Any:
        """Return data, also nested, with its tensors on the device."""
        if isinstance(data, Mapping):
            kind: Any = type(data)
            return kind({name: self._prepare_input(value) for name, value in data.items()})
        if isinstance(data, (list, tuple)):
            return type(data)(self._prepare_input(value) for value in data)
        return data.to(self._device) if isinstance(data, Tensor) else data

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Return a batch on the device. Raises InvalidInput for an empty one."""
        inputs = self._prepare_input(inputs)
        if len(inputs) == 0:
            raise InvalidInput(f"A batch is empty: no column of the data is one of {self._signature_columns}.")
        return inputs

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Add the gradient of a batch, and return its loss: a share of the loss of the step."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        scaled = self.loss_is_scaled_for_ga
        if scaled is None:
            counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
            scaled = counted or self.compute_loss_func is not None
        if not scaled:
            loss = loss / self.current_gradient_accumulation_steps
        self.accelerator.backward(loss)
        found: Tensor = loss.detach()
        return found

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of `compute_loss_func`, of smoothed labels, or of the model. Raises InvalidInput."""
        apart = self.label_smoother is not None or self.compute_loss_func is not None
        labels = inputs.pop("labels") if apart and "labels" in inputs else None
        if self.model_accepts_loss_kwargs and num_items_in_batch is not None:
            inputs = {**inputs, "num_items_in_batch": num_items_in_batch}
        outputs = model(**inputs)
        if self.compute_loss_func is not None:
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        elif labels is not None:
            more = {"num_items_in_batch": num_items_in_batch, "shift_labels": self._shifts_labels}
            loss = self.label_smoother(outputs, labels, **more)
        elif isinstance(outputs, Mapping) and "loss" not in outputs:
            raise InvalidInput(
                f"The model returned no loss, only {', '.join(outputs)}; its inputs were {', '.join(inputs)}. Give "
                "labels, or override compute_loss."
            )
        else:
            loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs[0]
        return (loss, outputs) if return_outputs else loss

    def compute_loss_context_manager(self) -> ExitStack:
        """Return the context of a forward pass; accelerate sets its precision."""
        stack = ExitStack()
        stack.enter_context(self.autocast_smart_context_manager())
        return stack

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[Any]:
        """Return a context that changes nothing: the prepared model computes in the precision of `args`."""
        return nullcontext()

    def floating_point_ops(self, inputs: Any) -> int:
        """Estimate the operations of a forward and a backward pass: 6 for each token and parameter of the layers."""
        tokens = (
            inputs.get(getattr(self.model, "main_input_name", "input_ids")) if isinstance(inputs, Mapping) else None
        )
        count = getattr(self.model, "num_parameters", None)
        if not isinstance(tokens, Tensor) or count is None:
            return 0
        return 6 * tokens.numel() * int(count(exclude_embeddings=True))

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip the gradients to `max_grad_norm`, and return their norm before."""
        return self.accelerator.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)

    @staticmethod
    def _is_finite(loss: Tensor) -> bool:
        return bool(torch.isfinite(loss).all())
