"""Tensors in the reference's layout over the model's own parameters: they read and write through.

GPT-2's `c_attn.weight` is (inputs, outputs) and holds queries, keys and values, which are three matrices (outputs,
inputs) here. A `StoredTensor` makes the one of the three, and the three of the one, by the sources of the key map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..checkpoints.tensor_sources import Source
from ..errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Piece:
    """A parameter of the model that a stored tensor is made of.

    Args:
        path: of the parameter. owner, leaf: the module that holds it, and its name there.
        index: which of the source's tensors the stored one is; None where the source has one.
    """

    path: str
    owner: nn.Module
    leaf: str
    source: Source
    index: int | None = None

    @property
    def parameter(self) -> nn.Parameter:
        found = self.owner._parameters[self.leaf]
        assert found is not None  # no nn.Parameter inside of `torch.func.functional_call`
        return found

    @property
    def memory(self) -> int:
        """Address of the parameter's memory."""
        return self.parameter.untyped_storage().data_ptr()

    @property
    def is_plain(self) -> bool:
        """True if the stored tensor is the parameter itself."""
        return self.index is None and type(self.source).write is Source.write


def value_of(parameter: nn.Parameter) -> Tensor:
    """Return the parameter itself: results computed with it have a gradient."""
    return parameter


def detached(parameter: nn.Parameter) -> Tensor:
    """Return the parameter without a gradient."""
    return parameter.detach()


def is_sharded(tensor: Any) -> bool:
    """Return whether a tensor is a DTensor, whose class takes long to import."""
    return hasattr(tensor, "full_tensor")


def gathered(tensor: Tensor) -> Tensor:
    """Return a tensor without a gradient, a sharded one whole: all processes call this together."""
    value: Any = tensor.detach()
    return value.full_tensor() if is_sharded(value) else value


def sharded_like(parameter: Tensor, whole: Tensor) -> Tensor:
    """Return this process's part of a tensor, sharded as a parameter is; the tensor where that is not sharded."""
    if not is_sharded(parameter) or is_sharded(whole):
        return whole
    from torch.distributed.tensor import distribute_tensor

    held: Any = parameter
    return distribute_tensor(whole, held.device_mesh, held.placements, src_data_rank=None)


def gradient(parameter: nn.Parameter) -> Tensor:
    """Return the gradient, zeros before there is one."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor of the reference's layout, made of parameters of the model.

    Args:
        part: of each parameter is meant: the value, the value without a gradient, or the gradient.
        copy: True for a further name of a tied tensor.
    """

    name: str
    pieces: tuple[Piece, ...]
    part: Callable[[nn.Parameter], Tensor] = field(default=value_of)
    copy: bool = False

    def read(self) -> Tensor:
        """Return the tensor as it is now; one that shares memory with a parameter where that is possible."""
        if not torch.is_grad_enabled():
            return self._assemble()
        with torch.no_grad():
            whole = self._assemble()
        memory = whole.untyped_storage().data_ptr()
        if len(self.pieces) == 1 and (self.pieces[0].index is not None or memory == self.pieces[0].memory):
            return self._assemble()
        learns = self.part is value_of and any(piece.parameter.requires_grad for piece in self.pieces)
        return self._gather(whole) if learns else whole

    def _assemble(self) -> Tensor:
        stored: Tensor | None = None
        for piece in self.pieces:
            written = piece.source.write(self.part(piece.parameter), stored)
            stored = written if isinstance(written, Tensor) else written[piece.index or 0]
        assert stored is not None
        return stored

    def of(self, part: Callable[[nn.Parameter], Tensor]) -> StoredTensor:
        """Return the same of another part of the parameters."""
        return replace(self, part=part)

    def _gather(self, whole: Tensor) -> Tensor:
        """Return the tensor with a gradient for every parameter; sources write in place, which has none."""
        places = torch.arange(whole.numel(), device=whole.device).view(whole.shape)
        order = torch.cat([piece.source.read(places).flatten() for piece in self.pieces])
        numbers = torch.cat([piece.parameter.flatten() for piece in self.pieces])
        return numbers[order.argsort()].view(whole.shape)

    def write(self, value: Tensor) -> None:
        """Give the parameters the numbers of a tensor. Raises InvalidInput where its shape is another."""
        with torch.no_grad():
            for piece in self.pieces:
                if self.part is gradient and piece.parameter.grad is None:
                    piece.parameter.grad = torch.zeros_like(piece.parameter)
                own = self.part(piece.parameter)
                given = [value]
                if piece.index is not None:
                    given = list(piece.source.write(own.detach(), None))
                    if given[piece.index].shape != value.shape:
                        raise InvalidInput(f"{self.name} is {list(self.read().shape)}, not {list(value.shape)}.")
                    given[piece.index] = value
                new = piece.source.read(*given)
                if new.shape != own.shape:
                    raise InvalidInput(f"{self.name} is {list(self.read().shape)}, not {list(value.shape)}.")
                if new.data_ptr() != own.data_ptr() or new.stride() != own.stride():
                    own.copy_(new)


