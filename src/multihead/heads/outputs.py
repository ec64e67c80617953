"""Output classes: dataclasses that are dicts of their fields, and index like tuples."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from torch import Tensor
from torch.utils import _pytree

from ..errors import MissingHead

if TYPE_CHECKING:
    from ..nn.cache.store import BatchCache


class Output(OrderedDict[str, Any]):
    """Base of all outputs: a dict of the fields that are not None, and each of them an attribute.

    A number or a slice indexes their values as a tuple. Iteration is over the names, as that of any dict. Subclasses
    are dataclasses; torch's pytrees know them. A first field alone may be a mapping or pairs of names and values, as
    `type(outputs)(pairs)` of programs that move batches gives them.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        name = f"{cls.__module__}.{cls.__qualname__}"
        _pytree.register_pytree_node(
            cls,
            lambda output: (list(output.values()), list(output)),
            partial(_rebuild, cls),
            serialized_type_name=name,
        )

    def __init__(self, *pairs: Any, **entries: Any) -> None:
        if type(self) is not Output:
            raise TypeError(f"{type(self).__name__} is no dataclass: decorate it with dataclasses.dataclass.")
        super().__init__()
        for name, value in dict(*pairs, **entries).items():
            self[name] = value

    def __post_init__(self, *_: Any) -> None:
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        first, others = getattr(self, names[0], None), [getattr(self, name, None) for name in names[1:]]
        pairs = _pairs(first, names) if all(other is None for other in others) else None
        if pairs is not None:
            object.__setattr__(self, names[0], None)
        for name, value in zip(names, [first, *others], strict=True) if pairs is None else pairs.items():
            setattr(self, name, value)

    @property
    def mems(self) -> Any:
        """XLNet's name of `past_key_values`."""
        return self.get("past_key_values")

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not None, in order."""
        return tuple(self.values())

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self:
            raise KeyError(f"{type(self).__name__} has {', '.join(self)}, not {key!r}.")
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        object.__setattr__(self, key, value)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name in self.__dataclass_fields__:  # type: ignore[attr-defined]
            if value is not None:
                super().__setitem__(name, value)
            elif name in self:
                super().__delitem__(name)

    def __delitem__(self, key: Any) -> NoReturn:
        raise TypeError(f"Nothing is taken out of a {type(self).__name__}; to_tuple() and dict(...) make copies.")

    def pop(self, *args: Any, **options: Any) -> NoReturn:
        """Raise TypeError: outputs keep what they have."""
        self.__delitem__(None)

    setdefault = update = popitem = clear = pop

    def __reduce__(self) -> Any:
        return _restore, (type(self), dict(self), dict(vars(self)))


def _pairs(value: Any, names: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the fields that a first field holds by their names, instead of a value of its own; None for a value."""
    if isinstance(value, Tensor) or not hasattr(value, "__iter__"):
        return None
    items = list(value.items()) if isinstance(value, Mapping) else list(value)
    if not items or not all(isinstance(item, (list, tuple)) and len(item) == 2 for item in items):
        return None
    return dict(items) if all(isinstance(name, str) and name in names for name, _ in items) else None


def _rebuild(cls: type[Output], values: Any, names: Any) -> Output:
    return _restore(cls, dict(zip(names, values, strict=True)), {})


def _restore(cls: type[Output], entries: Mapping[str, Any], attributes: Mapping[str, Any]) -> Output:
    """Return an output with these entries, without its constructor, which may need others."""
    output = cls.__new__(cls)
    fields = getattr(cls, "__dataclass_fields__", {}).values()
    output.__dict__.update({each.name: None for each in fields if each._field_type is dataclasses._FIELD})  # type: ignore[attr-defined]
    for name, value in entries.items():
        output[name] = value
    output.__dict__.update(attributes)
    return output


SCORES = ("logits", "start_logits", "end_logits", "prediction_logits", "loss")


@dataclass
class HiddenOutput(Output):
    """Hidden states of a backbone.

    Args:
        last_hidden_state: (batch, length, width), zero where the batch is padded.
        pooler_output: (batch, width), where the family pools its first token.
        hidden_states: the embeddings and each layer's states. attentions: (batch, heads, queries, keys) a layer.
        router_logits: (batch * length, experts) of each router, zero where the batch is padded.
        advice: which class to load for scores.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    past_key_values: BatchCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    router_logits: tuple[Tensor, ...] | None = None
    advice: dataclasses.InitVar[str] = ""

    def __post_init__(self, advice: str) -> None:
        self._advice = advice

    def __getattr__(self, name: str) -> Any:
        return _refused(self, name)


@dataclass
class Seq2SeqHiddenOutput(Output):
    """Hidden states of an encoder and a decoder; shapes as in `HiddenOutput`."""

    last_hidden_state: Tensor
    past_key_values: BatchCache | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    advice: dataclasses.InitVar[str] = ""

    def __post_init__(self, advice: str) -> None:
        self._advice = advice

    def __getattr__(self, name: str) -> Any:
        return _refused(self, name)


def _refused(output: Output, name: str) -> Any:
    """Raise MissingHead for logits that a backbone without a head does not give."""
    if name in SCORES:
        advice = output.__dict__.get("_advice", "")
        raise MissingHead(f"A bare model gives hidden states, no {name}. {advice}".rstrip())
    raise AttributeError(f"{type(output).__name__} has no {name!r}; it has {', '.join(output.keys())}.")


@dataclass
class ScoresOutput(Output):
    """Logits (batch, length, vocabulary or labels), or (batch, labels) for whole sequences.

    Args:
        aux_loss: load-balancing loss of routed experts, which `loss` has a part of.
        router_logits: (batch * length, experts) of each router, zero where the batch is padded.
    """

    loss: Tensor | None = None
    aux_loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: BatchCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    router_logits: tuple[Tensor, ...] | None = None


@dataclass
class SpanOutput(Output):
    """Logits (batch, length) of an answer's first and last token; padding has the lowest value of the dtype."""

    loss: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    past_key_values: BatchCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class PreTrainingOutput(Output):
    """Token logits (batch, length, vocabulary) and sequence logits: next sentence (BERT), sentence order (ALBERT)."""

    loss: Tensor | None = None
    prediction_logits: Tensor | None = None
    seq_relationship_logits: Tensor | None = None
    sop_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class Seq2SeqScoresOutput(Output):
    """Logits of an encoder-decoder (batch, target length, vocabulary)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: BatchCache | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None


@dataclass
class Seq2SeqSpanOutput(Output):
    """Logits of an encoder-decoder (batch, length) for an answer's first and last token."""

    loss: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    past_key_values: BatchCache | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None


# An encoder-decoder shows more than a class of the same kind with one side.
BOTH_SIDED: Mapping[type[Output], type[Output]] = {
    HiddenOutput: Seq2SeqHiddenOutput,
    ScoresOutput: Seq2SeqScoresOutput,
    SpanOutput: Seq2SeqSpanOutput,
}
