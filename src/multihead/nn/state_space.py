"""State-space mixers: one state of a fixed size a sequence instead of keys and values.

Mamba (Gu and Dao, 2023, arXiv:2312.00752) and Mamba 2 (Dao and Gu, 2024, arXiv:2405.21060). Projections and the short
convolution work on ragged tokens; only the scan is laid out in a grid, where a place without a token takes no time and
so changes no state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnsupportedConfig
from ..kernels.ops import backend
from ..kernels.ragged import SequenceLayout
from ..kernels.state_space import ConvolutionWeights, MambaWeights
from .activations import activation
from .cache.layer_cache import StateLayerCache
from .derived import derived
from .forward_context import ForwardContext
from .hooks import is_hooked
from .weights import Linear

BLOCK = 64  # places that are scanned at once


class ConvolutionCache:
    """Cached state of a mixer with a short convolution: the last inputs of that."""

    def __init__(self) -> None:
        self.inputs = StateLayerCache()  # (sequences, kernel - 1, channels)

    def leaves(self) -> Iterator[StateLayerCache]:
        yield self.inputs


class StateSpaceCache(ConvolutionCache):
    """Cached state of a mixer: the last inputs of its convolution, and its recurrent state."""

    def __init__(self) -> None:
        super().__init__()
        self.state = StateLayerCache()  # the mixer's own

    def leaves(self) -> Iterator[StateLayerCache]:
        yield self.inputs
        yield self.state


def spaced(x: Tensor, before: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, Tensor]:
    """Lay each sequence's tokens behind what was last of them.

    Args:
        x: (tokens, ...). before: (sequences, past, ...), of earlier passes.

    Returns:
        All rows (tokens + sequences * past, ...), the rows (tokens,) of the tokens, and those (sequences, past) of
        what is now last.
    """
    past = before.shape[1]
    # (sequences,), (tokens,)
    begins, rows = context.cached((ShortConvolution, past), lambda: _spaced_rows(context.runs, past, x.device))
    places = begins[:, None] + torch.arange(past, device=x.device)  # (sequences, past)
    spread = x.new_zeros(x.shape[0] + before.shape[0] * past, *x.shape[1:]).index_copy(0, rows, x)
    spread = spread.index_copy(0, places.flatten(), before.flatten(0, 1).to(x.dtype))
    return spread, rows, places + torch.tensor(context.runs.lengths, device=x.device)[:, None]


def _spaced_rows(runs: SequenceLayout, past: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return first rows (sequences,) with `past` rows before each sequence, and rows (tokens,) of the tokens."""
    begins = [begin + past * text for text, begin in enumerate(runs.begins)]
    rows = [torch.arange(b + past, b + past + n) for b, n in zip(begins, runs.lengths, strict=True)]
    return torch.tensor(begins, device=device), torch.cat(rows).to(device)


class ShortConvolution(nn.Module):
    """Causal convolution of each channel over the last `kernel` tokens of its sequence."""

    dilation = 1  # distance of the tokens that are seen

    def __init__(self, channels: int, kernel: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, kernel))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        parameter.normal_(0.0, self.weight.shape[1] ** -0.5) if name == "weight" else parameter.zero_()

    def step_weights(self) -> ConvolutionWeights:
        """Return the weights as decode steps read them."""
        with torch.no_grad():
            bias = None if self.bias is None else self.bias.detach().float().contiguous()
            return ConvolutionWeights(self.weight.detach().float().t().contiguous(), bias)

    def forward(self, x: Tensor, context: ForwardContext, memory: ConvolutionCache | None) -> Tensor:
        """Map (tokens, channels) to (tokens, channels)."""
        if not len(x):  # torch convolves no empty row; what a cache holds stays
            return x
        past = (self.weight.shape[1] - 1) * self.dilation
        before = None if memory is None else memory.inputs.read(context)
        if before is None:
            before = x.new_zeros(len(context.runs), past, x.shape[1])  # (sequences, past, channels)
        if context.runs.stride == 1:  # one token a sequence: a product is faster than a convolution
            window = torch.cat([before, x[:, None]], 1)  # (sequences, past + 1, channels)
            # (tokens, channels)
            mixed = torch.einsum("tkc,ck->tc", window[:, :: self.dilation], self.weight)
            mixed = mixed if self.bias is None else mixed + self.bias
            if memory is not None:
                memory.inputs.write(context, window[:, 1:])  # the last inputs
            return mixed
        # spread: (rows, channels), the last inputs of earlier passes before each sequence; rows: (tokens,)
        spread, rows, last = spaced(x, before, context)
        # (rows - past, channels), since the convolution has no padding
        mixed = F.conv1d(spread.T[None], self.weight[:, None], self.bias, groups=x.shape[1], dilation=self.dilation)[
            0
        ].T
        if memory is not None:
            memory.inputs.write(context, spread[last])
        return mixed[rows - past]  # (tokens, channels); row r of the result ends at row r + past of the input


