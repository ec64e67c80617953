"""The Auto classes: a name is enough, the checkpoint says which family it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from ..errors import UnknownModel
from ..models.common.registry import FAMILIES, architecture

if TYPE_CHECKING:
    from ..config import Config
    from ..tokenizers.tokenizer import Tokenizer
    from .pretrained import PreTrainedModel


class AutoConfig:
    """Reads config.json as the family's own typed config."""

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> Config:
        """The config of a checkpoint; `options` are those of `DownloadOptions` and entries to change.

        Raises:
            ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile: the file.
            UnknownModel, UnsupportedConfig: what it says.
        """
        from ..config import changed
        from ..hub import Want
        from ..hub.local import is_adapter
        from ..hub.options import DownloadOptions
        from .loading import read_config

        place = DownloadOptions.pop_from(options)
        path = place.resolve(name, Want.CONFIG)
        if is_adapter(path):
            from ..adapters.files import base_of, labels

            options, (path, _) = {**labels(path, options), **options}, base_of(path, place, Want.CONFIG)
        return changed(read_config(path), options)

    @classmethod
    def for_model(cls, model_type: str, **entries: Any) -> Config:
        """A family's config with its default entries but for those given."""
        return architecture(model_type).config.read(entries)


class AutoTokenizer:
    """Reads a checkpoint's tokenizer."""

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> Tokenizer:
        """The tokenizer of a checkpoint; `options` are those of `DownloadOptions` and settings to change.

        An adapter without a tokenizer has that of its base model.

        Raises:
            ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile: the files.
            UnsupportedTokenizer: files of a kind that is not built here.
        """
        from ..hub import Want
        from ..hub.choice import core_files
        from ..hub.local import is_adapter
        from ..hub.options import DownloadOptions
        from ..tokenizers.load import load_tokenizer

        place = DownloadOptions.pop_from(options)
        path = place.resolve(name, Want.TOKENIZER)
        if is_adapter(path) and not core_files([entry.name for entry in path.iterdir()], Want.TOKENIZER):
            from ..adapters.files import base_of  # needs torch

            path, name = base_of(path, place, Want.TOKENIZER)
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

    head_suffixes: ClassVar[tuple[str, ...]] = ()
    other_suffixes: ClassVar[Mapping[str, str]] = {}  # by model_type, where none of `head_suffixes` fits

    def __init__(self, *_: Any, **__: Any) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"{name} is not built directly: use {name}.from_pretrained(name) or {name}.from_config(config)."
        )

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> PreTrainedModel:
        """A model with a checkpoint's weights; see `multihead.modeling.loading.load_model` for options and errors."""
        from .loading import load_model

        return load_model(name, cls.class_for, **options)

    @classmethod
    def from_config(cls, config: Config) -> PreTrainedModel:
        """A model with fresh weights."""
        return cls.class_for(config)(config)

    @classmethod
    def class_for(cls, config: Config) -> type[PreTrainedModel]:
        """The class that a config means.

        Raises:
            UnknownModel: the family has no head of this kind.
        """
        from .class_factory import model_class

        family = architecture(config.model_type)
        for suffix in (*cls.head_suffixes, cls.other_suffixes.get(config.model_type)):
            if suffix is not None and suffix in family.heads:
                return model_class(config.model_type, suffix)
        names = ", ".join(FAMILIES[config.model_type].class_name(suffix) for suffix in family.heads)
        raise UnknownModel(f"{cls.__name__}: the family {config.model_type!r} has no such head; it has {names}.")


def _auto(name: str, *head_suffixes: str, other_suffixes: Mapping[str, str] = MappingProxyType({})) -> type[_AutoModel]:
    doc = f"Loads a family's class whose name ends with {' or '.join(head_suffixes)}."
    return type(
        name,
        (_AutoModel,),
        {"head_suffixes": head_suffixes, "other_suffixes": other_suffixes, "__doc__": doc, "__module__": __name__},
    )


AutoModel = _auto("AutoModel", "Model")
AutoModelForTextEncoding = _auto("AutoModelForTextEncoding", "EncoderModel", "Model")
AutoModelForPreTraining = _auto(
    "AutoModelForPreTraining",
    *("ForPreTraining", "ForMaskedLM", "ForConditionalGeneration", "MTModel"),
    *("LMHeadModel", "WithLMHeadModel", "ForCausalLM"),
)
AutoModelForMaskedLM = _auto(
    "AutoModelForMaskedLM",
    *("ForMaskedLM", "WithLMHeadModel"),
    other_suffixes=dict.fromkeys(("bart", "mbart"), "ForConditionalGeneration"),  # which learned by filling gaps
)
AutoModelForCausalLM = _auto("AutoModelForCausalLM", "ForCausalLM", "LMHeadModel", "WithLMHeadModel")
AutoModelForSeq2SeqLM = _auto("AutoModelForSeq2SeqLM", "ForConditionalGeneration", "MTModel")
AutoModelForSequenceClassification = _auto("AutoModelForSequenceClassification", "ForSequenceClassification")
AutoModelForTokenClassification = _auto("AutoModelForTokenClassification", "ForTokenClassification")
AutoModelForQuestionAnswering = _auto(
    "AutoModelForQuestionAnswering", "ForQuestionAnsweringSimple", "ForQuestionAnswering"
)
AutoModelForMultipleChoice = _auto("AutoModelForMultipleChoice", "ForMultipleChoice")
AutoModelForNextSentencePrediction = _auto("AutoModelForNextSentencePrediction", "ForNextSentencePrediction")
