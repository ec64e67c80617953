"""An adapter that a Trainer gives a model: of the model's kind, and on nothing that learned already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..adapters.config import TASK_HEADS, LoraConfig
from ..errors import InvalidInput, UnsupportedOption

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
    usual = TASK_TYPES.get(inner.kind.auto)
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
