"""Time mix and channel mix of RWKV-4 (Peng et al., 2023, arXiv:2305.13048)."""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache.layer_cache import HybridLayerCache, StateLayerCache, cache_or_none
from .forward_context import ForwardContext
from .ragged import select_tokens
from .state_space import ConvolutionCache, StateSpaceCache, from_grid, to_grid
from .weights import Linear

NOTHING = -1e38  # logarithm of the weight of a state that has seen no token
State = tuple[Tensor, Tensor, Tensor]  # weighted sums of values, sums of weights, logarithm of the scale of both


def previous_inputs(x: Tensor, context: ForwardContext, memory: StateLayerCache | None) -> Tensor:
    """Return the state of the token before each token in its sequence, (tokens, width), zero before the first."""
    before = memory.read(context) if memory is not None else None
    if before is None:
        before = x.new_zeros(len(context.runs), x.shape[1])  # (sequences, width)
    if context.runs.stride == 1:  # one token a sequence: rows of tokens are rows of states
        shifted, last = before.clone(), x  # a view of the cache, which changes below
    else:
        filled = [row for row, length in enumerate(context.runs.lengths) if length]
        begins = torch.tensor([context.runs.begins[row] for row in filled], device=x.device, dtype=torch.long)
        shifted = F.pad(x, (0, 0, 1, 0))[:-1].index_copy(0, begins, before[filled].to(x.dtype))
        empty = torch.tensor([not length for length in context.runs.lengths], device=x.device)[:, None]
        last = torch.where(empty, before, select_tokens(x, context.runs, -1))
    if memory is not None:
        memory.write(context, last)
    return shifted


def merge(one: State, other: State) -> State:
    """Return the sum of two states."""
    scale = torch.maximum(one[2], other[2]).detach()  # a scale alone: outputs do not depend on it
    ours, theirs = torch.exp(one[2] - scale), torch.exp(other[2] - scale)
    return ours * one[0] + theirs * other[0], ours * one[1] + theirs * other[1], scale


def read_state(state: State, key: Tensor, value: Tensor, bonus: Tensor) -> Tensor:
    """Return the weighted mean of the values in a state and a token's own value."""
    sums, weights, _ = merge(state, (value, torch.ones_like(value), key + bonus))
    return sums / weights


def wkv(key: Tensor, value: Tensor, times: Tensor, rates: Tensor, bonus: Tensor, state: State) -> tuple[Tensor, State]:
    """Return the weighted means of the values up to each token, (sequences, places, channels), and the last states.

    A token's weight is exp(key - rate * tokens since), its own exp(key + bonus). Blocks of about sqrt(places) are
    scanned side by side; then their ends are carried from block to block.

    Args:
        key, value: (sequences, places, channels); keys are -inf where there is no token.
        times: (sequences, places, 1), 1 where there is a token. rates, bonus: (channels,).
        state: of (sequences, channels) each, before the first place.
    """
    places = key.shape[1]
    block = isqrt(max(places, 1) - 1) + 1
    more = -places % block
    parts = F.pad(key, (0, 0, 0, more), value=-torch.inf), *(F.pad(x, (0, 0, 0, more)) for x in (value, times))
    # (sequences, blocks, block, channels) twice, (sequences, blocks, block, 1)
    key, value, times = (x.unflatten(1, (-1, block)) for x in parts)
    zero = torch.zeros_like(key[:, :, 0])
    own: State = zero, zero, torch.full_like(zero, NOTHING)  # (sequences, blocks, channels) each
    befores = []
    for place in range(block):
        befores.append(own)
        gone = rates * times[:, :, place]
        token = value[:, :, place], torch.ones_like(zero), key[:, :, place]
        own = merge((own[0], own[1], own[2] - gone), token)
    passed = times.cumsum(2)  # (sequences, blocks, block, 1), tokens of the block up to each place
    starts = []
    for number in range(key.shape[1]):
        starts.append(state)
        gone = rates * passed[:, number, -1]
        state = merge((state[0], state[1], state[2] - gone), (own[0][:, number], own[1][:, number], own[2][:, number]))
    sums, weights, scale = (torch.stack(x, 1)[:, :, None] for x in zip(*starts, strict=True))
    start = sums, weights, scale - rates * (passed - times)  # what is left at each place
    inside = tuple(torch.stack(x, 2) for x in zip(*befores, strict=True))
    whole = merge(start, (inside[0], inside[1], inside[2]))
    mixed = read_state(whole, key, value, bonus)
    return mixed.flatten(1, 2)[:, :places], state


