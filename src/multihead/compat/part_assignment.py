"""Modules of a program in the places of a model's parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from ..errors import UnsupportedOption
from ..nn.own_names import own_modules
from .assigned_parts import AssignedPart, LastResult
from .parts import Conv1DPart, LinearPart, Part, PartInfo


def unwrapped(value: Any) -> Any:
    """Return our module of a part, and a list of ours of a list of parts."""
    if isinstance(value, Part) and value.part_info.own is not None:
        return value.part_info.own
    if isinstance(value, nn.ModuleList):
        return nn.ModuleList([unwrapped(one) for one in value])
    return value


def replace_part(info: PartInfo, old: nn.Module | None, new: Any, path: str) -> None:
    """Put a program's module in the place of a part, wherever the model has it.

    Raises:
        UnsupportedOption: no module here computes what the part does, or no module takes its place.
    """
    model = info.model()
    if model is None or old is None or not isinstance(new, nn.Module):
        raise UnsupportedOption(f"{path} cannot be {new!r:.60}: only a module takes the place of a part.")
    if isinstance(old, (LinearPart, Conv1DPart)):
        count = _assign_linear(model, old, new)
    elif isinstance(old, Part):
        count = _replace(model, old.own_module("be replaced"), unwrapped(new))
    else:
        count = _replace_assigned(model, old, new) or _replace(model, old, unwrapped(new))
    if not count:
        raise UnsupportedOption(f"{path} cannot be replaced: it is no longer in the model, or tied to another part.")


def _inner(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield (module, name, inner module) of all modules of a model, in ours alone."""
    for _, module in own_modules(model):
        yield from ((module, name, inner) for name, inner in list(module._modules.items()) if inner is not None)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> int:
    places = [(module, name) for module, name, inner in _inner(model) if inner is old]
    for module, name in places:
        module._modules[name] = new
    return len(places)


def _assign_linear(model: nn.Module, part: Part, new: nn.Module) -> int:
    """Let our modules that a linear part is made of compute their share of a program's module."""
    pieces = part.part_info.tensors["weight"].pieces
    if any(piece.index is not None or not isinstance(piece.owner, nn.Linear) for piece in pieces):
        return 0
    shared, count = LastResult(len(pieces)), 0
    for piece in pieces:
        count += _replace(model, piece.owner, AssignedPart(new, piece.source, shared))
    return count


def _replace_assigned(model: nn.Module, old: nn.Module, new: nn.Module) -> int:
    """Replace a module that a program has assigned before; a part of the model brings our modules back."""
    places = [x for x in _inner(model) if isinstance(x[2], AssignedPart) and x[2].part is old]
    own = new.part_info.tensors["weight"].pieces if isinstance(new, (LinearPart, Conv1DPart)) else ()
    for module, name, assigned in places:
        piece = next((piece for piece in own if piece.source == assigned.source), None)
        if piece is None:
            assigned.part = new
        else:
            module._modules[name] = piece.owner
    return len(places)
