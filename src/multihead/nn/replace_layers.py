"""Put layers of other classes in the places of a model's layers."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def recast(layer: nn.Module, kind: type[M]) -> M:
    """Return a module of another class with a layer's attributes, parameters and hooks."""
    made = kind.__new__(kind)
    vars(made).update(vars(layer))
    for name in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
        vars(made)[name] = getattr(layer, name).copy()
    return made


class LayerPlaces:
    """Index of the parents of each layer of a model. A shared layer has several parents."""

    def __init__(self, model: nn.Module) -> None:
        self._places: defaultdict[nn.Module, list[tuple[nn.Module, str]]] = defaultdict(list)
        for parent in model.modules():
            for name, layer in parent._modules.items():
                if layer is not None:
                    self._places[layer].append((parent, name))

    def put(self, layer: nn.Module, other: M) -> M:
        """Put another layer in all places of a layer. Returns it."""
        for parent, name in self._places[layer]:
            parent._modules[name] = other
        self._places[other] = self._places.pop(layer)
        return other
