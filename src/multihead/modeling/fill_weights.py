"""Fills a model built without memory with a checkpoint's tensors; a missing head is initialized at random."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.folder import Checkpoint
from ..checkpoints.key_map import FallbackNames, KeyMap, join_head, parameter_owners
from ..errors import CheckpointMismatch, UnsupportedConfig, UnsupportedOption, read_errors, warn
from ..nn.empty import empty_weights
from ..nn.weights import initialize_parameter
from .base_model import BaseModel

LARGEST_DRAWN = 2**28  # numbers of a drawn parameter: far more than heads have


class NewWeights(UserWarning):
    """The checkpoint lacks weights of the model, such as those of a head; they are initialized at random."""


def fill(
    model: BaseModel,
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    reshape: bool = False,
    new: str | None = None,
    ignore: str | None = None,
    fallback_names: FallbackNames = (),
    even: bool = False,
    keep_heads: bool = False,
) -> None:
    """Fill a model built without memory with the tensors of a checkpoint.

    Args:
        reshape: draws a head's parameters again whose tensors have other shapes. new: pattern of parameters that may be
            newly initialized. ignore: pattern of stored tensors that are not wanted. fallback_names: see `KeyMap`.
        even: in one precision, where `dtype` names none.
        keep_heads: initializes an optional head that the checkpoint lacks, for a program's own model that calls it.

    Raises:
        CheckpointMismatch: the tensors do not fit. UnsupportedConfig: a drawn parameter would be huge.
    """
    for pattern in (new, ignore):
        check_pattern(pattern)
    keys = replace(model.keys, fallback_names=fallback_names)
    if checkpoint.layout != "huggingface":
        if model.head_suffix in model.architecture.backbone_variants:
            raise UnsupportedOption(f"A {checkpoint.layout} file is loaded whole here, not as {type(model).__name__}.")
        layout = model.architecture.layouts[checkpoint.layout](model.config)
        keys = join_head(
            layout, {} if any(k.startswith("/") for k in layout.rows) else model._head.rows if model._head else {}
        )
    if not keep_heads:
        drop_absent_parts(model, keys, checkpoint.tensors)
    if ignore is not None:
        keys = replace(keys, ignored=(*keys.ignored, ignore))
    initialized: list[str] = []
    whole = type(model).__name__ in (model.config.architectures or []) and not reshape and not keep_heads

    def initialize_missing(path: str, owner: nn.Module, leaf: str, parameter: Tensor) -> bool:
        if path.partition(".")[0] in keys.own and not whole:
            owner._parameters[leaf] = nn.Parameter(parameter.to(device, dtype), requires_grad=parameter.requires_grad)
            initialized.append(path)
            return True
        if not (path.startswith("head.") and not whole) and not (new and re.search(new, path)):
            return False
        check_size(path, parameter, checkpoint)
        value = torch.empty(parameter.shape, dtype=dtype or torch.float32, device=device)
        initialize_parameter(owner, leaf, value, getattr(model.config, "initializer_range", 0.02))
        owner._parameters[leaf] = nn.Parameter(value)
        where = model.keys.locate(path, model.keys.prefix)
        initialized.extend(where[1] if where else [path])
        return True

    try:
        with read_errors(checkpoint.source):
            keys.load(
                model,
                checkpoint.tensors,
                source=checkpoint.source,
                dtype=dtype,
                device=device,
                initialize=initialize_missing,
                known=lambda: other_heads(model, keys),
            )
    except CheckpointMismatch as error:
        raise add_advice(error, reshape) from None
    if even and dtype is None:
        unify_dtypes(model)
    model.new_weights = tuple(sorted(initialized))
    if initialized:
        warn_new_weights(model, f"{checkpoint.source} has")


def check_pattern(pattern: str | None) -> None:
    """Raise UnsupportedOption for an invalid regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise UnsupportedOption(f"{pattern!r} is no regular expression: {error}.") from error


