"""Preparation of a model for training: float32 weights, and a new adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..adapters.config import TASK_HEADS, LoraConfig
from ..config import Config
from ..errors import InvalidInput, UnsupportedOption, warn
from ..modeling.pretrained import PreTrainedModel
from ..nn.inner_model import inner_model
from .arguments import TrainingArguments

HALVES = (torch.bfloat16, torch.float16)

TASK_TYPES: Mapping[str, str] = {  # Auto class of a model -> `task_type` of an adapter for it
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModelForTextEncoding": "FEATURE_EXTRACTION",
    "AutoModel": "FEATURE_EXTRACTION",
}


def add_adapter(model: Any, config: Any) -> None:
    """Add a new adapter to a model, or to the model of a sentence encoder; `task_type` follows from the head.

    Raises:
        InvalidInput: the model already has an adapter, which the new one would disable.
        UnsupportedOption: the config's task_type belongs to another head, so the model's head would not be trained.
    """
    inner = model if hasattr(model, "add_adapter") else inner_model(model)
    if not hasattr(inner, "add_adapter"):
        raise InvalidInput(f"peft_config needs a model of this library, not a {type(inner).__name__}.")
    if inner.adapters is not None:
        raise InvalidInput(
            "The model already has an adapter, and peft_config would replace it with a new one. Leave peft_config out "
            "to train it further, or call merge_adapters() first."
        )
    task_type = TASK_TYPES.get(inner.head_type.auto)
    if isinstance(config, LoraConfig) and config.task_type is None:
        config = replace(config, task_type=task_type)
    elif (
        isinstance(config, LoraConfig)
        and config.task_type != task_type
        and (config.head_modules or TASK_HEADS.get(task_type or ""))
    ):
        raise UnsupportedOption(
            f"peft_config has task_type {config.task_type!r}, with which the head of a {type(inner).__name__} would "
            f"not be trained: leave it out, or set {task_type!r}."
        )
    inner.add_adapter(config)


def convert_to_float32(model: Any, arguments: TrainingArguments) -> None:
    """Convert a half-precision model to float32 in place, since half precision loses small updates.

    A base model with an adapter and a module of another library are not converted; if they have trainable
    half-precision parameters, there is a warning.

    Raises:
        UnsupportedOption: fp16=True, whose scaled gradients need float32 weights, with half-precision weights left.
    """
    halves = [(name, p) for name, p in model.named_parameters() if p.requires_grad and p.dtype in HALVES]
    if not halves:
        return
    kind = str(halves[0][1].dtype).removeprefix("torch.")
    inner = inner_model(model)
    if isinstance(inner, PreTrainedModel) and inner.adapters is None:
        model.to(torch.float32)
        warn(
            f"The weights are {kind}, too coarse for small updates: they are trained and saved in float32. "
            f"bf16=True computes products in bfloat16. Load the model with dtype='float32' to keep full precision."
        )
        return
    advice = "Load the model with dtype='float32'."
    problem = f"{len(halves)} parameters, such as {halves[0][0]}, are trained in {kind}, too coarse for small updates"
    if arguments.fp16:
        raise UnsupportedOption(f"fp16=True scales gradients, which needs weights in float32: {problem}. {advice}")
    warn(f"{problem}, which get lost. {advice}")


def drop_calibration(model: Any) -> None:
    """Remove the calibration of a model's scores, which was fitted for the weights before training; with a warning."""
    config = getattr(model, "config", None)
    if isinstance(config, Config) and config.calibration is not None:
        config.calibration = None
        warn(
            f"The calibration of {model.name_or_path} was fitted for its old weights and is removed. Fit it again "
            "after training (docs/labels.md)."
        )


def check_trainable(model: Any) -> None:
    """Raise InvalidInput for a model without trainable parameters."""
    if any(p.requires_grad for p in model.parameters()):
        return
    adapted = getattr(inner_model(model), "adapters", None) is not None
    advice = (
        "Load its adapter with load_adapter(..., is_trainable=True), or give the Trainer the folder's name and a task."
        if adapted
        else "Set requires_grad of the parameters to train."
    )
    raise InvalidInput(f"This {type(model).__name__} has nothing to train: all of its parameters are frozen. {advice}")
