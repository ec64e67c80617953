"""What the library knows of one family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...checkpoints.key_map import KeyMap
from ...config import Config
from ...heads.head_types import KINDS, Kind
from ...heads.heads import Head
from ...heads.shift_labels import Shift, after_start
from ...nn.ragged import Layout

Build = Callable[[Any], nn.Module]
Keys = Callable[[Any], KeyMap]
MakeHead = Callable[[Any, Any], Head]  # (config, backbone) -> head
Pack = Callable[[Tensor, Layout], Any]
Loosen = Callable[[Any], Sequence[Any]]  # config -> configs
Settle = Callable[[Any, Mapping[str, Tensor]], Any]  # (config, stored tensors) -> config


def as_said(config: Any, stored: Mapping[str, Tensor]) -> Any:
    return config


def tied_as_stored(scores: str, *words: str) -> Settle:
    """Ties word scores to word embeddings where a checkpoint has no `scores` tensor, or an equal one.

    Older configs of T5's families say that they are not; the tensors are right.

    Args:
        words: names that the word embeddings have.
    """

    def settled(config: Any, stored: Mapping[str, Tensor]) -> Any:
        found = next((stored[name] for name in words if name in stored), None)
        if found is None or config.tie_word_embeddings or config.words_apart:
            return config  # a file with names of its own, or nothing to tie
        own = scores in stored and not same(stored[scores], found)
        return config if own else config.changed(tie_word_embeddings=True)

    return settled


def untied(config: Any) -> Sequence[Any]:
    """The config of a model whose word scores have a table of their own, where this one's have not."""
    return (config.changed(tie_word_embeddings=False),) if config.tie_word_embeddings else ()


def same(one: Tensor, other: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether two tensors are equal as `dtype`, or as the narrower of their own."""
    if one.shape != other.shape:
        return False
    if dtype is None:
        dtype = min((one.dtype, other.dtype), key=lambda kind: kind.itemsize)
    return one.data_ptr() == other.data_ptr() or torch.equal(one.to(dtype), other.to(dtype))


@dataclass(frozen=True)
class Architecture:
    """A family: from its config to modules, and from a checkpoint's names to theirs.

    Args:
        name: stem of the family's class names (`Bert`).
        heads: end of a class name (`ForMaskedLM`, `Model`) -> its head; None for a backbone without one.
        layouts: key maps of other file formats, by the name of the layout (`gguf`, `marian`).
        foreign_config: config.json entries from the metadata of such a file, by layout.
        kinds: where a class of this family is of another kind than its name says elsewhere.
        bare: builds the backbone of some heads in another way, by end of class name (a decoder alone).
        inputs: a family's own inputs beside the usual ones, by name: packs the user's tensor for
            `ForwardContext.extra_inputs`.
        memory_names: the family's own names of the arguments `past_key_values` and `use_cache`.
        methods: more methods of the family's classes, by name.
        shift: makes a decoder's input of what it shall say.
        echoes: ends of encoder-decoder classes whose target, when none is given, is the source itself, shifted.
        paired: the config of a pair, from its sides' configs.
        apart: configs of the same model with fewer tables of words tied, the last with none.
        settled: the config with what only the checkpoint's tensors tell (whether words are tied).
    """

    name: str
    config: type[Config]
    build: Build
    keys: Keys
    heads: Mapping[str, MakeHead | None]
    layouts: Mapping[str, Keys] = field(default_factory=dict)
    foreign_config: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    bare: Mapping[str, tuple[Build, Keys]] = field(default_factory=dict)
    inputs: Mapping[str, Pack] = field(default_factory=dict)
    memory_names: tuple[str, str] = ("past_key_values", "use_cache")
    methods: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    shift: Shift = after_start
    echoes: tuple[str, ...] = ()
    paired: Callable[[Config, Config], Config] | None = None
    apart: Loosen = untied
    settled: Settle = as_said

    def relative(self, name: str, config: type[Config], build: Build, **changes: Any) -> Architecture:
        """A family put together of this one's parts, with `changes`; in its own format alone if they name no others."""
        own = {"layouts": {}, "foreign_config": {}, **changes}
        return replace(self, name=name, config=config, build=build, **own)

    def kind(self, end: str) -> Kind:
        """The kind of the class with this end."""
        return self.kinds[end] if end in self.kinds else KINDS[end]
