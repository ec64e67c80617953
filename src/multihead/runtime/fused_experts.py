"""Routed experts of a CPU: the matrices of all experts in one stack, packed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.cpu import native
from ..kernels.layout import lined
from ..nn.experts import ClampedGate, RoutedExperts, SharedExpert
from ..nn.forward_context import ForwardContext
from ..nn.switch import SwitchFeedForward
from .fused_linear_cpu import BUFFERS, FusedLinear
from .layer_spec import adopt, register

TOKENS = 2**11  # through experts at once: each token has a float32 row for every expert that it chose meanwhile
SIZE = ctypes.sizeof(native.Weight)
# Attributes that experts have alike.
SHARED = ("format", "shape", "norm", "after", "inner", "act", "gated", "parts", "outputs")

Visit = tuple[int, int, int]  # an expert, and the first row and the end of the rows that it reads


class ExpertLinears(FusedLinear):
    """Linear layers of one shape, one an expert; the first dimension of each buffer is the expert.

    Args:
        makers: each makes the layer of one expert, and is called once the one before it is in the stack.
    """

    def __init__(self, makers: Sequence[Callable[[], FusedLinear]]) -> None:
        nn.Module.__init__(self)
        first = makers[0]()  # its shapes are those of all experts
        for name in SHARED:
            setattr(self, name, getattr(first, name))
        self.count, self.numbers = len(makers), first.numbers * len(makers)
        self._struct, self._address = None, 0
        for name in BUFFERS:
            buffer = getattr(first, name)
            # (experts, ...)
            self.register_buffer(name, None if buffer is None else buffer.new_empty(self.count, *buffer.shape))
        if self.codes.is_meta:  # only shapes are wanted
            return
        for number, make in enumerate(makers):
            layer = make() if number else first
            for name in BUFFERS:
                if (buffer := getattr(layer, name)) is not None:
                    getattr(self, name)[number] = buffer

    def forward(self, x: Tensor, visits: Sequence[Visit], dtype: torch.dtype | None = None) -> Tensor:  # type: ignore[override]
        """(rows, inputs) to (rows, outputs), each row by the expert that visits it.

        Args:
            visits: of all rows, in order. dtype: of the result; None for x's.
        """
        fits = native.serves(x) and self._fits(x, None, dtype) and x.ndim == 2
        if not (fits and all(0 <= e < self.count and 0 <= begin <= end <= len(x) for e, begin, end in visits)):
            # (rows of the expert, outputs)
            parts = [self.one(expert).definition(x[begin:end]) for expert, begin, end in visits]
            return torch.cat(parts or [x.new_empty(0, self.outputs)]).to(dtype or x.dtype)
        x = lined(x)
        y, library = torch.empty(x.shape[0], self.outputs, dtype=dtype or x.dtype), native.library()  # (rows, outputs)
        product, weights, outputs, threads = library.mh_product, self.address, self.outputs, torch.get_num_threads()
        (x_type, y_type), x_at, y_at = (native.TYPES[t.dtype] for t in (x, y)), x.data_ptr(), y.data_ptr()
        stride = x.stride(0)
        x_step, y_step = stride * x.element_size(), outputs * y.element_size()  # bytes a row
        for expert, begin, end in visits:
            # one call for each expert, over rows that lie side by side
            product(
                weights + expert * SIZE, x_at + begin * x_step, end - begin, stride, x_type, None, 0,
                y_at + begin * y_step, outputs, y_type, threads,
            )  # fmt: skip
        return y

    def set_format(self, format: str) -> None:
        super().set_format(format)
        for name in ("codes", "scales", "minima"):
            if (buffer := getattr(self, name)) is not None:
                setattr(self, name, buffer.new_empty(self.count, *buffer.shape))

    def one(self, number: int) -> FusedLinear:
        """Return the layer of one expert, which shares the memory of the stacked weights."""
        layer = FusedLinear.__new__(FusedLinear)
        nn.Module.__init__(layer)
        for name in SHARED:
            setattr(layer, name, getattr(self, name))
        layer.numbers, layer._struct, layer._address = self.numbers // self.count, None, 0
        for name in BUFFERS:
            buffer = getattr(self, name)
            layer.register_buffer(name, None if buffer is None else buffer[number])
        return layer

    @property
    def address(self) -> int:
        """Address of the experts' C structures, one after the other."""
        if not self._address:
            table: Any = (native.Weight * self.count)()
            for number in range(self.count):
                one = self.one(number)
                ctypes.memmove(ctypes.byref(table[number]), one.address, SIZE)
            self._struct, self._address = table, ctypes.addressof(table)
        return self._address

    def extra_repr(self) -> str:
        return f"{self.count} x ({super().extra_repr()})"