class TimeMix(nn.Module):
    """Weighted means of past values, whose weights decay at a rate of each channel, gated by the token.

    Args:
        inner: channels.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.decay, self.bonus = nn.Parameter(torch.empty(inner)), nn.Parameter(torch.empty(inner))
        self.mix_k, self.mix_v, self.mix_r = (nn.Parameter(torch.empty(width)) for _ in range(3))
        self.k, self.v, self.r = (Linear(width, inner, bias=False) for _ in range(3))
        self.out = Linear(inner, width, bias=False)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize decays from slow to fast, and mixes to the mean of both tokens."""
        if name == "decay":
            parameter.copy_(torch.linspace(-5.0, 3.0, len(parameter)))
        else:
            parameter.fill_(0.5 if name.startswith("mix") else 0.0)

    def memory(self) -> StateSpaceCache:
        return StateSpaceCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: StateSpaceCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        shifted = previous_inputs(x, context, None if memory is None else memory.inputs)  # (tokens, width)
        mixed = (torch.lerp(shifted, x, mix) for mix in (self.mix_k, self.mix_v, self.mix_r))
        key, value, gate = (layer(part) for layer, part in zip((self.k, self.v, self.r), mixed, strict=True))
        # In float32, since rounding errors of a state add up over the sequence.
        means = self._means(key.float(), value.float(), context, memory)  # (tokens, inner)
        return self.out(torch.sigmoid(gate) * means.to(x.dtype))

    def _means(self, key: Tensor, value: Tensor, context: ForwardContext, memory: StateSpaceCache | None) -> Tensor:
        """Return the weighted means of values (tokens, inner) with keys (tokens, inner)."""
        rates, bonus = torch.exp(self.decay.float()), self.bonus.float()  # (inner,) each
        held = memory.state.read(context) if memory is not None else None
        if held is None:
            held = key.new_zeros(len(context.runs), 3, key.shape[1])  # (sequences, 3, inner)
        sums, weights, scale = held.unbind(1)  # (sequences, inner) each
        state: State = sums, weights, torch.where(weights > 0, scale, NOTHING)
        if context.runs.stride == 1:  # one token a sequence: rows of tokens are rows of states
            means = read_state(state, key, value, bonus)
            state = merge((state[0], state[1], state[2] - rates), (value, torch.ones_like(value), key))
        elif not len(key):
            return value
        else:
            _, real = context.cached("grid", lambda: context.runs.padded(key.device))  # (sequences, longest)
            key = to_grid(key, context).masked_fill(~real[..., None], -torch.inf)
            grid, state = wkv(key, to_grid(value, context), real[..., None].float(), rates, bonus, state)
            means = from_grid(grid, context)
        if memory is not None:
            memory.state.write(context, torch.stack(state, 1))
        return means


class ChannelMix(nn.Module):
    """Feed-forward that reads a mix of the token and the one before it, gated by another such mix."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.mix_k, self.mix_r = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.k, self.v = Linear(width, inner, bias=False), Linear(inner, width, bias=False)
        self.r = Linear(width, width, bias=False)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize mixes to the mean of both tokens."""
        parameter.fill_(0.5)

    def memory(self) -> ConvolutionCache:
        return ConvolutionCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: ConvolutionCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        shifted = previous_inputs(x, context, None if memory is None else memory.inputs)  # (tokens, width)
        key = F.relu(self.k(torch.lerp(shifted, x, self.mix_k))).square()  # (tokens, inner)
        return torch.sigmoid(self.r(torch.lerp(shifted, x, self.mix_r))) * self.v(key)


class TimeChannelLayer(nn.Module):
    """Pre-norm layer of a time mix and a channel mix, both of which keep states.

    Args:
        share: of what is added, in inference. halves: the layer's output is halved, in inference. Both keep half
            precision from overflowing in deep models.
    """

    def __init__(
        self, time: TimeMix, channel: ChannelMix, norms: tuple[nn.Module, nn.Module], *, share: float, halves: bool
    ) -> None:
        super().__init__()
        self.time, self.channel = time, channel
        self.time_norm, self.channel_norm = norms
        self.share, self.halves = share, halves

    def memory(self) -> HybridLayerCache:
        return HybridLayerCache(self.time.memory(), self.channel.memory())

    def forward(self, x: Tensor, context: ForwardContext, memory: HybridLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        first, second = (None, None) if memory is None else map(cache_or_none, (memory.first, memory.second))
        share = 1.0 if self.training else self.share
        x = x + self.time(self.time_norm(x), context, first) * share
        x = x + self.channel(self.channel_norm(x), context, second) * share
        return x / 2 if self.halves and not self.training else x
