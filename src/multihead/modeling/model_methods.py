"""Model methods other than forward: input embeddings, resizing, encoder and decoder access, gradient checkpointing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..errors import InvalidInput, UnknownPart, UnsupportedOption
from ..heads.heads import LanguageModel
from ..nn.stack import set_gradient_checkpointing
from ..runtime.prepare import products
from .program_methods import ProgramMethods

if TYPE_CHECKING:
    from ..config import Config
    from ..heads.head_types import HeadType


class ModelMethodsMixin(ProgramMethods):
    """Methods that every model has besides `forward`."""

    backbone: Any
    config: Config
    body_keys: KeyMap
    head_suffix: ClassVar[str]
    prepared: str | None
    not_in_checkpoint: ClassVar[bool] = False

    @property
    def own_parts(self) -> tuple[str, ...]:
        """Names of the modules and parameters that a subclass added in addition to its family's backbone and head."""
        return tuple(name for name in (*self._modules, *self._parameters) if name not in ("backbone", "head"))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            own = self.__dict__.get("_modules", {})
            names = None if name.startswith("_") else self._reference_names()
            if names is not None and name in names.top_names(self):
                return names.find_part(self, name)
            parts = ", ".join(part for part, module in own.items() if module is not None)
            others = "" if names is None else f" By the reference's names they are {', '.join(names.top_names(self))}."
            raise UnknownPart(
                f"{type(self).__name__} has no {name!r}. Its parts are {parts}: every family has the same names "
                f"here; print(model) shows all of them.{others}"
            ) from None

    @property
    def head_type(self) -> HeadType:
        raise NotImplementedError

    @property
    def base_model_prefix(self) -> str:
        """Name of the model under a head, "bert": `getattr(model, model.base_model_prefix)`."""
        return self.body_keys.prefix.partition(".")[0] or "backbone"

    @property
    def base_model(self) -> nn.Module:
        """The model without its head, which takes the same inputs: `model.bert`; the model itself if it has no head."""
        names, prefix = self._reference_names(), self.base_model_prefix
        return names.find_part(self, prefix) if names is not None and prefix in names.top_names(self) else self

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of parameters; shared ones count once.

        Args:
            exclude_embeddings: without the tables of embeddings, also where a head shares one.
        """
        held = 0
        if self.prepared and not only_trainable:
            heads = [part for part in self.modules() if isinstance(part, LanguageModel)]
            # a head that is tied to the embeddings packs a copy of their table
            copies = {id(head.packed) for head in heads if head.packed is not head.table}
            held = sum(part.numbers for part in products(self) if id(part) not in copies)
        tables = [part for part in self.modules() if exclude_embeddings and isinstance(part, nn.Embedding)]
        left_out = {id(p) for part in tables for p in part.parameters()}
        counted = (p for p in self.parameters() if p.requires_grad or not only_trainable)
        return held + sum(p.numel() for p in counted if id(p) not in left_out)

    def can_generate(self) -> bool:
        """True if the head scores next tokens, causally or at a mask, as `generate` needs."""
        masked = self.masked_next
        return self.head_type.generates and (self.backbone.continues if masked is None else not masked.refusal)

    def prepare_inputs_for_generation(
        self, input_ids: Any, past_key_values: Any = None, attention_mask: Any = None, **more: Any
    ) -> dict[str, Any]:
        """Return the arguments of the next pass of a program's own loop: with a cache, only the tokens after it.

        `generate` does not call it: its engine gives tokens to the layers.
        """
        read = 0 if past_key_values is None else past_key_values.get_seq_length()
        given = {"past_key_values": past_key_values, "attention_mask": attention_mask, **more}
        return {"input_ids": input_ids[:, read:], **{name: x for name, x in given.items() if x is not None}}

    def word_tables(self) -> list[nn.Embedding]:
        """Return the input embedding tables, each once: the encoder's before the decoder's."""
        return [self.backbone.embed.token]

    def get_input_embeddings(self) -> nn.Module:
        return self.word_tables()[0]

    def enable_input_require_grads(self) -> None:
        """Let the states after the embeddings have gradients, also where all weights below an adapter are frozen."""
        if "_input_gradients" not in vars(self):
            hook = self.get_input_embeddings().register_forward_hook(lambda _, __, states: states.requires_grad_())
            vars(self)["_input_gradients"] = hook

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        if hook := vars(self).pop("_input_gradients", None):
            hook.remove()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the input embedding table, in both encoder and decoder and in tied output embeddings.

        Raises:
            InvalidInput: it has another shape; `resize_token_embeddings` changes how many words there are.
        """
        old = self.word_tables()[0]
        if not isinstance(value, nn.Embedding) or value.weight.shape != old.weight.shape:
            raise InvalidInput(
                f"The table is an Embedding with a weight of {list(old.weight.shape)}, as the model's has."
            )
        for part in list(self.modules()):
            for name, child in list(part._modules.items()):
                if child is old:
                    setattr(part, name, value)

    def get_output_embeddings(self) -> nn.Module | None:
        """Return the output embedding table, the input's own where they are tied; None without one."""
        return next((part.table for part in self.modules() if isinstance(part, LanguageModel)), None)

    @property
    def is_gradient_checkpointing(self) -> bool:
        return any(getattr(part, "recompute", False) for part in self.modules())

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """Keep only the inputs of layers in training and recompute layers for gradients; see `nn.stack.Stack`.

        Args:
            gradient_checkpointing_kwargs: `use_reentrant` is taken and changes nothing: gradients are the same.

        Raises:
            UnsupportedOption: another name in them.
        """
        other = [name for name in gradient_checkpointing_kwargs or {} if name != "use_reentrant"]
        if other:
            raise UnsupportedOption(f"gradient_checkpointing_kwargs: {', '.join(other)} has no meaning here.")
        set_gradient_checkpointing(self)

    def gradient_checkpointing_disable(self) -> None:
        """Keep all activations for the backward pass."""
        set_gradient_checkpointing(self, False)

    def get_decoder(self) -> nn.Module:
        """Return the decoder's layers."""
        return self.backbone

    def _option(self, name: str, given: bool | None, usual: bool = False) -> bool:
        """Return an argument of `forward`, or its default from the config."""
        said = self.config.extra.get(name) if given is None else given
        return usual if said is None else bool(said)
