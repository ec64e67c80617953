"""Resizes embedding tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput, UnsupportedOption
from ..heads.heads import CutLanguageModel, LanguageModel
from ..nn.quantized_linear import QuantizedLinear
from ..runtime.prepare import refuse
from ..runtime.select_runner import take_idle_runner
from .base_model import BaseModel

SIZES = (
    "vocab_size",
    "decoder_vocab_size",
    "src_vocab_size",
    "tgt_vocab_size",
)  # entries of a config that tell the rows


def resize(model: BaseModel, words: int) -> None:
    """Resize all embedding tables and their bias to `words` rows; see `PreTrainedModel.resize_token_embeddings`."""
    if isinstance(words, bool) or not isinstance(words, int) or words < 1:
        raise InvalidInput(f"A model needs a whole number of words above 0, not {words!r}.")
    refuse(model, "given other word tables")
    if model.adapters is not None:
        raise InvalidInput("This model has adapters; resize its word tables before add_adapter or load_adapter.")
    old = _size(model)
    if words == old:
        return
    parts = list(_tables(model))
    for part, name in parts:
        _check(part, name, old)
    for part, name in parts:
        parameter = part._parameters[name]
        assert parameter is not None
        part._parameters[name] = nn.Parameter(resize_rows(parameter.detach(), words), parameter.requires_grad)
        for count in ("num_embeddings", "out_features"):
            if hasattr(part, count):
                setattr(part, count, words)
    take_idle_runner(model)  # whose graphs know the old size
    own = {f.name for f in fields(model.config)}
    for entry in SIZES:
        if entry in own and getattr(model.config, entry) is not None:
            model.config.__dict__[entry] = words  # layers and entry change together, here alone


def resize_rows(rows: Tensor, count: int) -> Tensor:
    """Return the first `count` rows; rows past the last are the mean of all."""
    if count <= len(rows):
        return rows[:count].clone()
    mean = rows.float().mean(0, keepdim=True).to(rows.dtype)
    return torch.cat([rows, mean.expand(count - len(rows), *rows.shape[1:])])


def _size(model: BaseModel) -> int:
    """Return the number of rows, where config and tables agree on one. Raises UnsupportedOption."""
    config: Any = model.config
    own = {f.name for f in fields(config)}
    sizes = {getattr(config, entry) for entry in SIZES if entry in own and getattr(config, entry) is not None}
    tables = {part.num_embeddings for part in model.word_tables()}
    separate_tables = not getattr(config, "share_encoder_decoder_embeddings", True) or any(
        isinstance(side := getattr(config, name), dict) and "vocab_size" in side for name in own
    )
    padded = any(isinstance(part, CutLanguageModel) for part in model.modules())
    if separate_tables or padded or len(sizes) != 1 or sizes != tables:
        raise UnsupportedOption(
            f"{type(model).__name__} has a vocabulary a side, or more rows than words; its tables keep their size."
        )
    if found := next((part for part in model.modules() if getattr(part, "looks_up_tokens", False)), None):
        raise UnsupportedOption(
            f"{type(model).__name__} computes with token ids in its {type(found).__name__}, which belongs to one "
            "vocabulary; its tables keep their size."
        )
    return int(sizes.pop())


def _tables(model: BaseModel) -> Iterator[tuple[nn.Module, str]]:
    """Yield (module, parameter name) of all parameters with a row for each token, each once."""
    heads = [part for part in model.modules() if isinstance(part, LanguageModel) and part.scores_words]
    modules = [*model.word_tables(), *(head.table for head in heads), *(head.rest for head in heads if head.rest)]
    for module in dict.fromkeys(modules):
        yield from ((module, name) for name in ("weight", "bias") if module._parameters.get(name) is not None)
    yield from ((head, "bias") for head in heads if head.bias is not None)
    carried = getattr(model.head, "carried", None)  # stored, and never added
    if isinstance(carried, nn.ParameterDict) and "bias" in carried:
        yield carried, "bias"


def _check(part: nn.Module, name: str, old: int) -> None:
    """Raise UnsupportedOption for a parameter that cannot be resized."""
    parameter = part._parameters[name]
    assert parameter is not None
    if hasattr(parameter, "device_mesh"):
        raise UnsupportedOption("The model's weights are spread over devices; resize its word tables before.")
    if parameter.shape[0] != old or isinstance(part, QuantizedLinear):
        raise UnsupportedOption(f"A word table has {parameter.shape[0]} rows, the config says {old}.")
