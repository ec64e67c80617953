"""Tensors as the blocks of codes that a file holds, which become numbers when something computes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

BYTES = 1 << 20  # of blocks that are read at once, so that intermediates stay in the processor's cache

Parts = tuple[Tensor, Tensor, Tensor | None]  # codes, scales, minima


@dataclass(frozen=True)
class Form:
    """A kind of block. A number is its code times the scale of its group, plus the group's minimum.

    Args:
        numbers, size: of a block; the size in bytes.
        read: blocks (count, size), uint8, to codes (count, numbers) in 8 bits, and scales and, where it has some,
            minima (count, groups) in float32.
        kind: the narrowest of `packed.KINDS` that holds such numbers, or comes near them.
        same: whether that kind has the very same codes.
    """

    numbers: int
    size: int
    read: Callable[[Tensor], Parts]
    kind: str
    same: bool


class Stored(Tensor):
    """A tensor (..., columns) in a file's blocks, for reading: whatever torch does with it, it does with its numbers.

    Args:
        blocks: (..., bytes), uint8; what moves its rows moves those of the tensor.
    """

    blocks: Tensor
    form: Form
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # results are plain

    @staticmethod
    def __new__(cls, blocks: Tensor, form: Form) -> Stored:
        shape = *blocks.shape[:-1], blocks.shape[-1] // form.size * form.numbers
        made: Stored = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32, device=blocks.device)
        made.blocks, made.form = blocks, form
        return made

    def moved(self, read: Callable[[Tensor], Tensor]) -> Stored:
        """The tensor after `read`, which moves whole rows and changes nothing in them."""
        return Stored(read(self.blocks), self.form)

    def parts(self) -> Parts:
        """Codes (..., columns), and scales and minima (..., groups)."""
        found = [self.form.read(part) for part in self._pieces()]

        def whole(parts: list[Tensor]) -> Tensor:
            x = torch.cat(parts)
            return x.view(*self.shape[:-1], x.shape[1] * (self.shape[-1] // self.form.numbers))

        minima = [part[2] for part in found if part[2] is not None]
        return whole([part[0] for part in found]), whole([part[1] for part in found]), whole(minima) if minima else None

    def numbers(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor as any other."""
        out, begin = torch.empty(self.numel() // self.form.numbers, self.form.numbers, dtype=dtype), 0
        for part in self._pieces():
            codes, scales, minima = self.form.read(part)
            groups = codes.unflatten(1, (scales.shape[1], -1)).float().mul_(scales[..., None])
            groups = groups if minima is None else groups.add_(minima[..., None])
            out[begin : begin + len(part)] = groups.flatten(1)
            begin += len(part)
        return out.view(self.shape)

    def _pieces(self) -> Iterator[Tensor]:
        """All blocks, some at a time: (count, size)."""
        return iter(self.blocks.reshape(-1, self.form.size).split(max(1, BYTES // self.form.size)))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].blocks, args[0].form)
        args, kwargs = tree_map_only(cls, cls.numbers, (args, kwargs or {}))
        return func(*args, **kwargs)


def slices(weight: Tensor, rows: int) -> Iterator[Tensor]:
    """So many rows of a matrix at a time, in float32."""
    for part in (weight.blocks if isinstance(weight, Stored) else weight).split(rows):
        yield Stored(part, weight.form).numbers() if isinstance(weight, Stored) else part.float()


def in_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, and nothing else of a stored tensor."""
    return x.numbers(dtype) if isinstance(x, Stored) else x.to(dtype)
