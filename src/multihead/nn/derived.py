"""Tensors that follow from a module's parameters, such as weights in the order that a kernel reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor, nn

T = TypeVar("T")
PLACE = "_derived"  # attribute of a module


def derived(module: nn.Module, parameters: Sequence[Tensor | None], make: Callable[[], T]) -> T:
    """Return `make()`, computed again only when one of these parameters was changed or replaced."""
    given = [parameter for parameter in parameters if parameter is not None]
    if any(parameter.is_inference() for parameter in given):
        return make()  # such tensors do not count their changes
    state = [(parameter.data_ptr(), parameter._version, parameter.dtype) for parameter in given]
    known = vars(module).get(PLACE)
    if known is None or known[0] != state:
        known = vars(module)[PLACE] = state, make()
    return known[1]