@dataclass(frozen=True, eq=False)
class StoredStack:
    """A tensor that the reference's module has in one and its files in parts, such as the gates and ups of all experts.

    Args:
        parts: what is concatenated; of each number, where they are stacked.
    """

    name: str
    parts: tuple[tuple[StoredTensor, ...], ...]
    stacked: bool

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(dict.fromkeys(piece for one in self.parts for part in one for piece in part.pieces))

    @property
    def part(self) -> Callable[[nn.Parameter], Tensor]:
        return self.parts[0][0].part

    def of(self, part: Callable[[nn.Parameter], Tensor]) -> StoredStack:
        """Return the same of another part of the parameters."""
        return replace(self, parts=tuple(tuple(x.of(part) for x in one) for one in self.parts))

    def read(self) -> Tensor:
        """Return the tensor as it is now, a copy."""
        each = [torch.cat([part.read() for part in one]) for one in self.parts]
        return torch.stack(each) if self.stacked else each[0]

    def write(self, value: Tensor) -> None:
        """Give the parameters the numbers of a tensor. Raises InvalidInput where its shape is another."""
        if value.shape != (shape := self.read().shape):
            raise InvalidInput(f"{self.name} is {list(shape)}, not {list(value.shape)}.")
        for one, rows in zip(self.parts, value.unbind() if self.stacked else [value], strict=True):
            for part, own in zip(one, rows.chunk(len(one)), strict=True):
                part.write(own)


@dataclass(frozen=True, eq=False)
class StoredView:
    """A view of a stored tensor, such as some of its rows, that writes through to it.

    Args:
        take: makes the view of the whole tensor.
    """

    whole: StoredTensor | StoredStack | StoredView
    take: Callable[[Tensor], Tensor]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.whole.pieces

    @property
    def part(self) -> Callable[[nn.Parameter], Tensor]:
        return self.whole.part

    def of(self, part: Callable[[nn.Parameter], Tensor]) -> StoredView:
        """Return the same of another part of the parameters."""
        return replace(self, whole=self.whole.of(part))

    def read(self) -> Tensor:
        """Return the view as it is now."""
        return self.take(self.whole.read())

    def write(self, value: Tensor) -> None:
        """Give the parameters the numbers of the view."""
        with torch.no_grad():
            whole = self.whole.read().clone()
            self.take(whole).copy_(value)
            self.whole.write(whole)


AnyStored = StoredTensor | StoredStack | StoredView


class StoredParameter(nn.Parameter):
    """Parameter of the reference's layout: operations read a `StoredTensor`, and operations in place write it.

    It holds no numbers itself. Gradients of what is computed with it reach the model's own parameters.
    """

    stored: AnyStored
    kept: Tensor  # what `data_ptr` points to

    def __new__(cls, stored: AnyStored) -> StoredParameter:
        made = torch.Tensor._make_subclass(cls, torch.empty(0), False)
        made.stored = stored
        return made

    def __init__(self, stored: AnyStored) -> None:
        """Do nothing: `__new__` has made it."""

    def read(self) -> Tensor:
        """Return the tensor as it is now."""
        return self.stored.read()

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        used: dict[int, tuple[StoredParameter, Tensor]] = {}

        def plain(x: Any) -> Any:
            if not isinstance(x, StoredParameter):
                return x
            return used.setdefault(id(x), (x, x.read()))[1]

        with torch._C.DisableTorchFunctionSubclass():
            given = tree_map(plain, (tuple(args), dict(kwargs or {})))
            versions = [tensor._version for _, tensor in used.values()]
            out = func(*given[0], **given[1])
            for (one, tensor), version in zip(used.values(), versions, strict=True):
                if tensor._version != version:
                    one.stored.write(tensor)
                if out is tensor:
                    return one
            if len(used) != 1:
                return out
            ((one, tensor),) = used.values()
            one.kept = tensor
            return one._with_views(out, tensor, lambda whole: _call_on(whole, tensor, func, given))

    def _with_views(self, out: Any, tensor: Tensor, take: Callable[[Tensor], Any]) -> Any:
        """Return a result of an operation, in which views of a temporary `tensor` write through."""
        memory = tensor.untyped_storage().data_ptr()
        if any(piece.memory == memory for piece in self.stored.pieces):
            return out  # it is no copy
        if isinstance(out, Tensor) and out.untyped_storage().data_ptr() == memory:
            return StoredParameter(StoredView(self.stored, take))
        if isinstance(out, (list, tuple)) and all(isinstance(x, Tensor) for x in out):
            views = [self._with_views(x, tensor, _taken(take, i)) for i, x in enumerate(out)]
            return views if type(out) is list else tuple(views) if type(out) is tuple else out
        return out

    @property
    def data(self) -> Tensor:
        return type(self)(self.stored.of(detached))

    @data.setter
    def data(self, value: Tensor) -> None:
        self.stored.write(value)

    @property
    def grad(self) -> Tensor | None:
        if self.stored.part is not value_of or all(piece.parameter.grad is None for piece in self.stored.pieces):
            return None
        return StoredParameter(self.stored.of(gradient))

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            self.stored.of(gradient).write(value)
            return
        for piece in self.stored.pieces:
            piece.parameter.grad = None

    @property
    def is_leaf(self) -> bool:  # type: ignore[override]
        return True  # optimizers read its gradient and change it in place

    @property
    def requires_grad(self) -> bool:
        if self.stored.part is not value_of:
            return False
        return any(piece.parameter.requires_grad for piece in self.stored.pieces)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> StoredParameter:
        """Let the model's parameters learn, or not."""
        for piece in self.stored.pieces if self.stored.part is value_of else ():
            piece.parameter.requires_grad_(requires_grad)
        return self

    def detach(self) -> Tensor:
        """Return the tensor without a gradient; it writes through."""
        return self.data

    def _plain(self) -> Tensor:
        copied = self.stored.read().detach().clone(memory_format=torch.contiguous_format)
        return nn.Parameter(copied, self.requires_grad) if self.stored.part is value_of else copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return memo.setdefault(id(self), self._plain())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._plain().__reduce_ex__(protocol)