def steps_alone(convolution: nn.Module) -> bool:
    """Return whether a kernel, which gives no gradients, may compute a convolution's decode steps in its place."""
    return type(convolution) is ShortConvolution and not is_hooked(convolution) and not torch.is_grad_enabled()


def to_grid(x: Tensor, context: ForwardContext) -> Tensor:
    """Arrange (tokens, ...) as (sequences, longest, ...), zero where there is no token."""
    rows, real = context.cached("grid", lambda: context.runs.padded(x.device))  # (sequences, longest) each
    # Padding holds row 0 of the batch, so it is set to zero.
    return x[rows] * real.view(*real.shape, *(1,) * (x.ndim - 1))


def from_grid(x: Tensor, context: ForwardContext) -> Tensor:
    """Arrange (sequences, longest, ...) as (tokens, ...)."""
    _, real = context.cached("grid", lambda: context.runs.padded(x.device))
    return x[real]  # in the order of the tokens, since sequences are rows of the grid


class Mamba(nn.Module):
    """Selective state space: the token decides how much and how long a channel keeps (Gu and Dao, arXiv:2312.00752).

    Args:
        inner: channels. states: numbers a channel remembers. rank: of the time step's matrix.
        conv_bias, bias: of the convolution, and of the outer projections.
        norms: of the time steps' vector, and of the write and read vectors (Jamba, Falcon Mamba).
    """

    unpacked: ClassVar = ("step",)  # its bias is added in float32

    def __init__(
        self,
        width: int,
        inner: int,
        states: int,
        rank: int,
        *,
        kernel: int,
        act: str = "silu",
        bias: bool = False,
        conv_bias: bool = True,
        norms: tuple[nn.Module | None, nn.Module | None, nn.Module | None] = (None, None, None),
    ) -> None:
        super().__init__()
        self.step_norm, self.write_norm, self.read_norm = (norm or nn.Identity() for norm in norms)
        self.into, self.out = Linear(width, 2 * inner, bias=bias), Linear(inner, width, bias=bias)
        self.convolution = ShortConvolution(inner, kernel, bias=conv_bias)
        self.select, self.step = Linear(inner, rank + 2 * states, bias=False), Linear(rank, inner)
        self.decay, self.skip = nn.Parameter(torch.empty(inner, states)), nn.Parameter(torch.empty(inner))
        self.parts, self.act = (rank, states, states), activation(act)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize the decays to the logarithms of 1, 2, ... (S4D-real, arXiv:2206.11893)."""
        if name == "decay":
            parameter.copy_(torch.arange(1, parameter.shape[1] + 1).log().expand_as(parameter))
        else:
            parameter.fill_(1.0)

    def memory(self) -> StateSpaceCache:
        return StateSpaceCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: StateSpaceCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        u, gate = self.into(x).chunk(2, -1)  # (tokens, inner) each
        u = self.act(self.convolution(u, context, memory))
        y = self._scan(u.float(), *self._selected(u), context, memory)  # (tokens, inner)
        y = (y + self.skip.float() * u.float()) * F.silu(gate.float())
        return self.out(y.to(x.dtype))  # (tokens, width)

    def _selected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return time steps (tokens, inner), and write and read vectors (tokens, heads, states), of inputs."""
        step, write, read = self.select(u).split(self.parts, -1)  # (tokens, rank), (tokens, states), (tokens, states)
        step, write, read = self.step_norm(step), self.write_norm(write), self.read_norm(read)  # same shapes
        bias = None if self.step.bias is None else self.step.bias.float()
        # (tokens, inner). In float32, as all of the scan: rounding errors of a state add up over the sequence.
        times = F.softplus(F.linear(step, self.step.weight).float() + bias)
        return times, write.float()[:, None], read.float()[:, None]

    def _scan(
        self,
        u: Tensor,
        times: Tensor,
        write: Tensor,
        read: Tensor,
        context: ForwardContext,
        memory: StateSpaceCache | None,
    ) -> Tensor:
        """Scan (tokens, inner) with time steps (tokens, inner) and vectors (tokens, heads, states)."""
        rates = -torch.exp(self.decay.float())  # (inner, states), below 0
        state = memory.state.read(context) if memory is not None else None
        if state is None:
            state = u.new_zeros(len(context.runs), *rates.shape)  # (sequences, inner, states)
        # (sequences, longest, inner) twice, (sequences, longest, heads, states) twice. Time is 0 without a token.
        u, times, write, read = (to_grid(part, context) for part in (u, times, write, read))
        heads, rows = write.shape[2], []
        # One block at a time, since `keep` and `new` have `states` numbers for each channel of each place.
        for begin in range(0, u.shape[1], BLOCK):
            now = slice(begin, begin + BLOCK)
            keep = torch.exp(times[:, now, :, None] * rates)  # (sequences, block, inner, states)
            # (sequences, block, heads, inner / heads, states)
            new = (times[:, now] * u[:, now]).unflatten(-1, (heads, -1))[..., None] * write[:, now, :, None]
            new = new.flatten(2, 3)  # (sequences, block, inner, states)
            seen = []
            for place in range(keep.shape[1]):
                state = keep[:, place] * state + new[:, place]  # (sequences, inner, states)
                seen.append(state)
            held = torch.stack(seen, 1).unflatten(2, (heads, -1))  # (sequences, block, heads, inner / heads, states)
            rows.append(torch.einsum("tlhcs,tlhs->tlhc", held, read[:, now]).flatten(2))  # (sequences, block, inner)
        if memory is not None:
            memory.state.write(context, state)
        return from_grid(torch.cat(rows, 1), context) if rows else u.flatten(0, 1)  # (tokens, inner)


