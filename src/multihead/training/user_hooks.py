"""Checks of what a program gives a Trainer: its arguments, and model_init."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from ..errors import InvalidInput, UnsupportedOption
from .arguments import NO_EFFECT, TrainingArguments


def check_arguments(arguments: Any = None) -> None:
    """Check the arguments of a Trainer.

    Raises:
        UnsupportedOption: a setting that a program's own dataclass takes, and that has no meaning here.
        InvalidInput: arguments of another library, or save_strategy="best" without evaluations.
    """
    if arguments is None:
        return
    if not isinstance(arguments, TrainingArguments):
        origin = type(arguments).__module__.partition(".")[0]
        raise InvalidInput(
            f"args are {origin}.{type(arguments).__name__}; a Trainer needs multihead.TrainingArguments, which takes "
            "the same settings."
        )
    if arguments.save_strategy == "best" and arguments.eval_strategy == "no":
        raise InvalidInput('save_strategy="best" saves at the best evaluation, and eval_strategy="no" makes none.')
    for name, (accepted, advice) in NO_EFFECT.items():
        value = vars(arguments).get(name)
        if value is not None and accepted is not None and value not in accepted:
            raise UnsupportedOption(f"TrainingArguments: {name} = {value!r} has no meaning here. {advice}".rstrip())


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
