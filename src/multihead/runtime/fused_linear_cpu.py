"""Layers as inference runs them: a norm, a product, an activation and a sum in one step, over weights in panels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InvalidInput
from ..kernels import packed
from ..kernels.activations import ACTIVATIONS as NUMBERS
from ..kernels.cpu import native
from ..kernels.layout import lined
from ..kernels.packed import Packed
from ..nn.activations import ACTIVATIONS
from ..nn.norms import PlainLayerNorm, RMSNorm, WideRMSNorm
from ..nn.weights import LayerNorm

BUFFERS = ("codes", "scales", "minima", "offsets", "norm_weight", "norm_bias", "after_weight", "after_bias")


class Norm:
    """A norm as the kernels take it.

    Args:
        kind: 1 for the root mean square, 2 for a layer norm, 0 for none. weight, bias: float32, or none.
    """

    def __init__(
        self, kind: int = 0, eps: float = 0.0, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> None:
        self.kind, self.eps, self.weight, self.bias = kind, eps, weight, bias

    @classmethod
    def of(cls, module: nn.Module) -> Norm | None:
        """A module's norm, or None for one that the kernels do not compute."""
        if type(module) is LayerNorm:
            return cls(2, module.eps, _wide(module.weight), _wide(module.bias))
        if type(module) is PlainLayerNorm:
            return cls(2, module.eps, None, None)
        if type(module) is RMSNorm:
            return cls(1, module.eps, _wide(module.weight), None)
        if type(module) is WideRMSNorm:
            weight = _wide(module.weight)
            assert weight is not None
            return cls(1, module.eps, weight + module.centre, None)
        return None


