"""Output classes: dataclasses that also index like a tuple, look up like a dict, and unpack."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from ..errors import MissingHead

if TYPE_CHECKING:
    from torch import Tensor

    from ..nn.cache.store import BatchCache


@dataclass
class Output:
    """Base of all outputs: fields that are None take no part in indexing, unpacking or `keys`."""

    def keys(self) -> list[str]:
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]

    @property
    def mems(self) -> Any:
        """XLNet's name of `past_key_values`."""
        return self.get("past_key_values")

    def values(self) -> list[Any]:
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.keys()]

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            return default
        return getattr(self, name)

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not None, in order."""
        return tuple(self.values())

    @overload
    def __getitem__(self, key: str | int) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self:
            raise KeyError(f"{type(self).__name__} has {', '.join(self.keys())}, not {key!r}.")
        return getattr(self, key)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())

    def __len__(self) -> int:
        return len(self.keys())


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
