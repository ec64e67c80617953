"""Linear layers of a CPU: a norm, a product, an activation and a sum in one native call, over weights in panels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InvalidInput
from ..kernels.activations import ACTIVATIONS as NUMBERS
from ..kernels.cpu import native
from ..kernels.layout import lined
from ..kernels.quantization.base import PackedWeight, QuantizationFormat, empty_packed, pack, packed_layout, stack_rows
from ..kernels.quantization.panels import PANEL, interleave, panel_width
from ..nn.activations import ACTIVATIONS
from .layer_spec import NormSpec, register

BUFFERS = ("codes", "scales", "minima", "offsets", "norm_weight", "norm_bias", "after_weight", "after_bias")
IN_STRUCT = frozenset((*BUFFERS, "act", "after", "format", "inner", "norm"))  # attributes that `address` depends on


class FusedLinear(nn.Module):
    """after(add + act(norm(x) @ weight.T + bias)), of which all but the product may be missing.

    Args:
        weights: parts of the matrix, (outputs, inputs) each, one under the other. biases: of each part, or none.
        format: of the matrix, as `kernels.quantization.base.pack` takes it. act: an activation's name.
        gated: of the two parts, the first is activated and multiplies the second.
        norm: of x, (inputs,). after: of the sum, (outputs,); where `inner`, of the product before the sum.
    """

    count = 1  # matrices in the buffers
    format: QuantizationFormat
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
        format: str,
        *,
        act: str | None = None,
        gated: bool = False,
        norm: NormSpec | None = None,
        after: NormSpec | None = None,
        inner: bool = False,
    ) -> None:
        super().__init__()
        norm, after = norm or NormSpec(), after or NormSpec()
        norms = norm.weight, norm.bias, after.weight, after.bias
        self.norm, self.after = NormSpec(norm.kind, norm.eps), NormSpec(after.kind, after.eps)
        self._register(
            # gates beside their up values, so that one panel gives whole outputs
            pack(weights, format, interleave if gated else stack_rows),
            stacked_biases(weights, biases, gated),
            norms,
        )
        self.act, self.gated, self.inner = act, gated, inner
        self.parts = [len(w) for w in weights]
        self.outputs = self.parts[0] if gated else sum(self.parts)  # a gate and its up value give one output
        self.numbers = sum(x.numel() for x in (*weights, *biases, *norms) if x is not None)
        self._struct: ctypes.Structure | None = None
        self._address = 0

    def _register(self, matrix: PackedWeight, bias: Tensor | None, norms: Sequence[Tensor | None]) -> None:
        self.format, self.shape = matrix.format, matrix.shape
        if bias is not None:
            bias = F.pad(bias, (0, panel_width(matrix.shape[0]) - len(bias)))  # kernels read whole panels
        values = (matrix.codes.view(torch.uint8), matrix.scales, matrix.minima, bias, *norms)
        for name, value in zip(BUFFERS, values, strict=True):
            self.register_buffer(name, value)

    @property
    def packed(self) -> PackedWeight:
        """The matrix as its format takes it."""
        return PackedWeight(self.format, self.shape, self.codes.view(self.format.code_dtype), self.scales, self.minima)

    def set_format(self, format: str) -> None:
        """Give a layer on the meta device buffers of another format."""
        matrix = empty_packed(format, self.shape)
        self.format, self.codes = matrix.format, matrix.codes.view(torch.uint8)
        self.scales, self.minima = matrix.scales, matrix.minima

    def forward(self, x: Tensor, add: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """(rows, inputs) to (rows, outputs).

        Args:
            add: (rows, outputs), of x's dtype. dtype: of the result, where nothing is added; None for x's.
        """
        if not native.serves(x) or not self._fits(x, add, dtype):
            return self.definition(x, add).to(dtype or x.dtype)
        if x.ndim != 2:  # the kernels take rows
            flat = None if add is None else add.reshape(-1, self.outputs)
            return self(x.reshape(-1, x.shape[-1]), flat, dtype).view(*x.shape[:-1], self.outputs)
        x = lined(x)  # rows without gaps inside; rows may lie apart
        y, library = torch.empty(x.shape[0], self.outputs, dtype=dtype or x.dtype), native.library()  # (rows, outputs)
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
        """Return True if the kernels take these shapes and dtypes; torch raises the error for wrong ones."""
        shape = (*x.shape[:-1], self.outputs)
        if self.format.kernel is None:
            return False
        fits = x.ndim > 0 and x.shape[-1] == self.shape[1] and (dtype is None or dtype in native.TYPES)
        return fits and (add is None or (add.shape == shape and add.is_cpu))

    def without_norm(self, x: Tensor) -> Tensor:
        """Return the product without the norm after it, which `normalized` computes."""
        return self(x) if not self.after.kind else self.definition(x, normalize=False)

    def normalized(self, total: Tensor) -> Tensor:
        """Return the norm after the product, of what the caller computed: (rows, outputs)."""
        return _norm(total.float(), self.after, self.after_weight, self.after_bias).to(total.dtype)

    def definition(self, x: Tensor, add: Tensor | None = None, normalize: bool = True) -> Tensor:
        """Compute the product in torch's operations, with gradients to x.

        Args:
            normalize: whether the norm after the product is computed.
        """
        # (..., inputs); norms in float32, as in the kernels
        wide = _norm(x.float(), self.norm, self.norm_weight, self.norm_bias)
        bias = None if self.offsets is None else self.offsets[: self.shape[0]]  # (outputs of the product,)
        y = self.format.linear(wide.reshape(-1, x.shape[-1]), self.packed, bias)  # (rows, outputs of the product)
        y = y.view(*x.shape[:-1], y.shape[1])  # (..., outputs of the product)
        if self.gated:
            # panels hold gates and ups in turn: (..., panels, 2, half a panel)
            gate, up = (part.flatten(-2) for part in y.unflatten(-1, (-1, 2, PANEL // 2)).unbind(-2))
            y = (ACTIVATIONS[self.act](gate) * up if self.act else gate * up)[..., : self.outputs]
        elif self.act:
            y = ACTIVATIONS[self.act](y)
        after = self.after.kind and normalize
        if after and self.inner:
            # rounded before and after, since the kernels store the product before its norm
            y = _norm(y.to(x.dtype).float(), self.after, self.after_weight, self.after_bias).to(x.dtype)
        if add is not None:
            y = y + add
        if after and not self.inner:
            # the sum is rounded first, since the kernels store it before its norm
            y = _norm(y.to(x.dtype).float(), self.after, self.after_weight, self.after_bias)
        return y.to(x.dtype)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in IN_STRUCT:
            self._struct, self._address = None, 0

    @property
    def memory(self) -> list[Any]:
        """Objects that `address` points at. A caller that stores the address keeps these alive, too."""
        return [self._struct, *(getattr(self, name) for name in BUFFERS)]

    @property
    def address(self) -> int:
        """Address of the C structure of this layer, valid while its tensors stay where they are.

        Raises:
            InvalidInput: a buffer of another layout than the kernels read.
        """
        if self._address:
            return self._address
        tensors = {name: getattr(self, name) for name in BUFFERS}
        self._check(tensors)
        pointers = {name: None if x is None else x.data_ptr() for name, x in tensors.items()}
        # the buffer has another name, since `bias` is a property of `PackedLinear`
        pointers["bias"] = pointers.pop("offsets")
        self._struct = native.Weight(
            kind=self.format.kernel, act=NUMBERS[self.act] if self.act else 0, gated=int(self.gated),
            norm=self.norm.kind, after=self.after.kind, inner=int(self.inner), zero=128,
            norm_eps=self.norm.eps, after_eps=self.after.eps, inputs=self.shape[1], outputs=self.outputs,
            width=panel_width(self.shape[0]), **pointers,
        )  # fmt: skip
        self._address = ctypes.addressof(self._struct)
        return self._address

    def _check(self, tensors: Mapping[str, Tensor | None]) -> None:
        """Compare buffers with what the kernels will read. Raises InvalidInput."""
        need = packed_layout(self.format.name, self.shape)
        needed = {"codes": need.codes.view(torch.uint8), "scales": need.scales, "minima": need.minima}
        sizes = {name: (x.dtype, x.numel()) for name, x in needed.items() if x is not None}
        widths = {"offsets": panel_width(self.shape[0]), "norm": self.shape[1], "after": self.outputs}
        for name, x in tensors.items():
            want = sizes.get(name, (torch.float32, widths.get(name.partition("_")[0], 0)))
            absent = x is None and name not in sizes
            if not absent and (x is None or (x.dtype, x.numel()) != want or not x.is_contiguous() or not x.is_cpu):
                raise InvalidInput(
                    f"A packed product of format {self.format.name} and shape {list(self.shape)} needs {name} of "
                    f"{want[1]} numbers in {want[0]} on the CPU, side by side; prepare the model again."
                )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """Move the buffers to a device, and keeps their dtypes."""
        for name in BUFFERS:
            value = getattr(self, name)
            if value is not None:
                # `fn` moves an empty tensor, to learn the device alone: dtypes stay
                setattr(self, name, value.to(fn(value.new_empty(0)).device))
        self._struct, self._address = None, 0
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_struct": None, "_address": 0}

    def extra_repr(self) -> str:
        return f"{self.shape[1]} -> {self.outputs}, {self.format.name}" + (f", {self.act}" if self.act else "")


def stacked_biases(weights: Sequence[Tensor], biases: Sequence[Tensor | None], gated: bool) -> Tensor | None:
    """Return the biases of a matrix's parts in one float32 tensor, in panel order; None where no part has one.

    Args:
        weights: (outputs, inputs) each. biases: (outputs,) each, or none. gated: outputs of the two parts take turns.
    """
    if all(bias is None for bias in biases):
        return None
    device = weights[0].device
    real = "cpu" if device.type == "meta" else device  # torch.cat on the meta device imports torch's compiler, a second
    parts = [
        torch.zeros(len(w), device=real) if b is None or b.is_meta else b.detach().float()
        for w, b in zip(weights, biases, strict=True)
    ]
    return (interleave(*parts) if gated else torch.cat(parts)).to(device)


class PackedLinear(FusedLinear):
    """A `Linear` alone, in panels; `weight` is decoded again at each use.

    Args:
        bias: in place of the layer's own.
    """

    def __init__(self, linear: nn.Linear, format: str, bias: Tensor | None = None) -> None:
        super().__init__([linear.weight], [linear.bias if bias is None else bias], format)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.sample = linear.weight.dtype

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs)."""
        return self.format.weight(self.packed).to(self.sample)

    @property
    def bias(self) -> Tensor | None:
        """(outputs,)."""
        # without what fills up panels
        return None if self.offsets is None else self.offsets[: self.out_features].to(self.sample)


def _norm(x: Tensor, norm: NormSpec, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if norm.kind == 0:
        return x
    if norm.kind == 2:
        return F.layer_norm(x, x.shape[-1:], weight, bias, norm.eps)
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps)  # (..., width)
    return y if weight is None else y * weight


register(
    FusedLinear, " ".join(BUFFERS) + " _address _struct act after format gated inner norm numbers outputs parts shape"
)
register(PackedLinear, "in_features out_features sample", base=FusedLinear)