class HeadedMamba(Mamba):
    """Mamba whose channels are heads that choose alone: each has its own time steps and vectors (Zamba).

    Args:
        heads: which share the channels evenly.
    """

    def __init__(self, width: int, inner: int, states: int, rank: int, *, heads: int, **options: Any) -> None:
        super().__init__(width, inner, states, rank, **options)
        each = inner // heads
        del self.select, self.step
        self.select = nn.Parameter(torch.empty(heads, rank + 2 * states, each))  # type: ignore[assignment]
        self.step = nn.Parameter(torch.empty(heads, each, rank))  # type: ignore[assignment]
        self.step_bias = nn.Parameter(torch.empty(inner))  # (inner,)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize projections and steps as the paper of Mamba does, the rest as a mixer without heads."""
        if name == "select":
            parameter.normal_(0.0, std)
        elif name == "step":
            parameter.uniform_(-(parameter.shape[-1] ** -0.5), parameter.shape[-1] ** -0.5)
        elif name == "step_bias":
            times = torch.exp(torch.empty_like(parameter).uniform_(math.log(0.001), math.log(0.1)))
            parameter.copy_(times + torch.log(-torch.expm1(-times)))  # the inverse of softplus
        else:
            super().draw(name, parameter, std)

    def _selected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        select: Any = self.select
        steps: Any = self.step
        heads = u.unflatten(-1, (select.shape[0], -1))  # (tokens, heads, inner / heads)
        # (tokens, heads, rank), (tokens, heads, states), (tokens, heads, states)
        step, write, read = torch.einsum("thc,hsc->ths", heads, select).split(self.parts, -1)
        times = torch.einsum("thr,hcr->thc", step, steps).flatten(1).float() + self.step_bias.float()
        return F.softplus(times), write.float(), read.float()


