"""The task that a checkpoint was made for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...adapters.config import TASK_HEADS
from ...config import read_json
from ...hub import Want, resolve
from ...hub.choice import ADAPTER_CONFIG
from ...modeling.auto import AutoConfig
from ...models.common.registry import find_class
from ...pipelines.pipeline import has_head

LANGUAGE = re.compile("(?!mul)[a-z]{2,3}")  # those of many languages have "mul", or names such as "ROMANCE"
TRANSLATOR_TYPES = ("marian", "marian_ssru")  # model types that do nothing but translate
SAVED_HEADS = {  # suffix of the class that a checkpoint was saved from -> task
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
}
ADAPTER_TASKS = {
    "QUESTION_ANS": "question-answering", "TOKEN_CLS": "token-classification", "SEQ_CLS": "text-classification",
}  # fmt: skip
BY_HEAD = (  # where the saved class says nothing
    ("CausalLM", "text-generation"), ("Seq2SeqLM", "text2text-generation"), ("MaskedLM", "fill-mask"),
)  # fmt: skip


def main_task(source: str) -> str:
    """Return the task of a checkpoint by its files. Raises what `AutoConfig.from_pretrained` raises."""
    root = Path(resolve(source, (Want.CONFIG, Want.MODULES)))
    adapter = root / ADAPTER_CONFIG
    if adapter.is_file():
        return adapter_task(read_json(adapter))
    config = AutoConfig.from_pretrained(source)
    if root.is_dir() and (root / "modules.json").exists():
        return "sentence-similarity"
    saved = find_class((config.architectures or [""])[0])
    head = saved[1] if saved is not None else ""
    if head == "ForSequenceClassification":
        labels = getattr(config, "num_labels", 2)
        names = [str(name).lower() for name in (getattr(config, "label2id", None) or {})]
        if any(name.startswith("entail") for name in names):
            return "zero-shot-classification"
        return "text-ranking" if labels == 1 else "text-classification"
    if head in SAVED_HEADS:
        return SAVED_HEADS[head]
    if config.model_type in TRANSLATOR_TYPES:
        return translation_task(root)
    if getattr(config, "is_encoder_decoder", False):
        return "text2text-generation"
    for name, task in BY_HEAD:
        if head != "Model" and has_head(name, config):
            return task
    return "feature-extraction"


def translation_task(root: Path) -> str:
    """Return the task of a translator, with its languages where its tokenizer's files, or Bergamot's, name one pair."""
    pair = [str(entries_of(root / "tokenizer_config.json").get(name)) for name in ("source_lang", "target_lang")]
    if pair == ["None", "None"]:
        pair = str(entries_of(root / "model_info.json").get("shortName")).split("-")[:2]
    return f"translation_{pair[0]}_to_{pair[1]}" if all(map(LANGUAGE.fullmatch, pair)) else "translation"


def task_by_name(task: str, names: Iterable[str]) -> str:
    """Return the task of a translator with the languages that one of its names is, such as "en-pt"."""
    pairs = (name.split("-") for name in names if task == "translation")
    pair = next((pair for pair in pairs if len(pair) == 2 and all(map(LANGUAGE.fullmatch, pair))), None)
    return task if pair is None else f"translation_{pair[0]}_to_{pair[1]}"


def entries_of(file: Path) -> Mapping[str, Any]:
    return read_json(file) if file.is_file() else {}


def adapter_task(entries: Mapping[str, Any]) -> str:
    """Return the task of an adapter by its task_type, or by the modules that it saves."""
    kind, saved = entries.get("task_type"), set(entries.get("modules_to_save") or ())
    for name, task in ADAPTER_TASKS.items():
        if kind == name or (not kind and saved & set(TASK_HEADS[name])):
            return task
    return "text-generation" if kind == "CAUSAL_LM" else "feature-extraction"
