"""The Auto classes: they load a checkpoint by its name and choose the family by its config. Imports no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from ..models.common.registry import architecture
from .auto_classes import AUTO_CLASSES

if TYPE_CHECKING:
    from ..config import Config
    from ..tokenizers.tokenizer import Tokenizer
    from .pretrained import PreTrainedModel


class AutoConfig:
    """Reads config.json as the family's own typed config."""

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> Config:
        """Return the config of a checkpoint; `options` are those of `DownloadOptions` and entries to change.

        Raises:
            ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile: the file.
            UnknownModel, UnsupportedConfig: its entries.
        """
        from .model_config import load_config

        return load_config(name, **options)

    @classmethod
    def for_model(cls, model_type: str, **entries: Any) -> Config:
        """Return a family's config with its default entries but for those given."""
        return architecture(model_type).config.read(entries)


class AutoTokenizer:
    """Reads a checkpoint's tokenizer."""

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> Tokenizer:
        """Return the tokenizer of a checkpoint; `options` are those of `DownloadOptions` and settings to change.

        An adapter without a tokenizer gets that of its base model.

        Raises:
            ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile: the files.
            UnsupportedTokenizer: files of a format that is not read here.
        """
        from ..hub import Want
        from ..hub.choice import core_files
        from ..hub.local import is_adapter
        from ..hub.options import DownloadOptions
        from ..tokenizers.load import load_tokenizer

        place = DownloadOptions.pop_from(options)
        path = place.resolve(name, Want.TOKENIZER)
        if is_adapter(path) and not core_files([entry.name for entry in path.iterdir()], Want.TOKENIZER):
            from ..adapters.files import find_base  # needs torch

            path, name = find_base(path, place, Want.TOKENIZER)
        return load_tokenizer(path, name_or_path=str(name), **options)


class _Tokenizers(type):
    """Any tokenizer here is one of the `tokenizers` library."""

    def __instancecheck__(cls, one: Any) -> bool:
        from ..tokenizers.tokenizer import Tokenizer

        return isinstance(one, Tokenizer)


class PreTrainedTokenizerFast(metaclass=_Tokenizers):
    """Makes a tokenizer of one of the `tokenizers` library; all tokenizers here are instances of it."""

    from_pretrained = AutoTokenizer.from_pretrained

    def __new__(cls, tokenizer_object: Any = None, tokenizer_file: Any = None, **settings: Any) -> Tokenizer:  # type: ignore[misc]
        """The tokenizer of a library's object, or of the file that it was saved in.

        Args:
            settings: entries of tokenizer_config.json: `bos_token`, `model_max_length`, `padding_side`, ...

        Raises:
            InvalidInput: neither or both, or an object that no file holds. ModelNotFound, CorruptFile: the file.
            UnsupportedTokenizer: settings whose types say nothing here.
        """
        from ..tokenizers.wrapping import wrap

        return wrap(tokenizer_object, tokenizer_file, settings)


class _AutoModel:
    """Loads the family's class for one kind of task."""

    auto: ClassVar[str | None] = None  # the Auto class that a class of another name loads as

    def __init__(self, *_: Any, **__: Any) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"{name} is not built directly: use {name}.from_pretrained(name) or {name}.from_config(config)."
        )

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> PreTrainedModel:
        """Return a model with a checkpoint's weights; see `multihead.modeling.loading.load_model` for the options."""
        from .loading import load_model

        return load_model(name, cls.class_for, **options)

    @classmethod
    def from_config(cls, config: Config) -> PreTrainedModel:
        """Return a model whose weights are initialized at random."""
        return cls.class_for(config)(config)

    @classmethod
    def class_for(cls, config: Config) -> type[PreTrainedModel]:
        """Return the class for a config. Raises UnknownModel where its family has no head of this kind."""
        from .class_factory import choose_class

        return choose_class(cls.auto or cls.__name__, config)


def _auto(name: str) -> type[_AutoModel]:
    doc = f"Loads a family's class whose name ends with {' or '.join(AUTO_CLASSES[name])}."
    return type(name, (_AutoModel,), {"__doc__": doc, "__module__": __name__})


AutoModel = _auto("AutoModel")
AutoModelForTextEncoding = _auto("AutoModelForTextEncoding")
AutoModelForPreTraining = _auto("AutoModelForPreTraining")
AutoModelForMaskedLM = _auto("AutoModelForMaskedLM")
AutoModelForCausalLM = _auto("AutoModelForCausalLM")
AutoModelForImageTextToText = _auto("AutoModelForImageTextToText")
AutoModelForMultimodalLM = _auto("AutoModelForMultimodalLM")
AutoModelForSeq2SeqLM = _auto("AutoModelForSeq2SeqLM")
AutoModelForSequenceClassification = _auto("AutoModelForSequenceClassification")
AutoModelForTokenClassification = _auto("AutoModelForTokenClassification")
AutoModelForQuestionAnswering = _auto("AutoModelForQuestionAnswering")
AutoModelForTableQuestionAnswering = _auto("AutoModelForTableQuestionAnswering")
AutoModelForMultipleChoice = _auto("AutoModelForMultipleChoice")
AutoModelForNextSentencePrediction = _auto("AutoModelForNextSentencePrediction")


def wrapper_class(name: str, auto: str) -> type[_AutoModel]:
    """Return the class of a multimodal family, which loads the text half of its checkpoints as an Auto class does."""
    doc = f"Loads the text half of a checkpoint as {auto} does."
    return type(name, (_AutoModel,), {"__doc__": doc, "__module__": "multihead", "auto": auto})
