"""Model class of a checkpoint, for commands that no task names a head for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ADAPTER_HEADS: Mapping[str, str] = {  # task_type of an adapter with a head -> suffix of the class of its model
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}
GENERATIVE_HEADS = ("ForCausalLM", "LMHeadModel", "MTModel", "ForConditionalGeneration")


def best_class(config: Any, path: Path) -> Callable[[Any], Any]:
    """Return a function of a config that returns the class to load a checkpoint with.

    This is the class that the checkpoint was saved from; of an adapter, that of its task; else a generative class, a
    masked language model or the base model of the family.
    """
    from ..adapters.files import read_config
    from ..hub.local import is_adapter
    from ..models.common.registry import architecture, find_class
    from .class_factory import model_class

    heads = architecture(config.model_type).heads
    head = ADAPTER_HEADS.get(read_config(path).task_type or "") if is_adapter(path) else None
    if head is None:
        saved = find_class((config.architectures or [""])[0])
        usual = (*GENERATIVE_HEADS, "ForMaskedLM", "Model", *heads)
        head = saved[1] if saved and saved[1] in heads else next(name for name in usual if name in heads)
    return lambda found: model_class(found.model_type, head)


def running_class(config: Any) -> Any:
    """Return the class that runs a checkpoint: the saved one, else a generative one, else the base model.

    A head for masked words or pretraining is left out: `multihead bench` measures what such an encoder computes for
    most tasks.
    """
    from ..models.common.registry import architecture, find_class
    from .class_factory import model_class

    heads = architecture(config.model_type).heads
    saved = find_class((config.architectures or [""])[0])
    own = saved[1] if saved and saved[1] in heads and not saved[1].startswith(("ForMasked", "ForPre")) else None
    head = own or next((name for name in (*GENERATIVE_HEADS, "Model") if name in heads), next(iter(heads)))
    return model_class(config.model_type, head)
