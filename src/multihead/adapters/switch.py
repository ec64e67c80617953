"""Change of the active adapters between two passes, for requests with different ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .state import adapter_layers


class AdapterSwitch:
    """Computes passes of a model with one of its adapters, and leaves the active ones as they were.

    It keeps the list of the model's layers, which must not change meanwhile.
    """

    def __init__(self, model: Any) -> None:
        self.known = model.adapters
        self.layers = list(adapter_layers(model))
        places = ((key, *key.replace("/", ".").rpartition(".")[::2]) for key in self.known.originals)
        self.parameters = [(key, model.get_submodule(path), leaf) for key, path, leaf in places]

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Let this adapter alone be active inside the block."""
        before = self.known.active if self.known.enabled else ()
        self._apply((name,))
        try:
            yield
        finally:
            self._apply(before)

    def _apply(self, names: tuple[str, ...]) -> None:
        for layer in self.layers:
            layer.active = tuple(name for name in names if name in layer.lora)
        copies, originals = self.known.copies, self.known.originals
        for key, module, leaf in self.parameters:
            own = (copies[name][key] for name in names if key in copies[name])
            module._parameters[leaf] = next(own, originals[key])
