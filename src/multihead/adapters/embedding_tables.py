"""Whole embedding tables in an adapter's file: those of a base model whose vocabulary was resized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.key_map import parameter_owners
from ..errors import UnsupportedOption, warn
from .layers import AdapterLayer

ROOT = "base_model.model."  # prefix of the model in names of the peft library
UNTIE = "Load it with tie_word_embeddings=False, which gives the scores a table of their own."
BASE_LAYER = "base_layer.weight"  # the base's table beside an adapter's matrices for it
MERGE = f"{UNTIE} Or merge it with the peft library (merge_and_unload) and load what save_pretrained then writes."


def is_lm_head(key: str) -> bool:
    """True for the stored name of a language-model head's matrix. A model with tied tables has none."""
    return any(part in ("lm_head", "decoder") for part in key.removeprefix(ROOT).split(".")[:3])


def embedding_tables(model: Any, prefix: str, stored: Mapping[str, Tensor]) -> dict[str, str]:
    """Map names of whole embedding tables (and language-model heads) in a file to paths of the model's parameters.

    Raises:
        UnsupportedOption: the file has a head's matrix alone, and the model has one table for both.
    """
    known, found = table_layers(model), {}
    for path, _, _, parameter in parameter_owners(model):
        where = model.keys.locate(path, prefix) if id(parameter) in known else None
        names = [] if where is None else [ROOT + where[1][0], f"{ROOT}{where[1][0].removesuffix('weight')}{BASE_LAYER}"]
        for key in names:  # the second only where it is no copy of the base's own
            if key in stored and (key == names[0] or not is_copy(stored[key], parameter)):
                found[key] = path
    scores = f"{ROOT}lm_head.weight"  # a table that serves as both is written under both names
    if len(found) == len(known) == 1 and scores in stored:
        found[scores] = next(iter(found.values()))
    if not found and len(known) == 1 and model.get_output_embeddings() is not None and scores in stored:
        raise UnsupportedOption(f"{scores} is of the scores alone, and {_shared(model)}. {MERGE}")
    return found


def resize_to_fit(model: Any, found: Mapping[str, str], stored: Mapping[str, Tensor]) -> int:
    """Resize the model's vocabulary to that of a file's tables. Return the size before.

    Raises:
        UnsupportedOption: the file has two different tables, and the model has one for both.
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


def undo_resize(model: Any, size: int) -> None:
    """Undo `resize_to_fit`: resize the vocabulary to `size`."""
    if model.adapters is None and model.get_input_embeddings().num_embeddings != size:
        model.resize_token_embeddings(size)


def copy_tables(model: Any, found: Mapping[str, str], stored: Mapping[str, Tensor]) -> None:
    """Copy a file's tables into the model's parameters."""
    with torch.no_grad():
        for key, path in found.items():
            home, _, leaf = path.rpartition(".")
            # The attribute `weight` of a layer with an adapter is another tensor.
            model.get_submodule(home)._parameters[leaf].copy_(stored[key])
    model.resized = model.resized or bool(found)


def tables_to_save(model: Any) -> dict[str, Tensor]:
    """Return the tables that a file must hold since no checkpoint of the base has them: those of a resized model."""
    if not model.resized:
        return {}
    known, out = table_layers(model), {}
    for path, _, _, parameter in parameter_owners(model):
        where = model.keys.locate(path, model.keys.prefix) if id(parameter) in known else None
        if where is not None:
            name = where[1][0]
            if isinstance(known[id(parameter)], AdapterLayer):
                name = name.removesuffix("weight") + BASE_LAYER
            out[ROOT + name] = parameter.detach().cpu().contiguous().clone()
    return out


def table_layers(model: Any) -> dict[int, Any]:
    """Map the ids of the parameters of the embedding table and the language-model head to their layers."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = [
        (layer.base_weight() if isinstance(layer, AdapterLayer) else layer.weight, layer) for layer in layers if layer
    ]
    return {id(weight): layer for weight, layer in reversed(weights)}


def is_copy(stored: Tensor, own: Tensor) -> bool:
    """True if a tensor of a file equals a parameter of the base, in that parameter's dtype."""
    return stored.shape == own.shape and torch.equal(stored.to(own.device, own.dtype), own)
