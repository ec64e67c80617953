"""Storage of a checkpoint's tensors: which formats each layer keeps, and how many bits a weight takes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .folder import Checkpoint

LAYER = re.compile(r"^(.*?\.)??\w+\.\d+(?=\.)")  # `model.layers.3.`, `blk.3.`


@dataclass
class LayerStorage:
    """Tensors of a layer, or of all that is in none.

    Args:
        name: of the layer, such as `model.layers.3`; empty for what is in none. weights: their number. bytes: of them.
        kinds: format -> numbers.
    """

    name: str
    weights: int = 0
    bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def bits(self) -> float:
        """Bits of a weight, with its share of scales."""
        return self.bytes * 8 / max(1, self.weights)


def storage_by_layer(checkpoint: Checkpoint) -> list[LayerStorage]:
    """Return the storage of each layer in the file's order, what is in no layer last. No weight is decoded.

    Raises:
        CorruptFile: quantized tensors that do not fit together.
    """
    found: dict[str, LayerStorage] = {}
    for name, kind, weights, size in _tensors(checkpoint):
        match = LAYER.match(name)
        layer = match[0] if match else ""
        row = found.setdefault(layer, LayerStorage(layer))
        row.weights += weights
        row.bytes += size
        row.kinds[kind] += weights
    others = found.pop("", None)
    return [*found.values(), *([others] if others else [])]


def _tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, str, int, int]]:
    """Yield name, format, numbers and bytes of each tensor; of a quantized weight those of all its parts."""
    if checkpoint.layout == "gguf":
        from .gguf_blocks import GgufTensors

        assert isinstance(checkpoint.tensors, GgufTensors)
        for name, entry in checkpoint.tensors.container.tensors.items():
            yield name, entry.type.name, math.prod(entry.shape), entry.size
        return
    quantized = checkpoint.quantized
    stored: Mapping[str, Tensor] = checkpoint.tensors if quantized is None else quantized.stored
    for name in checkpoint.tensors if quantized is None else quantized:
        if quantized is None or name not in quantized.weights:
            tensor = stored[name]
            yield name, str(tensor.dtype).removeprefix("torch."), tensor.numel(), tensor.nbytes
            continue
        parts = {part: stored[key] for part, key in quantized.weights[name].items()}
        shape = quantized.format.codes(name, parts).shape
        yield name, quantized.format.method, math.prod(shape), sum(x.nbytes for x in parts.values())
