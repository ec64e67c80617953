"""Decides by a checkpoint's tensors which embedding tables are tied, and under which names they are stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ..checkpoints.folder import Checkpoint
from ..checkpoints.key_map import FallbackNames, StoredLocation, parameter_owners
from ..config import Config
from ..errors import UnsupportedConfig, warn
from ..models.common.architecture import equal_tensors
from ..models.common.registry import architecture
from ..nn.own_names import own_parameters
from .base_model import BaseModel


def resolve_config(config: Config, before: Config, checkpoint: Checkpoint) -> tuple[Config, Config | None]:
    """Return the config completed from the tensors, and `before` where a user unties tables that it ties."""
    unties = before.tie_word_embeddings and not config.tie_word_embeddings
    config = architecture(config.model_type).resolve_config(config, checkpoint.tensors)
    return (config.changed(tie_word_embeddings=False), before) if unties else (config, None)


def build_as_stored(
    config: Config,
    make: Callable[[Config], BaseModel],
    checkpoint: Checkpoint,
    dtype: torch.dtype | None,
    tied_config: Config | None = None,
) -> tuple[BaseModel, FallbackNames]:
    """Return a model whose tables are tied as far as their stored tensors are equal, and fallback names of tied ones.

    A table that the config ties and the checkpoint keeps with other numbers is untied, with a warning, and so says the
    model's config from then on.

    Args:
        make: a model of a config, without memory.
        dtype: that the weights get; numbers that differ in a wider one alone are no other numbers.
        tied_config: the checkpoint's own config, which ties what a user wants apart: each table begins as a copy.
    """
    model, stored = make(config), checkpoint.tensors
    if checkpoint.layout != "huggingface" or not (tied_config or _may_be_untied(model, stored)):
        return model, ()
    looser = [make(known) for known in model.architecture.untied_configs(config)]
    for chosen in (model, *looser):
        lost = sorted(set(_conflicting(chosen, looser[-1], stored, dtype))) if looser else []
        if lost:
            continue
        if chosen is not model:
            names = ", ".join(sorted(set(_conflicting(model, looser[-1], stored, dtype))))
            warn(
                f"{checkpoint.source}: the config ties {names} to other word vectors, but both are stored, with "
                "different values: they are not tied, and a saved model says so."
            )
        shared = (
            [] if tied_config is None else [make(config.changed(tie_word_embeddings=tied_config.tie_word_embeddings))]
        )
        return chosen, tuple(_fallback_names(chosen, (model, *looser, *shared), stored))
    raise UnsupportedConfig(
        f"{checkpoint.source} stores {', '.join(lost)} beside the word vectors that the config ties them to, with "
        f"different values, and {type(config).model_type} has no model with both."
    )


def _may_be_untied(model: BaseModel, stored: Mapping[str, Tensor]) -> bool:
    """True if the checkpoint holds a tensor that the model ignores, or lacks an embedding table."""
    names, where = model.keys.current_names(stored), model.keys.locations(model, stored)
    words = {id(table.weight) for table in model.word_tables()}
    tables = [path for path, _, _, parameter in parameter_owners(model) if id(parameter) in words and path in where]
    unread = any(re.search(pattern, name) for pattern in model.keys.ignored for name in names)
    return unread or any(where[path].keys[0] not in names for path in tables)


def same_parameters(model: BaseModel, other: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield (path of a parameter in `other`, path of the same parameter in `model`)."""
    own = {id(parameter): path for path, _, _, parameter in parameter_owners(model)}
    named = dict(own_parameters(model, remove_duplicate=False))
    for path, _, _, _ in parameter_owners(other):
        if path in named:
            yield path, own[id(named[path])]


def _conflicting(
    model: BaseModel, loosest: BaseModel, stored: Mapping[str, Tensor], dtype: torch.dtype | None
) -> Iterator[str]:
    """Yield names of stored tensors that `loosest` reads and `model` wrongly takes for copies of others."""
    names = model.keys.current_names(stored)
    here, there = model.keys.locations(model, stored), loosest.keys.locations(loosest, stored)
    for path, own in same_parameters(model, loosest):
        one, other = there.get(path), here.get(own)
        if one is None or other is None or one.keys == other.keys:
            continue
        if all(key in names for key in (*one.keys, *other.keys)):
            first, second = (
                where.source.read_stored(*(stored[names[key]] for key in where.keys)) for where in (one, other)
            )
            if not equal_tensors(first, second, dtype):
                yield names[one.keys[0]]


def _fallback_names(
    model: BaseModel, variants: tuple[BaseModel, ...], stored: Mapping[str, Tensor]
) -> Iterator[tuple[str, str]]:
    """Yield paths whose own stored name is missing, with the name that one of `variants` gives them."""
    names, own = model.keys.current_names(stored), model.keys.locations(model, stored)
    absent = {path for path, where in own.items() if where.keys[0] not in names}
    for variant in variants if absent else ():
        places: Mapping[str, StoredLocation] = variant.keys.locations(variant, stored)
        pairs = [pair[::-1] for pair in same_parameters(model, variant)] + list(same_parameters(variant, model))
        for ours, theirs in pairs:
            if ours in absent and theirs in places and places[theirs].keys[0] in names:
                yield ours, places[theirs].keys[0]
