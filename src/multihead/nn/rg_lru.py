"""Real-gated linear recurrent unit of Griffin (De et al., 2024, arXiv:2402.19427)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activations import activation
from .forward_context import ForwardContext
from .state_space import ShortConvolution, StateSpaceCache, from_grid, to_grid
from .weights import Linear

STRENGTH = 8.0  # the paper's constant c: exponent of the decay of an open gate
BLOCK = 64  # places that are scanned at once
STEEPEST = 1000.0  # bound of the square root's derivative


class BoundedRoot(torch.autograd.Function):
    """Square root whose derivative is bounded, since that of a small number overflows in half precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sqrt()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return gradient / (4.0 * x).clamp(min=1.0 / STEEPEST**2).sqrt()


class HeadLinear(nn.Module):
    """Linear layer of each head alone: (tokens, heads, width) to the same."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, width, width))  # (heads, in, out)
        self.bias = nn.Parameter(torch.empty(heads, width))

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        parameter.normal_(0.0, std) if name == "weight" else parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias[:, None], x.transpose(0, 1), self.weight).transpose(0, 1)


class RealGatedRecurrence(nn.Module):
    """Recurrent block of Griffin: out(act(gate(x)) * recurrence(convolution(into(x)))).

    h = a * h + sqrt(1 - a^2) * i * x, where a gate decides the decay a of each channel, and another its input i.

    Args:
        inner: channels. heads: blocks of channels whose gates depend on each other. act: of the output's gate.
    """

    def __init__(self, width: int, inner: int, heads: int, *, kernel: int, act: str) -> None:
        super().__init__()
        self.gate, self.into, self.out = Linear(width, inner), Linear(width, inner), Linear(inner, width)
        self.convolution = ShortConvolution(inner, kernel, bias=True)
        self.input_gate, self.decay_gate = (HeadLinear(heads, inner // heads) for _ in range(2))
        self.decay = nn.Parameter(torch.empty(inner))
        self.heads, self.act = heads, activation(act)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize decays between 0.9 and 0.999, as in the paper."""
        squares = torch.empty_like(parameter).uniform_(0.9**2, 0.999**2)
        parameter.copy_((-0.5 * squares.log()).expm1().log())

    def memory(self) -> StateSpaceCache:
        return StateSpaceCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: StateSpaceCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        u = self.convolution(self.into(x), context, memory)  # (tokens, inner)
        heads = u.unflatten(-1, (self.heads, -1))  # (tokens, heads, inner / heads)
        passes, closes = (torch.sigmoid(gate(heads)).flatten(1) for gate in (self.input_gate, self.decay_gate))
        logs = -STRENGTH * closes * F.softplus(self.decay)  # (tokens, inner), logarithms of decays
        first = (context.positions == 0)[:, None]  # a sequence's first token enters whole
        share = torch.where(first, 1.0, BoundedRoot.apply(1 - torch.exp(2 * logs)))
        # In float32, since rounding errors of a state add up over the sequence.
        new, logs = (u * passes * share.to(u.dtype)).float(), logs.float()
        states = self._scan(new, torch.exp(logs), context, memory)  # (tokens, inner)
        return self.out(states.to(x.dtype) * self.act(self.gate(x)))

    def _scan(self, new: Tensor, keep: Tensor, context: ForwardContext, memory: StateSpaceCache | None) -> Tensor:
        """Return the states after each token, (tokens, inner), of inputs and decays (tokens, inner)."""
        state = memory.state.read(context) if memory is not None else None
        if state is None:
            state = new.new_zeros(len(context.runs), new.shape[1])  # (sequences, inner)
        if context.runs.stride == 1:  # one token a sequence: rows of tokens are rows of states
            states = state = keep * state + new
        else:
            # (sequences, longest, inner) each; a place without a token keeps the state
            new, keep = to_grid(new, context), 1 - to_grid(1 - keep, context)
            rows = []
            for place in range(new.shape[1]):
                state = keep[:, place] * state + new[:, place]  # (sequences, inner)
                rows.append(state)
            states = from_grid(torch.stack(rows, 1), context) if rows else new.flatten(0, 1)
        if memory is not None:
            memory.state.write(context, state)
        return states
