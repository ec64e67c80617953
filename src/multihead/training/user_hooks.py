"""What a user's own code gives the Trainer to call, and what of the reference's Trainer is never called here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from ..errors import InvalidInput, UnsupportedOption
from .arguments import TrainingArguments

LEARNS = "Write compute_loss(model, inputs, return_outputs=False, num_items_in_batch=None), or a callback."
JUDGES = "Write compute_loss with return_outputs=True, give compute_metrics, or override evaluate or predict."
READS = "Give examples as train_dataset and eval_dataset, and make batches of them in a function as data_collator."
ORDERS = 'Choose the order of examples by train_sampling_strategy: "random", "sequential" or "group_by_length".'
RATES = "Name a schedule in lr_scheduler_type, or give optimizers=(optimizer, a LambdaLR of it)."
CHANGES = "Override create_optimizer, or give optimizers=(optimizer, a LambdaLR of it or None)."
COMPUTES = "bf16, fp16 and the other settings of TrainingArguments say how a pass is computed."
WATCHES = "Write a callback: each event of a run has a method of TrainerCallback."
SAVES = "Override save_model, which checkpoints call too, or write a callback with on_save."

UNCALLED: Mapping[str, str] = {
    "training_step": LEARNS, "get_batch_samples": READS, "_get_num_items_in_batch": LEARNS, "_prepare_inputs": READS,
    "_prepare_input": READS, "prediction_step": JUDGES, "evaluation_loop": JUDGES, "_evaluate": JUDGES,
    "_determine_best_metric": JUDGES, "get_train_dataloader": READS, "get_eval_dataloader": READS,
    "get_test_dataloader": READS, "_get_dataloader": READS, "_remove_unused_columns": READS,
    "_set_signature_columns_if_needed": READS, "_get_train_sampler": ORDERS, "_get_eval_sampler": ORDERS,
    "create_scheduler": RATES, "create_optimizer_and_scheduler": CHANGES, "get_optimizer_cls_and_kwargs": CHANGES,
    "get_decay_parameter_names": CHANGES, "compute_loss_context_manager": COMPUTES,
    "autocast_smart_context_manager": COMPUTES, "_wrap_model": COMPUTES, "_clip_grad_norm": WATCHES,
    "_inner_training_loop": WATCHES, "_run_epoch": WATCHES, "_maybe_log_save_evaluate": WATCHES,
    "_save_checkpoint": SAVES, "_save": SAVES, "_save_optimizer_and_scheduler": SAVES,
    "_load_from_checkpoint": SAVES, "_load_best_model": SAVES,
}  # fmt: skip


def check(kind: type, arguments: Any = None) -> None:
    """Raises UnsupportedOption for a class that has one of these methods: it would change nothing.

    Raises InvalidInput for settings of another library, or a best evaluation to save at where there is none.
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


def made(model_init: Callable[..., Any], trial: Any = None) -> Any:
    """The model that a function makes, given the trial where it takes an argument. Raises InvalidInput."""
    taken = signature(model_init).parameters.values()
    needed = [p for p in taken if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(needed) > 1:
        raise InvalidInput(f"model_init takes {len(needed)} arguments; it is called with none, or with a trial.")
    found = model_init(trial) if needed else model_init()
    if found is None:
        raise InvalidInput("model_init returned None; it must return the model.")
    return found
