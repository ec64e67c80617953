"""A view of a checkpoint's tensors: some of them, under other names, or parts of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor


class SelectedTensors(Mapping[str, Tensor]):
    """Tensors of a checkpoint under other names. Nothing is read before an item is.

    Args:
        parts: (new name, stored name, function of the stored tensor or None to take it whole) of each.
    """

    def __init__(
        self, stored: Mapping[str, Tensor], parts: Iterable[tuple[str, str, Callable[[Tensor], Tensor] | None]]
    ) -> None:
        self._stored = stored
        self._parts = {name: (source, read) for name, source, read in parts}

    def __getitem__(self, name: str) -> Tensor:
        source, read = self._parts[name]
        tensor = self._stored[source]
        return tensor if read is None else read(tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
