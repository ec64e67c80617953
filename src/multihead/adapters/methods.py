"""What a model does with adapters: the methods that every model class has."""

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


class Adaptable(nn.Module):
    """A model that takes adapters.

    Several may be in it, each under a name. The base's parameters are frozen while there is one; an adapter that was
    just added or loaded is the only active one.
    """

    name_or_path: str
    drawn: tuple[str, ...]  # stored names of the parameters that a checkpoint lacked
    resized: bool  # whether the vocabulary is not that of the checkpoint
    adapters: state.Adapters | None
    merged: tuple[str, ...]  # where the adapters came from that are part of the weights now

    def __init__(self) -> None:
        super().__init__()
        self.name_or_path, self.drawn, self.adapters = "", (), None
        self.resized, self.merged = False, ()

    @property
    def keys(self) -> KeyMap:
        raise NotImplementedError

    def add_adapter(self, config: LoraConfig, adapter_name: str = "default") -> None:
        """Adds a new adapter, to be trained.

        Modules that the checkpoint lacked (a new head) are trained and saved with it, like those that the config asks
        for. Values are drawn from torch's generator, in the order of modules.

        Raises:
            InvalidInput: the name is taken, or the config's names mean nothing in this model.
            UnsupportedConfig, UnsupportedOption: what the config asks for is not computed here.
        """
        if not isinstance(config, LoraConfig):
            kind = f"{type(config).__module__.partition('.')[0]}.{type(config).__name__}"
            raise InvalidInput(f"add_adapter needs a multihead.LoraConfig, not a {kind}.")
        base = config.base_model_name_or_path or self.name_or_path or None
        state.install(self, replace(config, base_model_name_or_path=base), adapter_name, self.keys.prefix)

    def load_adapter(
        self,
        name: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        **options: Any,
    ) -> None:
        """Adds a saved adapter, from a folder or the hub. `options` are those of `DownloadOptions`.

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
        """Writes adapter_config.json and adapter_model.safetensors, as the peft library reads them.

        Args:
            adapter_name: None for the only active one.

        Raises:
            InvalidInput: no such adapter, or several are active and none was named; the folder cannot be written.
        """
        known = self._adapters()
        names = known.active if len(known.configs) > 1 else tuple(known.configs)
        if adapter_name is None and len(names) != 1:
            told = ", ".join(map(repr, known.configs))
            raise InvalidInput(f"Say which adapter to save: adapter_name is one of {told}.")
        files.save(self, Path(folder), known.known(names[0] if adapter_name is None else adapter_name))

    def set_adapter(self, adapter_name: str | Sequence[str]) -> None:
        """Makes one adapter active, or several, whose changes add up; the others are kept.

        Raises:
            InvalidInput: no such adapter, or two that replace the same parameter.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        self._adapters()
        if not names:
            raise InvalidInput("set_adapter needs a name; to compute without adapters, call disable_adapters().")
        state.activate(self, names)

    def delete_adapter(self, adapter_name: str) -> None:
        """Takes an adapter out; with the last one the base can be trained again. Raises InvalidInput."""
        self._adapters()
        state.remove(self, adapter_name)

    def disable_adapters(self) -> None:
        """Computes as the base does, until `enable_adapters`."""
        self._enable(False)

    def enable_adapters(self) -> None:
        """Undoes `disable_adapters`."""
        self._enable(True)

    @contextmanager
    def adapters_disabled(self) -> Iterator[None]:
        """Inside, the model computes as its base does."""
        before = self._adapters().enabled
        self._enable(False)
        try:
            yield
        finally:
            self._enable(before)

    @property
    def active_adapters(self) -> list[str]:
        """Names of the adapters that change what is computed."""
        return list(self.adapters.active) if self.adapters is not None and self.adapters.enabled else []

    @property
    def adapter_sources(self) -> tuple[str, ...]:
        """Sources of the merged and the active adapters, in this order: a file's name, or the adapter's without one."""
        told = self.adapters.sources if self.adapters is not None else {}
        return (*self.merged, *(told.get(name, name) for name in self.active_adapters))

    def merge_adapters(self, *, dequantize: bool = False) -> None:
        """Writes the active adapters into the base, computed in float32, and takes all adapters out.

        Args:
            dequantize: turns a quantized base into one of full precision first.

        Raises:
            UnsupportedOption: the base is quantized. InvalidInput: there is no adapter.
        """
        known = self._adapters()
        merged = (*self.merged, *(known.sources.get(name, name) for name in known.active))
        state.merge(self, dequantize)
        self.merged = merged

    def trainable_parameters(self) -> tuple[int, int]:
        """(numbers that learn, all numbers); what is quantized counts too."""
        coded = sum(m.in_features * m.out_features for m in self.modules() if isinstance(m, QuantizedLinear))
        parameters = list(self.parameters())
        return sum(p.numel() for p in parameters if p.requires_grad), coded + sum(p.numel() for p in parameters)

    def print_trainable_parameters(self) -> None:
        """Prints how many numbers learn."""
        learning, everything = self.trainable_parameters()
        print(f"{learning:,} of {everything:,} parameters learn ({100 * learning / everything:.4f} %).")

    def _adapters(self) -> state.Adapters:
        if self.adapters is None:
            raise InvalidInput(f"This {type(self).__name__} has no adapter; add_adapter or load_adapter gives it one.")
        return self.adapters

    def _enable(self, enabled: bool) -> None:
        self._adapters().enabled = enabled
        state.apply(self)