def warn_new_weights(model: Any, source: str) -> None:
    """Warn of the weights that `source` lacks."""
    names = ", ".join(model.new_weights)
    warn(
        f"{type(model).__name__}: {source} no weights for {names}; they were newly initialized and need training.",
        NewWeights,
    )


def add_advice(error: CheckpointMismatch, reshape: bool) -> CheckpointMismatch:
    """Return the error with advice, where only a head or only unused tensors do not fit."""
    advice = ""
    if not reshape and error.misshapen and all(name.startswith("head.") for name in error.misshapen):
        advice = "For a fresh head with other labels, pass ignore_mismatched_sizes=True."
    elif error.unexpected and not error.missing and not error.misshapen:
        advice = 'To load without tensors that are not wanted, name them: ignore=r"^their[.]prefix".'
    return CheckpointMismatch(
        error.source,
        missing=error.missing,
        unexpected=error.unexpected,
        misshapen=error.misshapen,
        mistyped=error.mistyped,
        advice=advice,
    )


def drop_absent_parts(model: BaseModel, keys: KeyMap, stored: Mapping[str, Tensor]) -> None:
    """Remove the optional head and the unused part of a head, where the checkpoint lacks them."""
    if model._head is not None and model._head.optional and not has_head(keys, stored):
        model.head = None
    if not has_unused_part(model, keys, stored):
        del model.head.carried  # type: ignore[union-attr]


def has_unused_part(model: BaseModel, keys: KeyMap, stored: Mapping[str, Tensor]) -> bool:
    """True if the checkpoint holds the head's unused part, or there is none."""
    if getattr(model.head, "carried", None) is None:
        return True
    wanted = keys.locations(model, stored).items()
    names = [key for path, where in wanted if path.startswith("head.carried.") for key in where.keys]
    return any(name in keys.current_names(stored) for name in names)


def has_head(keys: KeyMap, stored: Mapping[str, Tensor]) -> bool:
    """True if the checkpoint holds a tensor of the head, or the head needs none."""
    head = KeyMap({k: v for k, v in keys.rows.items() if k.startswith("head.")}, keys.prefix, keys.prefixes)
    return not head.rows or any(re.search(pattern, name) for pattern in head.patterns() for name in stored)


def other_heads(model: BaseModel, keys: KeyMap) -> Iterable[str]:
    """Return patterns of the tensors of other heads of the family that the config allows."""
    patterns: list[str] = []
    family, config = model.architecture, model.config
    with empty_weights():
        for suffix, make in family.heads.items():
            if make is not None and suffix not in family.backbone_variants:
                try:
                    head = make(config, family.build(config))
                except UnsupportedConfig:  # of this head: no checkpoint of the config has it
                    continue
                patterns += KeyMap(head.rows, model.body_keys.prefix, ("",)).patterns()
    return patterns


def unify_dtypes(model: nn.Module) -> None:
    """Convert weights of several dtypes to the widest of them, which represents all exactly."""
    held = [row for row in parameter_owners(model) if not getattr(row[1], "widened", ())]
    kinds = {parameter.dtype for *_, parameter in held}
    if len(kinds) < 2:
        return
    widest = reduce(torch.promote_types, kinds)
    for _, owner, leaf, parameter in held:
        if parameter.dtype != widest:
            owner._parameters[leaf] = nn.Parameter(parameter.to(widest), requires_grad=parameter.requires_grad)


def check_size(path: str, parameter: Tensor, checkpoint: Checkpoint) -> None:
    """Raise UnsupportedConfig for a missing parameter of absurd size, before it gets memory."""
    if parameter.numel() > LARGEST_DRAWN:
        raise UnsupportedConfig(
            f"{checkpoint.source} has no weights for {path}, which would be newly initialized with shape "
            f"{list(parameter.shape)}: {parameter.numel():,} numbers. Check the sizes and labels in its config.json."
        )