class Product(nn.Module):
    """after(add + act(norm(x) @ weight.T + bias)), of which all but the product may be missing.

    Args:
        weights: parts of the matrix, (outputs, inputs) each, one under the other. biases: of each part, or none.
        kind: of the codes, as `kernels.packed.pack` takes it. act: an activation's name.
        gated: of the two parts, the first is activated and multiplies the second.
        norm: before the product. after: of the sum.
    """

    count = 1  # matrices that are held
    codes: Tensor
    scales: Tensor | None
    minima: Tensor | None
    offsets: Tensor | None
    norm_weight: Tensor | None
    norm_bias: Tensor | None
    after_weight: Tensor | None
    after_bias: Tensor | None

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        kind: str,
        *,
        act: str | None = None,
        gated: bool = False,
        norm: Norm | None = None,
        after: Norm | None = None,
    ) -> None:
        super().__init__()
        self.norm, self.after = norm or Norm(), after or Norm()
        held = packed.pack(weights, kind, packed.interleaved if gated else packed.stacked)
        self._hold(held, joined_biases(weights, biases, gated), self.norm, self.after)
        self.act, self.gated = act, gated
        self.parts = [len(w) for w in weights]
        self.outputs = self.parts[0] if gated else sum(self.parts)
        taken = [x for n in (self.norm, self.after) for x in (n.weight, n.bias)]
        self.numbers = sum(x.numel() for x in (*weights, *biases, *taken) if x is not None)
        self._struct: ctypes.Structure | None = None
        self._address = 0

    def _hold(self, held: Packed, bias: Tensor | None, norm: Norm, after: Norm) -> None:
        self.kind, self.shape = held.kind, held.shape
        if bias is not None:
            bias = F.pad(bias, (0, held.width - len(bias)))
        norms = norm.weight, norm.bias, after.weight, after.bias
        values = (held.codes.view(torch.uint8), held.scales, held.minima, bias, *norms)
        for name, value in zip(BUFFERS, values, strict=True):
            self.register_buffer(name, value)

    @property
    def packed(self) -> Packed:
        codes = self.codes.view(torch.bfloat16) if self.kind == "bf16" else self.codes
        return Packed(self.kind, self.shape, codes, self.scales, self.minima)

    def expect(self, kind: str) -> None:
        """Makes a product that has no memory yet one of another kind of codes."""
        held = packed.without_memory(kind, self.shape)
        self.kind, self.codes, self.scales, self.minima = kind, held.codes.view(torch.uint8), held.scales, held.minima

    def forward(self, x: Tensor, add: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """(rows, inputs) to (rows, outputs).

        Args:
            add: (rows, outputs), of x's precision. dtype: of the result, where nothing is added; None for x's.
        """
        if not native.serves(x) or not self._fits(x, add, dtype):
            return self.definition(x, add).to(dtype or x.dtype)
        if x.ndim != 2:
            flat = None if add is None else add.reshape(-1, self.outputs)
            return self(x.reshape(-1, x.shape[-1]), flat, dtype).view(*x.shape[:-1], self.outputs)
        x = lined(x)
        y, library = torch.empty(x.shape[0], self.outputs, dtype=dtype or x.dtype), native.library()
        add_pointer, add_stride = None, 0
        if add is not None:
            add = add if add.dtype == x.dtype and add.stride(-1) == 1 else add.to(x.dtype).contiguous()
            add_pointer, add_stride = add.data_ptr(), add.stride(0)
        library.mh_product(
            self.address, x.data_ptr(), x.shape[0], x.stride(0), native.TYPES[x.dtype], add_pointer, add_stride,
            y.data_ptr(), self.outputs, native.TYPES[y.dtype], torch.get_num_threads(),
        )  # fmt: skip
        return y

    def _fits(self, x: Tensor, add: Tensor | None, dtype: torch.dtype | None) -> bool:
        """Whether shapes and precisions are those of the kernels; torch says what is wrong with others."""
        shape = (*x.shape[:-1], self.outputs)
        known = x.ndim > 0 and x.shape[-1] == self.shape[1] and (dtype is None or dtype in native.TYPES)
        return known and (add is None or (add.shape == shape and add.is_cpu))

    def bare(self, x: Tensor) -> Tensor:
        """The product without the norm after it, which `settled` gives of a sum that holds it."""
        return self(x) if not self.after.kind else self.definition(x, settle=False)

    def settled(self, total: Tensor) -> Tensor:
        """The norm after the product, of a sum that was made elsewhere."""
        return _normed(total.float(), self.after, self.after_weight, self.after_bias).to(total.dtype)

    def definition(self, x: Tensor, add: Tensor | None = None, settle: bool = True) -> Tensor:
        """The same in torch's operations, and with gradients to x. `settle`: whether the norm after it is taken."""
        wide = _normed(x.float(), self.norm, self.norm_weight, self.norm_bias)
        bias = None if self.offsets is None else self.offsets[: self.shape[0]]
        y = packed.product(wide.reshape(-1, x.shape[-1]), self.packed, bias)
        y = y.view(*x.shape[:-1], y.shape[1])
        if self.gated:
            gate, up = (part.flatten(-2) for part in y.unflatten(-1, (-1, 2, packed.PANEL // 2)).unbind(-2))
            y = (ACTIVATIONS[self.act](gate) * up if self.act else gate * up)[..., : self.outputs]
        elif self.act:
            y = ACTIVATIONS[self.act](y)
        if add is not None:
            y = y + add
        if self.after.kind and settle:
            y = _normed(y.to(x.dtype).float(), self.after, self.after_weight, self.after_bias)
        return y.to(x.dtype)

    @property
    def placed(self) -> bool:
        """Whether `address` is known, and right."""
        return self._address != 0

    @property
    def address(self) -> int:
        """Where the C structure is that describes this product, as long as its tensors stay where they are."""
        if self._address:
            return self._address
        tensors = {name: getattr(self, name) for name in BUFFERS}
        self._check(tensors)
        held = {name: None if x is None else x.data_ptr() for name, x in tensors.items()}
        held["bias"] = held.pop("offsets")
        self._struct = native.Weight(
            kind=packed.KINDS[self.kind], act=NUMBERS[self.act] if self.act else 0, gated=int(self.gated),
            norm=self.norm.kind, after=self.after.kind, zero=128, norm_eps=self.norm.eps, after_eps=self.after.eps,
            inputs=self.shape[1], outputs=self.outputs, width=self.packed.width, **held,
        )  # fmt: skip
        self._address = ctypes.addressof(self._struct)
        return self._address

    def _check(self, tensors: Mapping[str, Tensor | None]) -> None:
        """Compares what is held with what the kernels will read. Raises InvalidInput."""
        need = packed.without_memory(self.kind, self.shape)
        wanted = {"codes": need.codes.view(torch.uint8), "scales": need.scales, "minima": need.minima}
        sizes = {name: (x.dtype, x.numel()) for name, x in wanted.items() if x is not None}
        wide = {"offsets": need.width, "norm": self.shape[1], "after": self.outputs}
        for name, x in tensors.items():
            want = sizes.get(name, (torch.float32, wide.get(name.partition("_")[0], 0)))
            absent = x is None and name not in sizes
            if not absent and (x is None or (x.dtype, x.numel()) != want or not x.is_contiguous() or not x.is_cpu):
                raise InvalidInput(
                    f"A packed product of kind {self.kind} and shape {list(self.shape)} needs {name} of "
                    f"{want[1]} numbers in {want[0]} on the CPU, side by side; prepare the model again."
                )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """Moves what is held, and leaves its precision as it is."""
        for name in BUFFERS:
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, value.to(fn(value.new_empty(0)).device))
        self._struct, self._address = None, 0
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_struct": None, "_address": 0}

    def extra_repr(self) -> str:
        return f"{self.shape[1]} -> {self.outputs}, {self.kind}" + (f", {self.act}" if self.act else "")


def joined_biases(weights: Sequence[Tensor], biases: Sequence[Tensor | None], gated: bool) -> Tensor | None:
    """Biases of a product's parts, float32, in the order in which panels hold its outputs; None where none has any."""
    if all(bias is None for bias in biases):
        return None
    parts = [
        torch.zeros(len(w), device=w.device) if b is None else b.detach().float()
        for w, b in zip(weights, biases, strict=True)
    ]
    return packed.interleaved(*parts) if gated else torch.cat(parts)


class PackedLinear(Product):
    """A `Linear` alone, in panels; `weight` is decoded anew each time that it is asked for.

    Args:
        bias: in place of the layer's own.
    """

    def __init__(self, linear: nn.Linear, kind: str, bias: Tensor | None = None) -> None:
        super().__init__([linear.weight], [linear.bias if bias is None else bias], kind)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.sample = linear.weight.dtype

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs)."""
        return packed.unpack(self.packed).to(self.sample)

    @property
    def bias(self) -> Tensor | None:
        """(outputs,)."""
        return None if self.offsets is None else self.offsets[: self.out_features].to(self.sample)


def _wide(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().float().contiguous()


def _normed(x: Tensor, norm: Norm, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if norm.kind == 0:
        return x
    if norm.kind == 2:
        return F.layer_norm(x, x.shape[-1:], weight, bias, norm.eps)
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps)
    return y if weight is None else y * weight