class PackedExperts(nn.Module):
    """Experts of a layer, with packed weights.

    Args:
        between: an activation of gates and ups that the kernels do not compute, between the two products.
    """

    def __init__(self, into: ExpertLinears, out: ExpertLinears, between: ClampedGate | None = None) -> None:
        super().__init__()
        self.into, self.output, self.between = into, out, between

    def forward(self, x: Tensor, weights: Tensor, chosen: Tensor, add: Tensor | None) -> Tensor:
        """The weighted sum of the chosen experts' results for x, (tokens, width), added to `add`.

        Args:
            x, add: (tokens, width). weights, chosen: (tokens, experts of a token).
        """
        if len(x) > TOKENS:
            adds: Sequence[Tensor | None] = [None] * -(-len(x) // TOKENS) if add is None else add.split(TOKENS)
            parts = zip(*(part.split(TOKENS) for part in (x, weights, chosen)), adds, strict=True)
            return torch.cat([self(*part) for part in parts])
        if len(x) == 1:  # each expert reads one row and gives one, so nothing is sorted or gathered
            visits = [(expert, place, place + 1) for place, expert in enumerate(chosen[0].tolist())]
            results = self._results(x.expand(len(visits), -1), visits)  # (experts of a token, width)
        else:
            order = chosen.flatten().argsort(stable=True)  # rows of one expert lie side by side
            # (tokens * experts of a token, width), sorted by expert
            results = self._results(x.index_select(0, order // chosen.shape[1]), self._visits(chosen))
            results = results.index_select(0, order.argsort())  # back to the order of tokens
        # (tokens, 1, experts) times (tokens, experts, width), to (tokens, width) in float32
        y = torch.bmm(weights.float()[:, None], results.view(*chosen.shape, self.output.outputs))[:, 0]
        return (y if add is None else y + add).to(x.dtype)

    def _visits(self, chosen: Tensor) -> list[Visit]:
        """Return (expert, first row, end row) of each expert with rows, for rows sorted by expert."""
        visits, begin = [], 0
        for expert, count in enumerate(torch.bincount(chosen.flatten(), minlength=self.into.count).tolist()):
            if count:
                visits.append((expert, begin, begin + count))
                begin += count
        return visits

    def _results(self, x: Tensor, visits: Sequence[Visit]) -> Tensor:
        """Float32 (rows, width)."""
        if self.between is None:
            return self.output(self.into(x, visits), visits, torch.float32)
        gate, up = self.into(x, visits, torch.float32).chunk(2, -1)  # (rows, inner) each
        return self.output(self.between(gate, up), visits, torch.float32)


class FusedRoutedExperts(RoutedExperts):
    """Packed experts behind the router of a layer, which keeps its numbers, since these decide who is chosen."""

    def __init__(self, layer: RoutedExperts, experts: PackedExperts) -> None:
        nn.Module.__init__(self)
        adopt(self, layer)
        self.experts = experts

    def mix(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        return self.experts(x, weights, chosen, None)

    def forward_add(self, x: Tensor, add: Tensor | None) -> Tensor:
        """`add` and the experts' result for x, (tokens, width)."""
        return self.experts(x, *self.route(x), add)


class FusedWithShared(SharedExpert):
    """Fused routed experts beside a fused shared one."""

    def __init__(self, layer: SharedExpert, routed: nn.Module, shared: nn.Module) -> None:
        nn.Module.__init__(self)
        adopt(self, layer)
        self.routed, self.shared = routed, shared  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_add(x, None)

    def forward_add(self, x: Tensor, add: Tensor | None) -> Tensor:
        if self.scale != 1.0:
            scaled = self._sum(x, None) * self.scale  # (tokens, width)
            return scaled if add is None else scaled + add
        return self._sum(x, add)

    def _sum(self, x: Tensor, add: Tensor | None) -> Tensor:
        """Return `add` and both results for x, (tokens, width)."""
        routed: Any = self.routed
        shared: Any = self.shared
        if self.share is None:
            return routed.forward_add(x, shared.forward_add(x, add))
        part = torch.sigmoid(self.share(x)) * shared(x)  # (tokens, 1) times (tokens, width)
        return routed.forward_add(x, part if add is None else part + add)


class FusedSwitch(SwitchFeedForward):
    """Packed experts of Switch Transformers."""

    def __init__(self, layer: SwitchFeedForward, experts: PackedExperts) -> None:
        nn.Module.__init__(self)
        adopt(self, layer)
        self.experts = experts  # type: ignore[assignment]

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:
        return self.forward_add(x, None, context)

    def forward_add(self, x: Tensor, add: Tensor | None, context: ForwardContext) -> Tensor:
        weight, chosen, fits = self.route(x, context)  # (tokens,) each
        # a token that its expert has no room for gets the weight 0
        return self.experts(x, (weight * fits)[:, None], chosen[:, None], add)


register(ExpertLinears, "count", base=FusedLinear)
register(PackedExperts, "between into output")
register(FusedRoutedExperts, base=RoutedExperts)
register(FusedWithShared, base=SharedExpert)
