"""The hooks of the reference's Trainer: those that are called here, and those that no class may override."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

CALLED = frozenset(
    """
    training_step get_batch_samples _get_num_items_in_batch _prepare_inputs _prepare_input prediction_step
    evaluation_loop _evaluate _determine_best_metric get_train_dataloader get_eval_dataloader get_test_dataloader
    _get_dataloader _remove_unused_columns _set_signature_columns_if_needed _get_train_sampler _get_eval_sampler
    create_scheduler create_optimizer_and_scheduler get_optimizer_cls_and_kwargs get_decay_parameter_names
    compute_loss_context_manager autocast_smart_context_manager _wrap_model _clip_grad_norm
    _maybe_log_save_evaluate _save_checkpoint _save _save_optimizer_and_scheduler _load_from_checkpoint
    _load_best_model floating_point_ops
    """.split()
)
UNCALLED = frozenset(
    """
    _inner_training_loop _run_epoch _save_rng_state _load_rng_state _load_optimizer_and_scheduler
    _tune_save_checkpoint
    """.split()
)


class HookState:
    """Attributes that the parts of a `HookTrainer` share."""

    args: Any
    model: Any
    model_wrapped: Any
    accelerator: Any
    data_collator: Any
    train_dataset: Any
    eval_dataset: Any
    processing_class: Any
    optimizer: Any
    lr_scheduler: Any
    optimizer_cls_and_kwargs: Any
    compute_loss_func: Any
    compute_metrics: Any
    preprocess_logits_for_metrics: Any
    label_smoother: Any
    label_names: list[str]
    state: Any
    control: Any
    callbacks: Any
    checkpoints: Any
    uploads: Any
    is_in_train: bool
    model_accepts_loss_kwargs: bool
    can_return_loss: bool
    current_gradient_accumulation_steps: int
    current_flos: float
    _signature_columns: list[str] | None
    _shifts_labels: bool
    notify: Callable[..., None]
    log: Callable[..., None]

    @property
    def inner_model(self) -> nn.Module:
        """The model without wrappers of accelerate and without adapters of peft."""
        model = self.accelerator.unwrap_model(self.model)
        found: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model
        return found

    @property
    def _device(self) -> torch.device:
        found: torch.device = self.args.device
        return found