class GatedNorm(nn.Module):
    """RMS norm of each group of channels, gated before or after.

    Args:
        after: the gate multiplies what is normed.
    """

    def __init__(self, width: int, groups: int, eps: float, *, after: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.groups, self.eps, self.after = groups, eps, after

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Normalize and gate (tokens, width), both float32."""
        x = x if self.after else x * F.silu(gate)
        parts = x.unflatten(-1, (self.groups, -1))  # (tokens, groups, width / groups)
        # (tokens, width)
        normed = (parts * torch.rsqrt(parts.pow(2).mean(-1, keepdim=True) + self.eps)).flatten(-2)
        normed = self.weight.float() * normed
        return normed * F.silu(gate) if self.after else normed


class Gate(nn.Module):
    """Gate without a norm."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * F.silu(gate)


def decayed_scan(
    u: Tensor,
    times: Tensor,
    rates: Tensor,
    write: Tensor,
    read: Tensor,
    context: ForwardContext,
    memory: StateLayerCache | None,
) -> Tensor:
    """Return what states hold after each token, (tokens, heads, head width), block by block in matrix products.

    state = exp(time * rate) * state + time * input * write; the output is the state times read.

    Args:
        u: inputs (tokens, heads, head width). times: (tokens, heads). rates: (heads,), below 0.
        write, read: (tokens, groups, states), of groups of heads. memory: of states (heads, head width, states).
    """
    heads = len(rates)
    each = heads // write.shape[1]  # heads that share write and read vectors
    state = memory.read(context) if memory is not None else None
    if state is None:
        # (sequences, heads, head width, states)
        state = u.new_zeros(len(context.runs), heads, u.shape[-1], write.shape[-1])
    # Time is 0 where there is no token, so the state stays as it is.
    u, times, write, read = (to_grid(part, context) for part in (u, times, write, read))
    rows = []
    for begin in range(0, u.shape[1], BLOCK):
        now = slice(begin, begin + BLOCK)
        # x: (sequences, block, heads, head width); time: (sequences, block, heads);
        # b, c: (sequences, block, groups, states)
        x, time, b, c = u[:, now], times[:, now], write[:, now], read[:, now]
        gone = (time * rates).cumsum(1)  # (sequences, block, heads)
        since = gone[:, :, None] - gone[:, None]  # (sequences, now, then, heads)
        causal = torch.ones(since.shape[1:3], dtype=torch.bool, device=u.device).tril()  # (now, then)
        # (sequences, now, then, heads). Masked before exp, which could overflow at places after `now`.
        keep = torch.exp(since.masked_fill(~causal[..., None], -torch.inf))
        match = torch.einsum("tlgs,tmgs->tlmg", c, b).repeat_interleave(each, -1)  # (sequences, now, then, heads)
        # (sequences, block, heads, head width), of inputs in this block
        own = torch.einsum("tlmh,tmhp->tlhp", match * keep * time[:, None], x)
        b, c = (v.repeat_interleave(each, 2) for v in (b, c))  # (sequences, block, heads, states)
        # (sequences, block, heads, head width), of the state before this block
        old = torch.einsum("tlhs,thps->tlhp", c, state) * torch.exp(gone)[..., None]
        # (sequences, block, heads), the part of each input that the block's end still has
        left = torch.exp(gone[:, -1:] - gone) * time
        # (sequences, heads, head width, states), at the block's end
        state = state * torch.exp(gone[:, -1])[..., None, None] + torch.einsum("tmh,tmhs,tmhp->thps", left, b, x)
        rows.append(own + old)
    if memory is not None:
        memory.write(context, state)
    return from_grid(torch.cat(rows, 1), context) if rows else u.flatten(0, 1)  # (tokens, heads, head width)


class Mamba2(nn.Module):
    """State space with one decay a head, computed block by block in matrix products (arXiv:2405.21060).

    Args:
        heads, head_width: of the inputs. states: numbers each input channel remembers.
        groups: of heads that share write and read vectors.
        gate: from outputs and gates to what is projected.
        limits: bounds of the time steps.
        scales: of the inputs, and of the projected gates, inputs, write vectors, read vectors and times (Falcon-H1).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        states: int,
        groups: int,
        *,
        kernel: int,
        gate: nn.Module,
        act: str = "silu",
        bias: bool = False,
        out_bias: bool = False,
        conv_bias: bool = True,
        limits: tuple[float, float] = (0.0, torch.inf),
        scales: tuple[float, ...] = (1.0,) * 6,
    ) -> None:
        super().__init__()
        if heads % groups:
            raise UnsupportedConfig(f"{heads} state-space heads cannot share {groups} groups evenly.")
        inner, mixed = heads * head_width, heads * head_width + 2 * groups * states
        self.into, self.out = Linear(width, inner + mixed + heads, bias=bias), Linear(inner, width, bias=out_bias)
        self.convolution, self.gate = ShortConvolution(mixed, kernel, bias=conv_bias), gate
        self.decay, self.skip, self.step = (nn.Parameter(torch.empty(heads)) for _ in range(3))  # (heads,) each
        self.parts, self.mixed = (inner, mixed, heads), (inner, groups * states, groups * states)
        self.heads, self.groups, self.limits = heads, groups, limits
        self.act, self.act_name = activation(act), act
        sizes = (inner, inner, groups * states, groups * states, heads)
        # One factor for each output of the projection: (inner + mixed + heads,) when concatenated.
        spread = [torch.full((size,), scale, device="cpu") for size, scale in zip(sizes, scales[1:], strict=True)]
        self.scale, self.spread = scales[0], None if set(scales[1:]) == {1.0} else torch.cat(spread)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        if name == "decay":
            parameter.copy_(torch.arange(1, self.heads + 1).log())
        else:
            parameter.fill_(1.0)

    def memory(self) -> StateSpaceCache:
        return StateSpaceCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: StateSpaceCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        both = self.into(x if self.scale == 1.0 else x * self.scale)  # (tokens, inner + mixed + heads)
        if self.spread is not None:
            both = both * self.spread.to(both.device, both.dtype)
        stepped = None if memory is None or context.runs.stride != 1 else self._step(both, context, memory)
        if stepped is not None:
            return self.out(stepped)
        gate, mixed, step = both.split(self.parts, -1)  # (tokens, inner), (tokens, mixed), (tokens, heads)
        # (tokens, inner), (tokens, groups * states), (tokens, groups * states)
        u, write, read = self.act(self.convolution(mixed, context, memory)).float().split(self.mixed, -1)
        times = F.softplus(step.float() + self.step.float()).clamp(*self.limits)  # (tokens, heads)
        # (tokens, heads, head width), (tokens, groups, states), (tokens, groups, states)
        u, write, read = u.unflatten(-1, (self.heads, -1)), *(v.unflatten(-1, (self.groups, -1)) for v in (write, read))
        # (tokens, heads, head width)
        rates, states = -torch.exp(self.decay.float()), None if memory is None else memory.state  # (heads,), below 0
        y = decayed_scan(u, times, rates, write, read, context, states) + self.skip.float()[:, None] * u
        return self.out(self.gate(y.flatten(-2), gate.float()).to(x.dtype))  # (tokens, width)

    def _step(self, both: Tensor, context: ForwardContext, memory: StateSpaceCache) -> Tensor | None:
        """Return the gated outputs of a decode step, (tokens, inner), by one kernel; None where it does not fit."""
        plain = type(self.gate) in (Gate, GatedNorm) and self.act is activation(self.act_name)
        if not plain or is_hooked(self.gate) or not steps_alone(self.convolution):
            return None
        inputs, states = memory.inputs.in_place(context), memory.state.in_place(context)
        if inputs is None or states is None:
            return None
        convolution = self.convolution
        norm = self.gate.weight if isinstance(self.gate, GatedNorm) else None
        parameters = (convolution.weight, convolution.bias, self.decay, self.skip, self.step, norm)
        return backend(both).mamba_step(both, derived(self, parameters, self._step_weights), inputs[0], *states)

    def _step_weights(self) -> MambaWeights:
        gate, (inner, shared, _) = self.gate, self.mixed
        normed = gate if isinstance(gate, GatedNorm) else None
        with torch.no_grad():
            return MambaWeights(
                self.convolution.step_weights(),
                rates=-torch.exp(self.decay.detach().float()),
                skip=self.skip.detach().float().contiguous(),
                step=self.step.detach().float().contiguous(),
                norm=None if normed is None else normed.weight.detach().float().contiguous(),
                norm_groups=1 if normed is None else normed.groups,
                after=normed is not None and normed.after,
                eps=0.0 if normed is None else normed.eps,
                heads=self.heads,
                width=inner // self.heads,
                count=shared // self.groups,
                groups=self.groups,
                limits=self.limits,
                act=self.act_name,
            )
