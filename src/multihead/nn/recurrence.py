"""Recurrent layers that replace self-attention in a decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache.layer_cache import StateLayerCache
from .forward_context import ForwardContext
from .weights import Linear


class SSRU(nn.Module):
    """Simpler simple recurrent unit (Kim et al., 2019, aclanthology.org/D19-5632).

    f = sigmoid(x Wf + bf); cell = f * cell + (1 - f) * (x W); the output is relu(cell).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.forget, self.value = Linear(width, width), Linear(width, width, bias=False)

    def memory(self) -> StateLayerCache:
        return StateLayerCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: StateLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        keep = torch.sigmoid(self.forget(x))  # (tokens, width)
        new = (1 - keep) * self.value(x)  # (tokens, width)
        state = memory.read(context) if memory is not None else None
        if state is None:
            state = x.new_zeros(len(context.runs), x.shape[1])  # (sequences, width)
        if context.runs.stride == 1:  # one token a sequence: rows of tokens are rows of states
            cells = state = keep * state + new
        else:
            cells, state = self._scan(keep, new, state, context)
        if memory is not None:
            memory.write(context, state)
        return F.relu(cells)

    def _scan(self, keep: Tensor, new: Tensor, state: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Return all cell states (tokens, width) and the last of each sequence (sequences, width)."""
        rows, real = context.cached(self, lambda: context.runs.padded(new.device))  # (sequences, longest) each
        steps = []
        for place in range(context.runs.longest):
            at, is_token = rows[:, place], real[:, place, None]  # (sequences,), (sequences, 1)
            # A sequence that has ended keeps its state.
            state = torch.where(is_token, keep[at] * state + new[at], state)
            steps.append(state)
        return torch.stack(steps, 1)[real] if steps else new, state  # (sequences, longest, width) to (tokens, width)
