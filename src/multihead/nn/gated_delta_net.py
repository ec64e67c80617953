"""Gated DeltaNet: a mixer with the gated delta rule (Yang et al., 2024, arXiv:2412.06464)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnsupportedConfig
from ..kernels.ops import backend
from .activations import ACTIVATIONS, activation
from .delta_rule import CHANNEL_CHUNK, CHUNK, Chunks, delta_chunks, delta_step, unit
from .forward_context import ForwardContext
from .hooks import is_hooked
from .norms import RMSNorm
from .state_space import ShortConvolution, StateSpaceCache
from .weights import Linear


class GatedRMSNorm(RMSNorm):
    """RMS norm of each head, multiplied by an activated gate.

    Args:
        act: of the gate, which is computed in float32. wide: the weight multiplies in float32, too.
    """

    def __init__(self, width: int, eps: float, act: str = "silu", *, wide: bool = False) -> None:
        super().__init__(width, eps)
        self.act, self.wide = activation(act), wide

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
        """Normalize (tokens, heads, width) and multiply by gates (tokens, heads, width)."""
        weight, wide = (self.weight.float(), x.float()) if self.wide else (self.weight, x)
        normed = backend(wide).rms_norm(wide, weight, self.eps)
        return (normed * self.act(gate.float())).to(x.dtype)


FORWARDS = ShortConvolution.forward, GatedRMSNorm.forward  # as kernels compute them


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
        mixed, gate, rates = self.qkv(x), self.gate(x), self.rates(x)
        if memory is not None and context.runs.stride == 1:  # one token a sequence
            y = self._kernel_step(mixed, gate, rates, context, memory)
            if y is not None:
                return self.output(y)
        mixed = self.act(self.convolution(mixed, context, memory))
        q, k, v = mixed.float().split(self.parts, -1)
        # (tokens, key heads, key width) twice, (tokens, heads, value width)
        q, k, v = (unit(q.unflatten(-1, (-1, self.key_width))), unit(k.unflatten(-1, (-1, self.key_width))),
                   v.unflatten(-1, (-1, self.value_width)))  # fmt: skip
        write, time = rates.float().chunk(2, -1)  # (tokens, heads) each
        decay = -torch.exp(self.decay.float()) * F.softplus(time + self.step.float())
        y = read_sequences(
            q * self.key_width**-0.5, k, v, decay, torch.sigmoid(write) * self.strength, context, memory
        )  # (tokens, heads, value width)
        gate = gate.unflatten(-1, (-1, self.value_width))
        return self.output(self.norm(y.to(x.dtype), gate).flatten(-2))  # (tokens, width)

    def _kernel_step(
        self, mixed: Tensor, gate: Tensor, rates: Tensor, context: ForwardContext, memory: StateSpaceCache
    ) -> Tensor | None:
        """Return outputs (tokens, heads * value width) of one token a sequence; None where no kernel computes them."""
        inputs, states = memory.inputs.in_place(context), memory.state.in_place(context)
        if inputs is None or states is None or not self._plain or (kernels := backend(mixed)).name == "torch":
            return None
        return kernels.delta_step(mixed, gate, rates, inputs[0], *states, self.kernel_weights())

    @property
    def _plain(self) -> bool:
        """True if kernels may compute the convolution and the norm: neither is hooked, replaced or of another kind."""
        parts = self.convolution, self.norm
        if tuple(type(part).forward for part in parts) != FORWARDS or any(map(is_hooked, parts)):
            return False
        return self.convolution.bias is None and not self.norm.wide

    def kernel_weights(self) -> dict[str, Any]:
        """Return what `Backend.delta_step` needs of the weights."""
        names = {function: name for name, function in reversed(ACTIVATIONS.items())}
        kernel, channels = self.convolution.weight.shape[1], self.convolution.weight.shape[0]
        with torch.no_grad():
            return {
                "taps": self.convolution.weight.float().t().contiguous(),
                "decay": -torch.exp(self.decay.float()),
                "step": self.step.float().contiguous(),
                "norm": self.norm.weight.float().contiguous(),
                "heads": len(self.decay),
                "key_heads": self.parts[0] // self.key_width,
                "key_width": self.key_width,
                "value_width": self.value_width,
                "kernel": kernel,
                "channels": channels,
                "norm_eps": self.norm.eps,
                "strength": self.strength,
                "act": names.get(self.act, ""),
                "gate_act": names.get(self.norm.act, ""),
            }


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
