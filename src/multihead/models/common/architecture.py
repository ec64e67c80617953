"""Everything that the library knows about one model family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...checkpoints.key_map import KeyMap
from ...config import Config
from ...heads.decoder_inputs import ShiftRight, after_start
from ...heads.head_types import HEAD_TYPES, HeadType
from ...heads.heads import Head
from ...nn.ragged import Layout

Build = Callable[[Any], nn.Module]
Keys = Callable[[Any], KeyMap]
MakeHead = Callable[[Any, Any], Head]  # (config, backbone) -> head
Pack = Callable[[Tensor, Layout], Any]
UntiedConfigs = Callable[[Any], Sequence[Any]]  # config -> configs
ResolveConfig = Callable[[Any, Mapping[str, Tensor]], Any]  # (config, stored tensors) -> config
ViewTensors = Callable[[Any, Mapping[str, Tensor]], Mapping[str, Tensor]]  # (config, stored tensors) -> tensors


def config_as_given(config: Any, stored: Mapping[str, Tensor]) -> Any:
    """Return the config unchanged."""
    return config


def tensors_as_stored(config: Any, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors unchanged."""
    return stored


def tie_if_stored_equal(scores: str, *words: str) -> ResolveConfig:
    """Return a function that ties the output embeddings where a checkpoint has no `scores` tensor, or an equal one.

    Older configs of T5's families say that the two are not tied; the tensors are right.

    Args:
        words: names that the input embeddings may have.
    """

    def resolve(config: Any, stored: Mapping[str, Tensor]) -> Any:
        found = next((stored[name] for name in words if name in stored), None)
        if found is None or config.tie_word_embeddings or config.words_apart:
            return config  # a file with names of its own, or nothing to tie
        own = scores in stored and not equal_tensors(stored[scores], found)
        return config if own else config.changed(tie_word_embeddings=True)

    return resolve


def untied_config(config: Any) -> Sequence[Any]:
    """Return the config with an output embedding table of its own, or nothing where it has one already."""
    return (config.changed(tie_word_embeddings=False),) if config.tie_word_embeddings else ()


def equal_tensors(one: Tensor, other: Tensor, dtype: torch.dtype | None = None) -> bool:
    """True if two tensors are equal as `dtype`, or as the narrower of their own dtypes."""
    if one.shape != other.shape:
        return False
    if dtype is None:
        dtype = min((one.dtype, other.dtype), key=lambda kind: kind.itemsize)
    return one.data_ptr() == other.data_ptr() or torch.equal(one.to(dtype), other.to(dtype))


@dataclass(frozen=True)
class Architecture:
    """A model family: how its modules are built from a config, and where a checkpoint stores their parameters.

    A head suffix is the end of a class name: `ForMaskedLM` of `BertForMaskedLM`, `Model` of `BertModel`.

    Args:
        name: stem of the family's class names (`Bert`).
        build: makes the backbone. keys: makes its key map.
        heads: makes the head of each head suffix; None for a backbone without one.
        layouts: key maps of other file formats, by the name of the layout (`gguf`, `marian`).
        foreign_config: config.json entries from the metadata of such a file, by layout.
        head_types: head types that differ from those of `HEAD_TYPES`, by head suffix.
        backbone_variants: `build` and `keys` of heads that need another backbone (an encoder or a decoder alone).
        inputs: the family's own inputs in addition to the usual ones, by name: packs the user's tensor for
            `ForwardContext.extra_inputs`.
        reads_positions: False where no layer reads a token's position but by its distance to others, as in the
            reference, whose `forward` takes no `position_ids`.
        memory_names: the family's own names of the arguments `past_key_values` and `use_cache`.
        methods: additional methods of the family's classes, by name.
        prefix: text that text-generation puts before each prompt, unless the call or the checkpoint names another.
        shift_right: makes decoder_input_ids of labels.
        source_as_target: head suffixes of encoder-decoders whose decoder reads the shifted source unless it is given
            decoder_input_ids.
        pair_config: combines an encoder's and a decoder's configs.
        untied_configs: the config with ever fewer tied embedding tables, the last with none.
        resolve_config: completes a config by what only the checkpoint's tensors tell (tied embeddings).
        view_tensors: shows a checkpoint's tensors otherwise, before any is looked up (those of one of several tasks).
    """

    name: str
    config: type[Config]
    build: Build
    keys: Keys
    heads: Mapping[str, MakeHead | None]
    layouts: Mapping[str, Keys] = field(default_factory=dict)
    foreign_config: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    head_types: Mapping[str, HeadType] = field(default_factory=dict)
    backbone_variants: Mapping[str, tuple[Build, Keys]] = field(default_factory=dict)
    inputs: Mapping[str, Pack] = field(default_factory=dict)
    reads_positions: bool = True
    memory_names: tuple[str, str] = ("past_key_values", "use_cache")
    methods: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    prefix: str = ""
    shift_right: ShiftRight = after_start
    source_as_target: tuple[str, ...] = ()
    pair_config: Callable[[Config, Config], Config] | None = None
    untied_configs: UntiedConfigs = untied_config
    resolve_config: ResolveConfig = config_as_given
    view_tensors: ViewTensors = tensors_as_stored

    def derive(self, name: str, config: type[Config], build: Build, **changes: Any) -> Architecture:
        """Return a family made of this one's parts and `changes`; other file formats are not inherited."""
        own = {"layouts": {}, "foreign_config": {}, **changes}
        return replace(self, name=name, config=config, build=build, **own)

    def head_type(self, suffix: str) -> HeadType:
        """Return the head type of a class with this head suffix."""
        return self.head_types[suffix] if suffix in self.head_types else HEAD_TYPES[suffix]
