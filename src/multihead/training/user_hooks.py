"""Checks of user code: Trainer subclasses with hooks that are never called here, and model_init."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from ..errors import InvalidInput, UnsupportedOption
from .arguments import TrainingArguments

TRAINING_STEP = "Write compute_loss(model, inputs, return_outputs=False, num_items_in_batch=None), or a callback."
EVALUATION = "Write compute_loss with return_outputs=True, give compute_metrics, or override evaluate or predict."
DATA = "Give examples as train_dataset and eval_dataset, and make batches of them in a function as data_collator."
ORDER = 'Choose the order of examples by train_sampling_strategy: "random", "sequential" or "group_by_length".'
SCHEDULE = "Name a schedule in lr_scheduler_type, or give optimizers=(optimizer, a LambdaLR of it)."
OPTIMIZER = "Override create_optimizer, or give optimizers=(optimizer, a LambdaLR of it or None)."
PRECISION = "bf16, fp16 and the other settings of TrainingArguments control the forward pass."
EVENT = "Write a callback: each event of a run has a method of TrainerCallback."
SAVING = "Override save_model, which checkpoints call too, or write a callback with on_save."

UNCALLED: Mapping[str, str] = {
    "training_step": TRAINING_STEP, "get_batch_samples": DATA, "_get_num_items_in_batch": TRAINING_STEP,
    "_prepare_inputs": DATA,
    "_prepare_input": DATA, "prediction_step": EVALUATION, "evaluation_loop": EVALUATION, "_evaluate": EVALUATION,
    "_determine_best_metric": EVALUATION, "get_train_dataloader": DATA, "get_eval_dataloader": DATA,
    "get_test_dataloader": DATA, "_get_dataloader": DATA, "_remove_unused_columns": DATA,
    "_set_signature_columns_if_needed": DATA, "_get_train_sampler": ORDER, "_get_eval_sampler": ORDER,
    "create_scheduler": SCHEDULE, "create_optimizer_and_scheduler": OPTIMIZER,
    "get_optimizer_cls_and_kwargs": OPTIMIZER,
    "get_decay_parameter_names": OPTIMIZER, "compute_loss_context_manager": PRECISION,
    "autocast_smart_context_manager": PRECISION, "_wrap_model": PRECISION, "_clip_grad_norm": EVENT,
    "_inner_training_loop": EVENT, "_run_epoch": EVENT, "_maybe_log_save_evaluate": EVENT,
    "_save_checkpoint": SAVING, "_save": SAVING, "_save_optimizer_and_scheduler": SAVING,
    "_load_from_checkpoint": SAVING, "_load_best_model": SAVING,
}  # fmt: skip


def check_trainer_class(kind: type, arguments: Any = None) -> None:
    """Check a Trainer subclass and its arguments.

    Raises:
        UnsupportedOption: the class defines a hook that is never called.
        InvalidInput: arguments of another library, or save_strategy="best" without evaluations.
    """
    if arguments is not None and not isinstance(arguments, TrainingArguments):
        origin = type(arguments).__module__.partition(".")[0]
        raise InvalidInput(
            f"args are {origin}.{type(arguments).__name__}; a Trainer needs multihead.TrainingArguments, which takes "
            "the same settings."
        )
    if arguments is not None and arguments.save_strategy == "best" and arguments.eval_strategy == "no":
        raise InvalidInput('save_strategy="best" saves at the best evaluation, and eval_strategy="no" makes none.')
    for name, advice in UNCALLED.items():
        if hasattr(kind, name):
            raise UnsupportedOption(f"{kind.__name__}.{name} is a hook that this Trainer never calls. {advice}")


def call_model_init(model_init: Callable[..., Any], trial: Any = None) -> Any:
    """Call `model_init`, with the trial if it takes an argument. Raises InvalidInput."""
    parameters = signature(model_init).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(needed) > 1:
        raise InvalidInput(f"model_init takes {len(needed)} arguments; it is called with none, or with a trial.")
    model = model_init(trial) if needed else model_init()
    if model is None:
        raise InvalidInput("model_init returned None; it must return the model.")
    return model
