"""Gated DeltaNet: a mixer with the gated delta rule (Yang et al., 2024, arXiv:2412.06464)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnsupportedConfig
from ..kernels.ops import backend
from .activations import activation
from .delta_rule import CHANNEL_CHUNK, CHUNK, Chunks, delta_chunks, delta_step, unit
from .forward_context import ForwardContext
from .norms import RMSNorm
from .state_space import ShortConvolution, StateSpaceCache
from .weights import Linear


class GatedRMSNorm(RMSNorm):
    """RMS norm of each head, multiplied by an activated gate.

    Args:
        act: of the gate, which is computed in float32.
    """

    def __init__(self, width: int, eps: float, act: str = "silu") -> None:
        super().__init__(width, eps)
        self.act = activation(act)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
        """Normalize (tokens, heads, width) and multiply by gates (tokens, heads, width)."""
        normed = backend(x).rms_norm(x, self.weight, self.eps)
        return (normed * self.act(gate.float())).to(x.dtype)


class GatedDeltaNet(nn.Module):
    """Mixer whose heads keep a matrix each, written and forgotten by the gated delta rule.

    Args:
        key_heads: of queries and keys; each serves heads / key_heads heads of values.
        key_width, value_width: of a head. norm_eps: of the gated norm of a head's output.
        kernel: of the short convolution over queries, keys and values. act: after it.
        strength: largest share of what a key holds that a token replaces; above 1, the transition of the state can
            have negative eigenvalues (arXiv:2411.12537).
    """

    unpacked: ClassVar = ("rates",)  # few outputs, which decide over the state

    def __init__(
        self,
        width: int,
        heads: int,
        key_heads: int,
        key_width: int,
        value_width: int,
        *,
        kernel: int,
        norm_eps: float,
        act: str = "silu",
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        if heads % key_heads:
            raise UnsupportedConfig(f"{heads} heads of values cannot share {key_heads} heads of keys evenly.")
        keys, values = key_heads * key_width, heads * value_width
        self.qkv = Linear(width, 2 * keys + values, bias=False)
        self.gate, self.rates = Linear(width, values, bias=False), Linear(width, 2 * heads, bias=False)
        self.convolution = ShortConvolution(2 * keys + values, kernel, bias=False)
        self.decay, self.step = nn.Parameter(torch.empty(heads)), nn.Parameter(torch.empty(heads))  # (heads,) each
        self.norm, self.output = GatedRMSNorm(value_width, norm_eps), Linear(values, width, bias=False)
        self.parts, self.key_width, self.value_width = (keys, keys, values), key_width, value_width
        self.act, self.strength = activation(act), strength

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize decays to the logarithms of numbers from 0.01 to 16, and steps to 1."""
        if name == "decay":
            parameter.uniform_(0.01, 16.0).log_()
        else:
            parameter.fill_(1.0)

    def memory(self) -> StateSpaceCache:
        return StateSpaceCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: StateSpaceCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        mixed = self.act(self.convolution(self.qkv(x), context, memory))
        q, k, v = mixed.float().split(self.parts, -1)
        # (tokens, key heads, key width) twice, (tokens, heads, value width)
        q, k, v = (unit(q.unflatten(-1, (-1, self.key_width))), unit(k.unflatten(-1, (-1, self.key_width))),
                   v.unflatten(-1, (-1, self.value_width)))  # fmt: skip
        write, time = self.rates(x).float().chunk(2, -1)  # (tokens, heads) each
        decay = -torch.exp(self.decay.float()) * F.softplus(time + self.step.float())
        y = read_sequences(
            q * self.key_width**-0.5, k, v, decay, torch.sigmoid(write) * self.strength, context, memory
        )  # (tokens, heads, value width)
        gate = self.gate(x).unflatten(-1, (-1, self.value_width))
        return self.output(self.norm(y.to(x.dtype), gate).flatten(-2))  # (tokens, width)


def read_sequences(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    beta: Tensor,
    context: ForwardContext,
    memory: StateSpaceCache | None,
) -> Tensor:
    """Apply the gated delta rule to the pass's tokens, after those that are cached; arguments as `delta_step`."""
    state = None if memory is None else memory.state.read(context)
    if state is None:
        # (sequences, heads, key width, value width)
        state = v.new_zeros(len(context.runs), v.shape[1], k.shape[2], v.shape[2])
    if context.runs.stride == 1:  # one token a sequence
        y, state = delta_step(q, k, v, decay, beta, state)
    else:
        size = CHUNK if decay.ndim == 2 else CHANNEL_CHUNK
        chunks = context.cached((Chunks, size), lambda: Chunks.of(context.runs, size, v.device))
        y, state = delta_chunks(q, k, v, decay, beta, state, chunks)
    if memory is not None:
        memory.state.write(context, state)
    return y
