"""OwnModel: base of a program's own classes, `class Mine(PreTrainedModel)` and `class Mine(BertPreTrainedModel)`.

Such a class builds its parts itself: families' models, plain modules of torch, or both. It is called with the tensors
that its `forward` names. Its files have the families' names behind the names of their parts, and its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import InvalidInput, MissingHead, UnsupportedOption
from ..generation.config import GenerationConfig
from .base_model import BaseModel
from .own_loading import load_own
from .own_parts import family_models, stored_tensors
from .program_methods import ProgramMethods
from .saving import save_and_push


class Matches(type):
    """Metaclass whose classes say themselves what their instances are, in `matches`; subclasses are as usual."""

    matches: ClassVar[Callable[[type], bool]]

    def __instancecheck__(cls, one: Any) -> bool:
        return type.__instancecheck__(cls, one) or cls.__subclasscheck__(type(one))

    def __subclasscheck__(cls, other: type) -> bool:
        asked = vars(cls).get("matches")
        return type.__subclasscheck__(cls, other) or (asked is not None and asked.__func__(other))


class OwnModel(ProgramMethods, metaclass=Matches):
    """Base of a program's own models. `PreTrainedModel` means it, and every family's class is a subclass of it too.

    Args:
        config: of a family, or of a class derived from `PretrainedConfig`.
    """

    config_class: ClassVar[type[Config] | None] = None
    base_model_prefix: ClassVar[str] = ""  # attribute that holds the model under the head
    main_input_name: ClassVar[str] = "input_ids"
    adapters = None
    own_parts = ()  # files hold buffers too, since all parts are a program's own
    checkpoint_folder: Path | None = None
    new_weights: tuple[str, ...] = ()
    _keys_to_ignore_on_load_missing: ClassVar[list[str] | None] = None
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str] | None] = None
    _tied_weights_keys: ClassVar[Any] = None
    _no_split_modules: ClassVar[list[str] | None] = None

    @staticmethod
    def matches(other: type) -> bool:
        return issubclass(other, BaseModel)

    def __init__(self, config: Config, *inputs: Any, **options: Any) -> None:
        super().__init__()
        if type(self) is OwnModel:
            raise InvalidInput(
                "PreTrainedModel is no model by itself: derive a class that builds its parts, or use an Auto class."
            )
        if not isinstance(config, Config):
            raise InvalidInput(f"{type(self).__name__} needs a config, not a {type(config).__name__}.")
        self.config, self.name_or_path = config, config.name_or_path

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str] | None, *arguments: Any, **options: Any) -> Any:
        """Return a model with a checkpoint's weights; see `multihead.modeling.own_loading.load_own`.

        Parts that the checkpoint lacks keep the values of the constructor, with a warning that names them.
        """
        return load_own(cls, name, arguments, options)

    @classmethod
    def _from_config(cls, config: Config, **options: Any) -> Any:
        """Return a model whose weights are initialized at random."""
        kind = options.pop("dtype", options.pop("torch_dtype", None))
        model = cls(config, **options)
        return model if kind is None else model.to(kind)

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write config.json and model.safetensors; see `multihead.modeling.saving.save` for the options."""
        save_and_push(self, Path(folder), options)

    def stored_tensors(self) -> dict[str, Tensor]:
        """Return the tensors as files have them, by name."""
        return stored_tensors(self)

    @property
    def prepared(self) -> str | None:  # type: ignore[override]
        return next((part.prepared for part in family_models(self).values() if part.prepared), None)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    @property
    def base_model(self) -> nn.Module:
        """The part under the head, named by `base_model_prefix`; without one, the model itself."""
        return getattr(self, self.base_model_prefix, self) if self.base_model_prefix else self

    @cached_property
    def generation_config(self) -> GenerationConfig:
        return GenerationConfig.from_model_config(self.config)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of parameters; shared ones count once."""
        tables = {id(one.weight) for one in self.modules() if exclude_embeddings and isinstance(one, nn.Embedding)}
        counted = [p for p in self.parameters() if id(p) not in tables and (p.requires_grad or not only_trainable)]
        return sum(p.numel() for p in counted)

    def post_init(self) -> None:
        """Initialize the parts that are no family's, and tie those that `_tied_weights_keys` names."""
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize each module that is no family's with `_init_weights`, inner ones first."""
        done = {id(module) for part in self._initialized() for module in part.modules()}
        for module in reversed(list(self.modules())):
            if id(module) not in done:
                self._init_weights(module)
        self.__dict__["is_initialized"] = True
        self.tie_weights()

    def _initialized(self) -> list[nn.Module]:
        """Return inner models whose weights are initialized."""
        inner = [m for m in self.modules() if m is not self and m.__dict__.get("is_initialized")]
        return [*family_models(self).values(), *inner]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize one module in place: matrices normal, biases zero, norms one. A class may override it."""
        std = getattr(self.config, "initializer_range", None) or getattr(self.config, "init_std", None) or 0.02
        if isinstance(module, (nn.Linear, nn.Embedding, nn.modules.conv._ConvNd)):
            module.weight.normal_(0.0, std)
            if (bias := getattr(module, "bias", None)) is not None:
                bias.zero_()
            if (padding := getattr(module, "padding_idx", None)) is not None and isinstance(module, nn.Embedding):
                module.weight[padding].zero_()
        elif isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)):
            module.reset_parameters()

    def tie_weights(self, *args: Any, **options: Any) -> None:
        """Make parameters one where `_tied_weights_keys` maps a name to another's; a list names what is tied already.

        Raises:
            InvalidInput: no parameter of such a name, or another shape.
        """
        if not isinstance(self._tied_weights_keys, Mapping) or not self.config.tie_word_embeddings:
            return
        for name, source in self._tied_weights_keys.items():
            owner, leaf = self._owner(name)
            other, other_leaf = self._owner(source)
            one, value = owner._parameters[leaf], other._parameters[other_leaf]
            if one is None or value is None or one.shape != value.shape:
                raise InvalidInput(f"{type(self).__name__} ties {name} to {source}, whose shape differs.")
            owner._parameters[leaf] = value

    def _owner(self, name: str) -> tuple[nn.Module, str]:
        """Return the module and the leaf of a parameter by our name or the name in files."""
        path, _, leaf = name.rpartition(".")
        try:
            module = self.get_submodule(path)
            if leaf in module._parameters:
                return module, leaf
        except AttributeError:
            pass
        for prefix, part in family_models(self).items():
            for ours, where in part.keys.locations(part, []).items():
                if [f"{prefix}.{key}" for key in where.keys] == [name]:
                    inner, _, last = ours.rpartition(".")
                    return part.get_submodule(inner), last
        raise InvalidInput(f"{type(self).__name__} has no parameter {name!r} of its own or a family's.")

    def get_input_embeddings(self) -> nn.Module:
        """Return the input embedding table of the base model. Raises UnsupportedOption without one."""
        base: Any = self._base_with("get_input_embeddings")
        return base.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the input embedding table of the base model."""
        self._base_with("set_input_embeddings").set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module | None:
        """Return None: a class with output embeddings overrides it."""
        return None

    def resize_token_embeddings(self, new_num_tokens: int | None = None, **options: Any) -> nn.Module:
        """Change the number of tokens of the base model; a class's own head of words is its own matter.

        Raises:
            UnsupportedOption: the class has output embeddings of its own, which would keep the old number.
        """
        if self.get_output_embeddings() is not None:
            raise UnsupportedOption(f"{type(self).__name__} has output embeddings: resize them in an override.")
        return self._base_with("resize_token_embeddings").resize_token_embeddings(new_num_tokens, **options)

    def _base_with(self, method: str) -> Any:
        """Return the part that has a method: the base model, or the only family's model."""
        parts = list(family_models(self).values())
        base = self.base_model if self.base_model is not self else parts[0] if len(parts) == 1 else None
        if base is None or not hasattr(base, method):
            raise UnsupportedOption(
                f"{type(self).__name__}.{method}: no part is known to have it. Name it in base_model_prefix, or "
                "override the method."
            )
        return base

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any = None) -> None:
        """Keep only the inputs of layers in training, in the families' models; see `BaseModel`."""
        for part in family_models(self).values():
            part.gradient_checkpointing_enable(gradient_checkpointing_kwargs)

    def gradient_checkpointing_disable(self) -> None:
        """Keep all activations for the backward pass."""
        for part in family_models(self).values():
            part.gradient_checkpointing_disable()

    def set_attn_implementation(self, name: str) -> None:
        """Choose the attention implementation of the families' models."""
        for part in family_models(self).values():
            part.set_attention(name)

    def can_generate(self) -> bool:
        """Return False: the engine of `generate` runs families' models alone."""
        return False

    def generate(self, *args: Any, **options: Any) -> NoReturn:
        """Raise MissingHead."""
        raise MissingHead(
            f"{type(self).__name__} is a program's own class, and generate runs a family's model alone: derive from "
            "one, such as GPT2LMHeadModel, or decode with calls of the model."
        )

    def prepare(self, precision: str = "auto", **options: Any) -> NoReturn:
        """Raise UnsupportedOption: fast paths know families' models alone."""
        raise UnsupportedOption(f"{type(self).__name__} is a program's own class; prepare one of its families' models.")

    def forward(self, *args: Any, **inputs: Tensor | None) -> Any:
        """Raise InvalidInput: the class defines its own pass."""
        raise InvalidInput(f"{type(self).__name__} defines no forward.")


PreTrainedModel = OwnModel  # the name that programs import
