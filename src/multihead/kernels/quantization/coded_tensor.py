"""Tensors in a file's codes, which become numbers when an operation needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

T = TypeVar("T", bound="CodedTensor")


class QuantizedMatrix(NamedTuple):
    """Codes with their scales and minima, in a format's own layout.

    Args:
        codes: dimension 0 is the outputs, unless the format says otherwise. scales, minima: of rows or groups, float32.
    """

    codes: Tensor
    scales: Tensor | None = None
    minima: Tensor | None = None


class CodedTensor(Tensor):
    """A tensor in a file's codes, for reading: every operation of torch works on its numbers.

    A subclass needs `numbers` alone. Its shape and device are those of the numbers, and its dtype is float32.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # results are plain

    @classmethod
    def of_shape(cls: type[T], shape: Sequence[int], device: torch.device | None = None) -> T:
        """Return a tensor of this class without memory."""
        made: T = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32, device=device)
        return made

    def copy(self) -> CodedTensor:
        """Return a tensor of the same codes."""
        raise NotImplementedError

    def numbers(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the tensor dequantized: in float32, then rounded once."""
        raise NotImplementedError

    @property
    def narrowest(self) -> str:
        """The narrowest of `registry.FORMATS` that holds such weights, or comes near them."""
        return "bf16"

    def kept(self, format: str) -> QuantizedMatrix | None:
        """Return a matrix (outputs, inputs) as a format of `registry.FORMATS` holds its codes; None where it cannot."""
        return None

    def moved(self, read: Callable[[Tensor], Tensor]) -> CodedTensor:
        """Return the tensor after `read`, which moves whole rows and changes nothing in them."""
        return DerivedTensor([self], read)

    def transposed(self) -> CodedTensor:
        """Return the transpose of a matrix."""
        return DerivedTensor([self], lambda x: x.T)

    def matrices(self) -> Sequence[Tensor]:
        """Return the matrices of a stack, in codes where each can be decoded alone."""
        return self.numbers().unbind()

    def row_slices(self, rows: int) -> Iterator[Tensor]:
        """Yield so many rows of a matrix at a time, in float32."""
        yield from self.numbers().split(rows)

    def detach(self) -> CodedTensor:
        """Return a tensor of the same codes.

        nn.Parameter calls it for each weight. A call that torch dispatches would import torch's distributed tensors,
        which takes half a second.
        """
        return self.copy()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:  # detach must not decode: nn.Parameter calls it
            return args[0].copy()
        # every other operation reads numbers and gives a plain tensor
        args, kwargs = tree_map_only(CodedTensor, lambda x: x.numbers(), (args, kwargs or {}))
        return func(*args, **kwargs)


class DerivedTensor(CodedTensor):
    """A tensor that a function makes of others, some of them in codes, each time an operation needs its numbers.

    Args:
        parts: the arguments of `read`. read: a function of plain tensors.
    """

    parts: Sequence[Tensor]
    read: Callable[..., Tensor]

    @staticmethod
    def __new__(cls, parts: Sequence[Tensor], read: Callable[..., Tensor]) -> DerivedTensor:
        # the shape, without numbers
        made = cls.of_shape(read(*(torch.empty(part.shape, device="meta") for part in parts)).shape, parts[0].device)
        made.parts, made.read = parts, read
        return made

    def copy(self) -> DerivedTensor:
        return DerivedTensor(self.parts, self.read)

    def numbers(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.read(*(to_dtype(part, dtype) for part in self.parts))


def derive(read: Callable[..., Tensor], *parts: Tensor) -> Tensor:
    """Return `read(*parts)`, which waits for the first operation on it where parts are in codes."""
    return DerivedTensor(parts, read) if any(isinstance(part, CodedTensor) for part in parts) else read(*parts)


def move_rows(x: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `read(x)`, where `read` moves whole rows and changes nothing in them: codes stay codes."""
    return x.moved(read) if isinstance(x, CodedTensor) else read(x)


def matrices(stack: Tensor) -> Sequence[Tensor]:
    """Return the matrices of a stack, in codes where each can be decoded alone."""
    return stack.matrices() if isinstance(stack, CodedTensor) else stack.unbind()


def transposed(matrix: Tensor) -> Tensor:
    """Return the transpose of a matrix, in a file's codes where it is."""
    return matrix.transposed() if isinstance(matrix, CodedTensor) else matrix.T


def row_slices(weight: Tensor, rows: int) -> Iterator[Tensor]:
    """Yield so many rows of a matrix at a time, in float32."""
    if isinstance(weight, CodedTensor):
        yield from weight.row_slices(rows)
    else:
        yield from (part.float() for part in weight.split(rows))


def to_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `x.to(dtype)`; a tensor in codes is decoded straight to it."""
    return x.numbers(dtype) if isinstance(x, CodedTensor) else x.to(dtype)
