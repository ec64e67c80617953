"""Whole word tables in an adapter's file, which belong to a base whose vocabulary has another size by now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.key_map import parameter_owners
from ..errors import UnsupportedOption, warn
from .layers import Adapted

ROOT = "base_model.model."  # the model, in a name of the peft library
APART = "Load it with tie_word_embeddings=False, which gives the scores a table of their own."
CHANGED = "base_layer.weight"  # a table beside an adapter's matrices for it
MERGE = f"{APART} Or merge it with the peft library (merge_and_unload) and load what save_pretrained then writes."


def of_scores(key: str) -> bool:
    """True for a stored name of word scores, which a model with tied tables has not."""
    return any(part in ("lm_head", "decoder") for part in key.removeprefix(ROOT).split(".")[:3])


def tables(model: Any, prefix: str, stored: Mapping[str, Tensor]) -> dict[str, str]:
    """Names in a file of whole word tables and scores, and the paths of the parameters that they are.

    Raises:
        UnsupportedOption: the file has scores alone of a model whose one table serves as both.
    """
    known, found = sides(model), {}
    for path, _, _, parameter in parameter_owners(model):
        where = model.keys.locate(path, prefix) if id(parameter) in known else None
        names = [] if where is None else [ROOT + where[1][0], f"{ROOT}{where[1][0].removesuffix('weight')}{CHANGED}"]
        for key in names:  # the second only where it is no copy of the base's own
            if key in stored and (key == names[0] or not is_copy(stored[key], parameter)):
                found[key] = path
    scores = f"{ROOT}lm_head.weight"  # a table that serves as both is written under both names
    if len(found) == len(known) == 1 and scores in stored:
        found[scores] = next(iter(found.values()))
    if not found and len(known) == 1 and model.get_output_embeddings() is not None and scores in stored:
        raise UnsupportedOption(f"{scores} is of the scores alone, and {_shared(model)}. {MERGE}")
    return found


def fit(model: Any, found: Mapping[str, str], stored: Mapping[str, Tensor]) -> int:
    """Gives the model as many words as the tables of a file have; how many it had.

    Raises:
        UnsupportedOption: the file has two tables where the model has one that serves as both.
    """
    before = int(model.get_input_embeddings().num_embeddings)
    sizes = {len(stored[key]) for key in found}
    if len(found) > len({*found.values()}):
        first, second = (stored[key] for key in found)
        if first.shape != second.shape or not torch.equal(first, second):
            raise UnsupportedOption(f"{' and '.join(found)} differ, and {_shared(model)}. {MERGE}")
    if len(sizes) == 1 and sizes != {before} and model.adapters is None:
        warn(f"The adapter brings a vocabulary of {max(sizes):,} words; the base had {before:,}, and is resized.")
        model.resize_token_embeddings(max(sizes))
    return before


def _shared(model: Any) -> str:
    return f"{type(model).__name__} has one table for words and scores"


def restore(model: Any, size: int) -> None:
    """Undoes `fit`."""
    if model.adapters is None and model.get_input_embeddings().num_embeddings != size:
        model.resize_token_embeddings(size)


def give(model: Any, found: Mapping[str, str], stored: Mapping[str, Tensor]) -> None:
    """Makes a file's tables the model's own."""
    with torch.no_grad():
        for key, path in found.items():
            home, _, leaf = path.rpartition(".")
            model.get_submodule(home)._parameters[leaf].copy_(stored[key])  # which an adapted layer shows changed
    model.resized = model.resized or bool(found)


def written(model: Any) -> dict[str, Tensor]:
    """The tables that a file must hold, since no checkpoint of the base has them; none of a base that is as it was."""
    if not model.resized:
        return {}
    known, out = sides(model), {}
    for path, _, _, parameter in parameter_owners(model):
        where = model.keys.locate(path, model.keys.prefix) if id(parameter) in known else None
        if where is not None:
            name = where[1][0]
            name = f"{name.removesuffix('weight')}{CHANGED}" if isinstance(known[id(parameter)], Adapted) else name
            out[ROOT + name] = parameter.detach().cpu().contiguous().clone()
    return out


def sides(model: Any) -> dict[int, Any]:
    """Map the id of each parameter of the word table and the word scores to the layer that holds it."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = [(layer.own_weight() if isinstance(layer, Adapted) else layer.weight, layer) for layer in layers if layer]
    return {id(weight): layer for weight, layer in reversed(weights)}


def is_copy(stored: Tensor, own: Tensor) -> bool:
    """Whether a tensor of a file is a parameter of the base, as exact as that is."""
    return stored.shape == own.shape and torch.equal(stored.to(own.device, own.dtype), own)
