"""A view of a checkpoint's tensors: some of them, under other names, or parts of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from ..kernels.quantization.coded_tensor import derive


class SelectedTensors(Mapping[str, Tensor]):
    """Tensors of a checkpoint under other names. Nothing is read before an item is.

    Args:
        parts: (new name, stored name, function of the stored tensor or None to take it whole) of each. A new name of
            several stored tensors is that of their rows, in the order of their names, to which the first's function
            is applied.
    """

    def __init__(
        self, stored: Mapping[str, Tensor], parts: Iterable[tuple[str, str, Callable[[Tensor], Tensor] | None]]
    ) -> None:
        self._stored = stored
        self._parts: dict[str, tuple[list[str], Callable[[Tensor], Tensor] | None]] = {}
        for name, source, read in sorted(parts, key=lambda part: part[1]):
            self._parts.setdefault(name, ([], read))[0].append(source)

    def __getitem__(self, name: str) -> Tensor:
        sources, read = self._parts[name]
        tensors = [self._stored[source] for source in sources]
        tensor = tensors[0] if len(tensors) == 1 else derive(lambda *rows: torch.cat(rows), *tensors)
        return tensor if read is None else derive(read, tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
