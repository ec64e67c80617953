"""What a Trainer does to a model before it learns: weights that can, and an adapter of the model's kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..adapters.config import TASK_HEADS, LoraConfig
from ..errors import InvalidInput, UnsupportedOption, warn
from ..modeling.pretrained import PreTrainedModel
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
    """Gives a model, or a sentence encoder's, a new adapter whose `task_type` is that of the model's kind.

    Raises:
        InvalidInput: the model has an adapter already, which the new one would switch off.
        UnsupportedOption: the config's task_type is that of another kind of model, so that its head would not learn.
    """
    inner = model if hasattr(model, "add_adapter") else getattr(model, "model", model)
    if not hasattr(inner, "add_adapter"):
        raise InvalidInput(f"peft_config needs a model of this library, not a {type(inner).__name__}.")
    if inner.adapters is not None:
        raise InvalidInput(
            "The model has an adapter, and peft_config would put a new one in its place. Leave peft_config out to go "
            "on with it, or call merge_adapters() first."
        )
    usual = TASK_TYPES.get(inner.head_type.auto)
    if isinstance(config, LoraConfig) and config.task_type is None:
        config = replace(config, task_type=usual)
    elif (
        isinstance(config, LoraConfig)
        and config.task_type != usual
        and (config.head_modules or TASK_HEADS.get(usual or ""))
    ):
        raise UnsupportedOption(
            f"peft_config has task_type {config.task_type!r}, with which the head of a {type(inner).__name__} would "
            f"not learn: leave it out, or say {usual!r}."
        )
    inner.add_adapter(config)


def widened(model: Any, arguments: TrainingArguments) -> None:
    """Brings a model of half precision to float32, in place: halves are too coarse for small updates, which get lost.

    A frozen base beside an adapter stays as it is, and so does a module that is none of this library's; both with a
    warning where a half learns.

    Raises:
        UnsupportedOption: fp16=True, whose scaled gradients need weights in float32, and weights that stay in halves.
    """
    halves = [(name, p) for name, p in model.named_parameters() if p.requires_grad and p.dtype in HALVES]
    if not halves:
        return
    kind = str(halves[0][1].dtype).removeprefix("torch.")
    inner = getattr(model, "model", model)
    if isinstance(inner, PreTrainedModel) and inner.adapters is None:
        model.to(torch.float32)
        warn(
            f"The weights are {kind}, too coarse for small updates: they are trained, and saved, in float32. "
            f"bf16=True computes products in bfloat16; load the model with dtype='float32' to begin with all digits."
        )
        return
    advice = "Load the model with dtype='float32'."
    told = f"{len(halves)} parameters, such as {halves[0][0]}, learn in {kind}, too coarse for small updates"
    if arguments.fp16:
        raise UnsupportedOption(f"fp16=True scales gradients, which needs weights in float32: {told}. {advice}")
    warn(f"{told}, which get lost. {advice}")


def check_learns(model: Any) -> None:
    """Raises InvalidInput for a model of which nothing learns."""
    if any(p.requires_grad for p in model.parameters()):
        return
    adapted = getattr(getattr(model, "model", model), "adapters", None) is not None
    advice = (
        "Load its adapter with load_adapter(..., is_trainable=True), or give the Trainer the folder's name and a task."
        if adapted
        else "Set requires_grad of what shall learn."
    )
    raise InvalidInput(f"Nothing of this {type(model).__name__} learns: all of its parameters are frozen. {advice}")
