"""Recurrences that take self-attention's place in a decoder layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache.layer_cache import Slots
from .call import Call
from .weights import Linear


class SSRU(nn.Module):
    """The simpler simple recurrent unit (Kim et al., 2019, aclanthology.org/D19-5632).

    f = sigmoid(x Wf + bf); cell = f * cell + (1 - f) * (x W); the output is relu(cell).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.forget, self.value = Linear(width, width), Linear(width, width, bias=False)

    def memory(self) -> Slots:
        return Slots()

    def forward(self, x: Tensor, call: Call, memory: Slots | None) -> Tensor:
        """(tokens, width) to (tokens, width)."""
        keep = torch.sigmoid(self.forget(x))
        new = (1 - keep) * self.value(x)
        state = memory.read(call) if memory is not None else None
        if state is None:
            state = x.new_zeros(len(call.runs), x.shape[1])
        if call.runs.spacing == 1:
            cells = state = keep * state + new
        else:
            cells, state = self._scan(keep, new, state, call)
        if memory is not None:
            memory.write(call, state)
        return F.relu(cells)

    def _scan(self, keep: Tensor, new: Tensor, state: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """All cells (tokens, width) and each text's last one (texts, width), one step a place."""
        rows, real = call.once(self, lambda: call.runs.grid(new.device))
        steps = []
        for place in range(call.runs.longest):
            at, is_token = rows[:, place], real[:, place, None]
            state = torch.where(is_token, keep[at] * state + new[at], state)
            steps.append(state)
        return torch.stack(steps, 1)[real] if steps else new, state
