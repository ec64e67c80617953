"""Methods of every model class for adapters."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..errors import InvalidInput
from ..hub import Want
from ..hub.options import DownloadOptions
from ..nn.quantized_linear import QuantizedLinear
from . import files, state
from .config import LoraConfig


class AdapterMixin(nn.Module):
    """Mixin of a model that takes adapters.

    A model may have several adapters, each under a name. The base's parameters are frozen while there is one. Adding or
    loading an adapter makes it the only active one.
    """

    name_or_path: str
    new_weights: tuple[str, ...]  # stored names of the parameters that a checkpoint lacked
    resized: bool  # True if the vocabulary is not the checkpoint's
    adapters: state.Adapters | None
    merged: tuple[str, ...]  # sources of adapters that were merged into the weights

    def __init__(self) -> None:
        super().__init__()
        self.name_or_path, self.new_weights, self.adapters = "", (), None
        self.resized, self.merged = False, ()

    @property
    def keys(self) -> KeyMap:
        raise NotImplementedError

    def add_adapter(self, config: LoraConfig, adapter_name: str = "default") -> None:
        """Add a new adapter, to be trained.

        Modules that the checkpoint lacked (a new head) are trained and saved with the adapter, like those that the
        config names. Values are drawn from torch's generator, in the order of modules.

        Raises:
            InvalidInput: the name is taken, or the config's names mean nothing in this model.
            UnsupportedConfig, UnsupportedOption: what the config asks for is not computed here.
        """
        if not isinstance(config, LoraConfig):
            kind = f"{type(config).__module__.partition('.')[0]}.{type(config).__name__}"
            raise InvalidInput(f"add_adapter needs a multihead.LoraConfig, not a {kind}.")
        base = config.base_model_name_or_path or self.name_or_path or None
        state.add_adapter(self, replace(config, base_model_name_or_path=base), adapter_name, self.keys.prefix)

    def load_adapter(
        self,
        name: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        **options: Any,
    ) -> None:
        """Add a saved adapter, from a folder or the hub. `options` are those of `DownloadOptions`.

        Raises:
            CheckpointMismatch: it does not fit this model. UnsupportedConfig: a kind that is not computed here.
            ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile, UnsafeFile: the files.
        """
        place = DownloadOptions.pop_from(options)
        if options:
            raise InvalidInput(f"load_adapter takes no {', '.join(options)}.")
        files.load(self, place.resolve(name, Want.CONFIG, Want.WEIGHTS), adapter_name, is_trainable)
        self._adapters().sources[adapter_name] = str(name)

    def save_adapter(self, folder: str | os.PathLike[str], adapter_name: str | None = None) -> None:
        """Write adapter_config.json and adapter_model.safetensors, as the peft library reads them.

        Args:
            adapter_name: None for the only active one.

        Raises:
            InvalidInput: no such adapter, or several are active and none was named; the folder cannot be written.
        """
        known = self._adapters()
        names = known.active if len(known.configs) > 1 else tuple(known.configs)
        if adapter_name is None and len(names) != 1:
            listed = ", ".join(map(repr, known.configs))
            raise InvalidInput(f"Say which adapter to save: adapter_name is one of {listed}.")
        files.save(self, Path(folder), known.check_known(names[0] if adapter_name is None else adapter_name))

    def set_adapter(self, adapter_name: str | Sequence[str]) -> None:
        """Activate one adapter, or several, whose changes add up. The others stay in the model.

        Raises:
            InvalidInput: no such adapter, or two that replace the same parameter.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        self._adapters()
        if not names:
            raise InvalidInput("set_adapter needs a name; to compute without adapters, call disable_adapters().")
        state.activate(self, names)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter. With the last one, the base becomes trainable again. Raises InvalidInput."""
        self._adapters()
        state.remove_adapter(self, adapter_name)

    def disable_adapters(self) -> None:
        """Compute as the base model does, until `enable_adapters`."""
        self._enable(False)

    def enable_adapters(self) -> None:
        """Compute with the active adapters again, after `disable_adapters`."""
        self._enable(True)

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """Compute as the base model does inside of a `with` block."""
        before = self._adapters().enabled
        self._enable(False)
        try:
            yield
        finally:
            self._enable(before)

    @property
    def active_adapters(self) -> list[str]:
        """Names of the adapters whose changes are computed."""
        return list(self.adapters.active) if self.adapters is not None and self.adapters.enabled else []

    @property
    def adapter_sources(self) -> tuple[str, ...]:
        """Sources of the merged and the active adapters, in this order: a file's name, or the adapter's without one."""
        sources = self.adapters.sources if self.adapters is not None else {}
        return (*self.merged, *(sources.get(name, name) for name in self.active_adapters))

    def merge_adapters(self, *, dequantize: bool = False) -> None:
        """Merge the active adapters into the base's weights, in float32, and remove all adapters.

        Args:
            dequantize: dequantizes a quantized base first.

        Raises:
            UnsupportedOption: the base is quantized. InvalidInput: there is no adapter.
        """
        known = self._adapters()
        merged = (*self.merged, *(known.sources.get(name, name) for name in known.active))
        state.merge_adapters(self, dequantize)
        self.merged = merged

    def trainable_parameters(self) -> tuple[int, int]:
        """Return the numbers of trainable and of all parameters, quantized ones included."""
        coded = sum(m.in_features * m.out_features for m in self.modules() if isinstance(m, QuantizedLinear))
        parameters = list(self.parameters())
        return sum(p.numel() for p in parameters if p.requires_grad), coded + sum(p.numel() for p in parameters)

    def print_trainable_parameters(self) -> None:
        """Print the numbers of trainable and of all parameters."""
        learning, everything = self.trainable_parameters()
        print(f"{learning:,} of {everything:,} parameters learn ({100 * learning / everything:.4f} %).")

    def _adapters(self) -> state.Adapters:
        if self.adapters is None:
            raise InvalidInput(f"This {type(self).__name__} has no adapter; add_adapter or load_adapter gives it one.")
        return self.adapters

    def _enable(self, enabled: bool) -> None:
        self._adapters().enabled = enabled
        state.apply_active(self)
