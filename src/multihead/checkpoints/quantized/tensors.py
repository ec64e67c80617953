"""The tensors of a quantized checkpoint under the names of an unquantized one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ...errors import CorruptFile, UnsupportedConfig
from .deferred_tensor import DeferredTensor, StoredWeight
from .format import StoredFormat


class QuantizedTensors(Mapping[str, Tensor]):
    """Tensors of a quantized checkpoint. Nothing is kept of what is read.

    Args:
        stored: the file's tensors. format: of the quantized ones. source: of the file, for messages.

    Attributes:
        dtype: of dequantized weights.
        deferred: True to return weights in their codes (`DeferredTensor`), False to dequantize those that are read.
        weights: name of each quantized weight -> part -> stored name.
    """

    def __init__(self, stored: Mapping[str, Tensor], format: StoredFormat, source: str) -> None:
        self.stored, self.format, self.source = stored, format, source
        self.dtype, self.deferred = torch.float32, False
        self.weights = self._find_weights()
        parts = {name for weight in self.weights.values() for name in weight.values()}
        unread = [re.compile(pattern) for pattern in format.unread]
        plain = [name for name in stored if name not in parts and not any(p.search(name) for p in unread)]
        self._names = dict.fromkeys([*plain, *self.weights])

    def _find_weights(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        rows = [(re.compile(pattern), weight, part) for pattern, weight, part in self.format.names]
        for name in self.stored:
            for pattern, weight, part in rows:
                if pattern.search(name):
                    found.setdefault(pattern.sub(weight, name), {})[part] = name
                    break
        for name, parts in found.items():
            if name in self.stored:
                parts["codes"] = name
        weights = {name: parts for name, parts in found.items() if self.format.is_weight(parts)}
        if not weights:
            raise CorruptFile(
                f"{self.source}: config.json says that weights are quantized ({self.format.method}), and none is. "
                "Remove the entry quantization_config, or get the files again."
            )
        for name, parts in weights.items():
            if self.format.skips(name.removesuffix(".weight")):
                raise UnsupportedConfig(
                    f"{self.source}: {next(iter(parts.values()))} is quantized, and config.json leaves its module in "
                    "floating-point numbers (quantization_config)."
                )
        return weights

    def plain_dtype(self) -> torch.dtype:
        """Return the dtype of the first floating-point tensor that is not quantized; bfloat16 without one."""
        plain = (self.stored[name].dtype for name in self if name not in self.weights)
        return next((dtype for dtype in plain if dtype.is_floating_point and dtype.itemsize > 1), torch.bfloat16)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.weights:
            return self.stored[name]
        parts = {part: self.stored[key] for part, key in self.weights[name].items()}
        weight = StoredWeight(self.format, name, parts, self.source)
        return DeferredTensor.of(weight) if self.deferred else weight.numbers(self.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
