"""Reasons why a fast path cannot serve a model, which name the layer."""

from __future__ import annotations

from torch import nn

from ..nn.hooks import is_hooked
from ..nn.own_names import own_modules
from .layer_spec import CLASSES, LayerSpec, attribute_names, classes_unchanged, describe


def hooked_layer(model: nn.Module) -> str:
    """Say which module has hooks or a replaced method; empty where none has."""
    name = next((name for name, layer in own_modules(model) if is_hooked(layer)), None)
    return "" if name is None else f"{name or 'the model itself'} has hooks or a replaced method"


def undescribed_layer(name: str, layer: nn.Module) -> str:
    """Say which layer, of a module and its parts, has no spec, and why; empty where all have one."""
    if not classes_unchanged():
        return "a method of a layer class was replaced"
    spec = describe(layer)
    if spec is not None:
        inner = (undescribed_layer(f"{name}.{part}", layer.get_submodule(part)) for part in spec.parts)
        return "" if spec.complete else next(filter(None, inner), "")
    kind = type(layer).__name__
    if is_hooked(layer):
        return f"{name} ({kind}) has hooks or a replaced method"
    if type(layer) not in CLASSES:
        return f"{name} is a {kind}, which this runner does not compute"
    extra = sorted(attribute_names(layer) - CLASSES[type(layer)].names)
    return f"{name} ({kind}) has the attribute {', '.join(map(repr, extra))}, which this runner does not compute"


def all_options(spec: LayerSpec) -> set[str]:
    """Return the names of the options that a layer and its parts set to other values than the neutral ones."""
    return set(spec.options).union(*(all_options(part) for part in spec.parts.values() if part is not None))
