"""Tables of model types, configs and classes: `CONFIG_MAPPING["bert"]`, `MODEL_FOR_CAUSAL_LM_MAPPING.keys()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from ..config import Config
from ..modeling.auto_classes import head_suffix
from ..models.common.registry import FAMILIES, architecture


class LazyTable(Mapping[Any, Any]):
    """A mapping whose values are looked up when they are asked for.

    Args:
        names: key in the registry of families -> name of the value. value: key in the registry -> value.
        key: key in the registry -> key of this mapping.
    """

    def __init__(
        self, names: Callable[[], Mapping[str, str]], value: Callable[[str], Any], key: Callable[[str], Any]
    ) -> None:
        self._names, self._value, self._key = names, value, key

    def _type_of(self, key: Any) -> str:
        kind = key if isinstance(key, str) else getattr(key, "model_type", None)
        if not isinstance(kind, str) or kind not in self._names() or self._key(kind) != key:
            raise KeyError(key)
        return kind

    def __getitem__(self, key: Any) -> Any:
        return self._value(self._type_of(key))

    def __iter__(self) -> Iterator[Any]:
        return map(self._key, self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, key: object) -> bool:
        try:
            self._type_of(key)
        except KeyError:
            return False
        return True


def config_class(kind: str) -> type[Config]:
    """Return the config class of a model type."""
    return architecture(kind).config


def names_for(auto: str) -> Callable[[], Mapping[str, str]]:
    """Return a function of the class that an Auto class loads for each model type."""

    @cache
    def names() -> Mapping[str, str]:
        found = {kind: head_suffix(auto, kind) for kind in FAMILIES}
        return {kind: FAMILIES[kind].class_name(suffix) for kind, suffix in found.items() if suffix is not None}

    return names


def model_table(auto: str) -> LazyTable:
    """Return config class -> model class of an Auto class."""
    from ..modeling.class_factory import model_class

    return LazyTable(names_for(auto), lambda kind: model_class(kind, head_suffix(auto, kind) or ""), config_class)


def config_names() -> Mapping[str, str]:
    """Return the name of each model type's config class."""
    return {kind: entry.class_name("Config") for kind, entry in FAMILIES.items()}


def family_names() -> Mapping[str, str]:
    """Return the name of each model type's family."""
    return {kind: entry.name for kind, entry in FAMILIES.items()}


AUTO_OF = {  # the mapping of the reference -> the Auto class here
    "MODEL_MAPPING": "AutoModel",
    "MODEL_FOR_PRETRAINING_MAPPING": "AutoModelForPreTraining",
    "MODEL_WITH_LM_HEAD_MAPPING": "AutoModelForPreTraining",
    "MODEL_FOR_CAUSAL_LM_MAPPING": "AutoModelForCausalLM",
    "MODEL_FOR_MASKED_LM_MAPPING": "AutoModelForMaskedLM",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING": "AutoModelForSeq2SeqLM",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING": "AutoModelForSequenceClassification",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING": "AutoModelForTokenClassification",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING": "AutoModelForQuestionAnswering",
    "MODEL_FOR_TABLE_QUESTION_ANSWERING_MAPPING": "AutoModelForTableQuestionAnswering",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING": "AutoModelForMultipleChoice",
    "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING": "AutoModelForNextSentencePrediction",
    "MODEL_FOR_TEXT_ENCODING_MAPPING": "AutoModelForTextEncoding",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING": "AutoModelForImageTextToText",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING": "AutoModelForMultimodalLM",
}


def tokenizer_names() -> Mapping[str, str]:
    """Return the name of the tokenizer class of each model type that has one of its own."""
    from ..tokenizers.recipes import FAMILIES as STEMS

    return {kind: f"{STEMS[kind]}Tokenizer" for kind in FAMILIES if STEMS.get(kind)}


@cache
def table(name: str) -> Any:
    """Return a mapping by the reference's name; `_NAMES` at its end gives names instead of classes."""
    plain = name.removesuffix("_NAMES")
    if plain == "CONFIG_MAPPING":
        return dict(config_names()) if plain != name else LazyTable(config_names, config_class, str)
    if plain == "TOKENIZER_MAPPING":
        from .tokenizer_classes import tokenizer_class

        names = tokenizer_names
        if plain != name:
            return dict(names())
        return LazyTable(names, lambda kind: (None, tokenizer_class(names()[kind])), config_class)
    if plain == "MODEL_NAMES_MAPPING":
        return dict(family_names())
    auto = AUTO_OF[plain]
    return dict(names_for(auto)()) if plain != name else model_table(auto)


def get_values(model_mapping: Mapping[Any, Any]) -> list[Any]:
    """Return the classes of a mapping, in one list."""
    found = []
    for value in model_mapping.values():
        found += list(value) if isinstance(value, (list, tuple)) else [value]
    return found
