"""The Auto classes: they load a checkpoint by its name and choose the family by its config. Imports no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from ..config import is_open
from ..errors import InvalidInput, UnknownModel, UnsupportedOption
from ..models.common.registry import DERIVED, OWN_CONFIGS, architecture, register_config
from .auto_classes import AUTO_CLASSES
from .own_classes import MODELS, TOKENIZERS, add, knows, registered_model, registered_tokenizer

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

    @staticmethod
    def register(model_type: str, config: type[Config], exist_ok: bool = False) -> None:
        """Let config.json files of a model_type be read by a program's own class, in this process.

        Raises:
            InvalidInput: the class has another model_type, or the type is known already.
        """
        register_config(model_type, config, exist_ok)

    @classmethod
    def for_model(cls, model_type: str, **entries: Any) -> Config:
        """Return a family's config with its default entries but for those given."""
        if model_type in OWN_CONFIGS:
            return OWN_CONFIGS[model_type].read(entries)
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
        own = registered_tokenizer(path)
        if own is not None:
            return own.from_pretrained(name, **{**vars(place), **options})
        if is_adapter(path) and not core_files([entry.name for entry in path.iterdir()], Want.TOKENIZER):
            from ..adapters.files import find_base  # needs torch

            path, name = find_base(path, place, Want.TOKENIZER)
        return load_tokenizer(path, name_or_path=str(name), **options)

    @staticmethod
    def register(
        config_class: type[Config], tokenizer_class: Any = None, slow_tokenizer_class: Any = None,
        fast_tokenizer_class: Any = None, exist_ok: bool = False,
    ) -> None:  # fmt: skip
        """Let folders with a program's own config be read by a tokenizer class, in this process.

        Raises:
            InvalidInput: no class, or the config has another one already.
        """
        chosen = tokenizer_class or fast_tokenizer_class or slow_tokenizer_class
        if chosen is None:
            raise InvalidInput(
                "AutoTokenizer.register needs a class: tokenizer_class=..., or fast_tokenizer_class=...."
            )
        add(TOKENIZERS, config_class, chosen, exist_ok)


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
    def from_pretrained(cls, name: str | os.PathLike[str] | None, *arguments: Any, **options: Any) -> PreTrainedModel:
        """Return a model with a checkpoint's weights; see `multihead.modeling.loading.load_model` for the options."""
        from .loading import load_model

        own = registered_model(cls.auto or cls.__name__, name, options)
        if own is not None:
            return own.from_pretrained(name, *arguments, **options)
        return load_model(name, cls.class_for, **options)

    @classmethod
    def from_config(cls, config: Config, **options: Any) -> PreTrainedModel:
        """Return a model whose weights are initialized at random.

        Args:
            options: `dtype` of the weights, and `attn_implementation`.

        Raises:
            UnsupportedOption: another option.
        """
        from .load_request import dtype_of

        model = cls.class_for(config)(config)
        attention, older = options.pop("attn_implementation", None), options.pop("torch_dtype", None)
        kind = dtype_of(options.pop("dtype", older))
        if wrong := [name for name, value in options.items() if name != "trust_remote_code" or value]:
            raise UnsupportedOption(f"from_config has no option {wrong[0]!r}.")
        if attention is not None:
            model.set_attn_implementation(attention)
        return model if kind is None else model.to(kind)

    @classmethod
    def register(cls, config_class: type[Config], model_class: type, exist_ok: bool = False) -> None:
        """Let configs of a program's own class be loaded as its own model, in this process.

        Raises:
            InvalidInput: the model has another config class, or the config a model already.
        """
        wanted = getattr(model_class, "config_class", config_class)
        if wanted is not None and wanted.__name__ != config_class.__name__:
            raise InvalidInput(
                f"{model_class.__name__}.config_class is {wanted.__name__}, not {config_class.__name__}."
            )
        if not exist_ok and not is_open(config_class) and knows(cls.__name__, config_class):
            raise InvalidInput(f"{config_class.__name__} has a model here; exist_ok=True replaces it.")
        add(MODELS.setdefault(cls.__name__, {}), config_class, model_class, exist_ok)

    @classmethod
    def class_for(cls, config: Config) -> type[PreTrainedModel]:
        """Return the class for a config. Raises UnknownModel where its family has no head of this kind."""
        from .class_factory import choose_class

        own = MODELS.get(cls.auto or cls.__name__, {}).get(type(config))
        if own is not None:
            return own
        if config.model_type in OWN_CONFIGS and config.model_type not in DERIVED:
            raise UnknownModel(f"{cls.__name__}: no class is registered for {type(config).__name__}.")
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