class StoredValue(StoredParameter):
    """The same as a value of a state dict: without a gradient, contiguous, and always at one place in memory.

    Writers of files take the address of a tensor, and read it later.
    """

    packed: Tensor | None = None
    made_of: tuple[Any, ...] = ()

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        one: Any = args[0] if args else None
        if func in LAYOUT and isinstance(one, StoredValue) and one.packed is not None and one.made_of == one._pieces():
            with torch._C.DisableTorchFunctionSubclass():
                return func(one.packed, *args[1:], **(kwargs or {}))  # no numbers are read
        return super().__torch_function__(func, types, args, kwargs)

    def _pieces(self) -> tuple[Any, ...]:
        return tuple((p.shape, p.dtype, p.device) for p in (piece.parameter for piece in self.stored.pieces))

    def read(self) -> Tensor:
        """Return the tensor as it is now, in the memory of the last time."""
        with torch.no_grad():
            now = self.stored.of(detached).read()
            old, made_of = self.packed, self._pieces()
            if old is None or self.made_of != made_of:
                owned = all(piece.memory != now.untyped_storage().data_ptr() for piece in self.stored.pieces)
                copied = now if owned and now.is_contiguous() else now.clone(memory_format=torch.contiguous_format)
                self.packed, self.made_of = copied, made_of
                return copied
            return old.copy_(now)


_PROPERTIES = ("shape", "dtype", "device", "layout", "ndim")
LAYOUT = {getattr(Tensor, name).__get__ for name in _PROPERTIES} | {
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.nelement, Tensor.element_size, Tensor.stride, Tensor.is_contiguous,
    Tensor.is_floating_point,
}  # fmt: skip


def state_value(tensor: StoredTensor) -> Tensor:
    """Return a tensor for a state dict, which writes through: a view of a parameter, or one that writes it.

    Of parameters that are sharded over processes it is a sharded copy; all processes make it together.
    """
    one = tensor.pieces[0]
    if len(tensor.pieces) == 1 and one.is_plain:
        return one.parameter.detach()
    if is_sharded(one.parameter):
        with torch.no_grad():
            return sharded_like(one.parameter, tensor.of(gathered).read())
    if len(tensor.pieces) == 1:
        value = tensor.read().detach()
        if value.is_contiguous() and value.untyped_storage().data_ptr() == one.memory:
            return value
    return StoredValue(tensor.of(detached))


def plain_tensor(value: Tensor) -> Tensor:
    """Return a tensor that is no `StoredParameter`, with the numbers of now."""
    return value.stored.read().detach() if isinstance(value, StoredParameter) else value


def shown(tensor: StoredTensor) -> nn.Parameter:
    """Return a tensor as a parameter: the model's own, or one that reads and writes the model's parameters."""
    plain = len(tensor.pieces) == 1 and tensor.pieces[0].is_plain
    return tensor.pieces[0].parameter if plain else StoredParameter(tensor)


def _taken(take: Callable[[Tensor], Any], number: int) -> Callable[[Tensor], Any]:
    """Return a function that takes one of several results."""
    return lambda whole: take(whole)[number]


def _call_on(whole: Tensor, tensor: Tensor, func: Callable[..., Any], given: Any) -> Any:
    """Call a function with `whole` in the place of `tensor`."""
    args, kwargs = tree_map(lambda x: whole if x is tensor else x, given)
    return func(*args, **kwargs)
