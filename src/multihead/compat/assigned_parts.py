"""Modules that a program put in the place of a part whose layout is another here: GPT-2's `c_attn`, `c_proj`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.tensor_sources import Source


class AssignedPart(nn.Module):
    """Replacement of one of our modules, which computes its part of a program's module.

    Args:
        part: the program's module, from (..., inputs) to (..., outputs) in the reference's order.
        source: of our module in the key map. shared: last result, for all modules that the part stands for.
    """

    def __init__(self, part: nn.Module, source: Source, shared: LastResult) -> None:
        super().__init__()
        self.part, self.source = part, source
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """Map (tokens, inputs) to the outputs of our module, (tokens, outputs)."""
        outputs = self.shared.result(self.part, x)
        return outputs.index_select(-1, own_outputs(self.source, outputs.shape[-1]).to(outputs.device))


class LastResult:
    """The last result of a module, for callers that ask for it one after another with the same input."""

    def __init__(self, callers: int) -> None:
        self.callers, self._left = callers, 0
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def result(self, part: nn.Module, x: Tensor) -> Tensor:
        """Return the module's result for x, computed once for all callers."""
        if self._output is None or self._input is not x or self._left <= 0:
            self._input, self._output, self._left = x, part(x), self.callers
        found = self._output
        self._left -= 1
        if not self._left:
            self._input = self._output = None  # memory is held no longer than it is needed
        return found

    def __deepcopy__(self, memo: Any) -> LastResult:
        return memo.setdefault(id(self), LastResult(self.callers))


def own_outputs(source: Source, outputs: int) -> Tensor:
    """Return which of the outputs of the reference's module one of our modules computes, in our order."""
    return source.read(torch.arange(outputs))


def join_outputs(sources: list[Source], parts: list[Tensor]) -> Tensor:
    """Return the outputs of a module of the reference (..., outputs), of those of our modules."""
    joined = torch.cat(parts, -1)
    order = torch.cat([own_outputs(source, joined.shape[-1]) for source in sources])
    return joined.index_select(-1, order.argsort().to(joined.device))
