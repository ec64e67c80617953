"""`pipeline(task, model)`: from a task's name to what answers it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import auto
from ..errors import UnsupportedOption, nearest
from ..tokenizers.tokenizer import Tokenizer
from .defaults import ENGLISH_PORTUGUESE, MINILM, PORTUGUESE_ENGLISH, SMOLLM2, Default

if TYPE_CHECKING:
    from ..model import PreTrainedModel
    from .task import Task


@dataclass(frozen=True)
class Entry:
    """Where a task lives, what loads its model when no head is trained for it, and its default model."""

    home: str
    default: Default
    prompted: str | None = None


TASKS: Mapping[str, Entry] = {
    "feature-extraction": Entry("feature_extraction.FeatureExtraction", MINILM),
    "sentence-similarity": Entry("feature_extraction.SentenceSimilarity", MINILM),
    "text-generation": Entry("text_generation.TextGeneration", SMOLLM2),
    "text-classification": Entry("text_classification.TextClassification", SMOLLM2, "prompted.PromptedClassification"),
    "summarization": Entry("prompted.PromptedSummarization", SMOLLM2),
    "question-answering": Entry("prompted.PromptedAnswers", SMOLLM2),
    "translation": Entry("translation.Translation", ENGLISH_PORTUGUESE),
    "translation_en_to_pt": Entry("translation.Translation", ENGLISH_PORTUGUESE),
    "translation_pt_to_en": Entry("translation.Translation", PORTUGUESE_ENGLISH),
}
ALIASES = {"sentiment-analysis": "text-classification", "embedding": "feature-extraction"}


def pipeline(
    task: str,
    model: str | os.PathLike[str] | PreTrainedModel | None = None,
    tokenizer: str | os.PathLike[str] | Tokenizer | None = None,
    *,
    dtype: Any = "auto",
    device: Any = None,
    **options: Any,
) -> Task:
    """What answers a task.

    Args:
        task: `text-generation`, `translation`, `sentiment-analysis`, ...
        model: a name, a folder, a model; the task's default when left out.
        tokenizer: the model's own when left out.
        dtype, device, options: of `from_pretrained`.

    Raises:
        UnsupportedOption: an unknown task. Otherwise what `from_pretrained` raises.
    """
    name = ALIASES.get(task, task)
    if name not in TASKS:
        raise UnsupportedOption(f"The task {task!r} is not known. {nearest(task, [*TASKS, *ALIASES])}")
    entry = TASKS[name]
    chosen = entry.default.name if model is None else model
    home = entry.home
    if entry.prompted is not None and _speaks(chosen, options):
        home = entry.prompted
    module, _, kind = home.partition(".")
    maker: type[Task] = getattr(import_module(f".{module}", __package__), kind)
    if isinstance(chosen, (str, os.PathLike)):
        source: Any = chosen
        chosen = maker.load(chosen, dtype=dtype, device=device, **options)
    else:
        source = chosen.name_or_path
    own: Any = getattr(chosen, "tokenizer", None)
    if tokenizer is None and isinstance(own, Tokenizer):
        tokenizer = own
    elif tokenizer is None or isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = auto.AutoTokenizer.from_pretrained(tokenizer or source, **_place(options))
    return maker(chosen, tokenizer, task)


def _speaks(model: Any, options: Mapping[str, Any]) -> bool:
    """Whether a model is a language model without a trained classifier."""
    if isinstance(model, (str, os.PathLike)):
        config = auto.AutoConfig.from_pretrained(model, **_place(options))
        return not any("Classification" in name for name in config.architectures or []) and _is_decoder(config)
    return type(model).__name__.endswith("ForCausalLM")


def _is_decoder(config: Any) -> bool:
    from ..models.registry import architecture

    return "ForCausalLM" in architecture(config.model_type).heads and not config.is_encoder_decoder


def _place(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say where files are."""
    names = ("revision", "subfolder", "token", "cache_dir", "local_files_only", "gguf_file")
    return {name: options[name] for name in names if name in options}
