"""Parts of a model by the reference's names: a tree of modules over the model's own.

A part whose parameters are those of one of our modules in our layout is that module. Every other one is a `Part`, which
holds inner parts and reaches the model's modules: what is assigned, hooked or moved there happens to them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..errors import InvalidInput, UnknownPart, UnsupportedOption
from ..kernels.ops import linear
from .assigned_parts import join_outputs
from .part_hooks import JoinedHooks, PartHooks, ScoreHooks, SpanHooks
from .part_spans import span_of, tied_head
from .stored_tensors import Piece, StoredTensor, is_sharded, shown, state_value
from .tensors import Conv1D

HOOKS = ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
         "register_full_backward_pre_hook")  # fmt: skip


@dataclass(eq=False)
class PartInfo:
    """Place of a part in the reference's tree.

    Args:
        path: the reference's. model: that it is a part of.
        own: our module that computes the same; None where none does. cover: our modules inside of the part, each whole.
        tensors: the reference's leaf name -> the tensor in its layout. shown: those that were asked for.
        replace: puts a program's module in the place of an inner part.
        base: makes the model without its head, for the part that is one. made: that model, once it is.
        hooks: those of a part without a module of ours, once there is one.
    """

    path: str
    model: weakref.ref[nn.Module]
    own: nn.Module | None
    cover: tuple[nn.Module, ...]
    tensors: Mapping[str, StoredTensor]
    replace: Callable[[PartInfo, nn.Module | None, Any, str], None]
    base: Callable[[], nn.Module] | None = None
    made: Any = None
    hooks: PartHooks | None = None
    shown: dict[str, nn.Parameter] = field(default_factory=dict)


class Part(nn.Module):
    """A part of a model under the reference's name.

    Args:
        inner: parts by name: other parts, or modules of the model.
    """

    part_info: PartInfo

    def __init__(self, info: PartInfo, inner: Mapping[str, nn.Module], training: bool) -> None:
        nn.Module.__init__(self)
        self.__dict__["part_info"] = info
        self.__dict__["training"] = training
        self._modules.update(inner)
        each = [(leaf, one, learned_pieces(leaf, one)) for leaf, one in info.tensors.items()]
        copies = {name for _, one, named in each if one.copy for name in named}
        pieces = {name: piece for _, _, named in each for name, piece in named.items()}
        self.__dict__["_parameters"] = PartParameters(pieces, copies)

    def __getattr__(self, name: str) -> Any:
        info: PartInfo | None = self.__dict__.get("part_info")
        if info is not None and name in info.tensors:
            if name not in info.shown:
                info.shown[name] = shown(info.tensors[name])
            return info.shown[name]
        try:
            return super().__getattr__(name)
        except AttributeError:
            if info is not None and (inner := self._inner_owner(name)) is not None:
                return inner
            if info is None or info.own is None or name.startswith("__"):
                path = type(self).__name__ if info is None else info.path
                raise UnknownPart(f"{path} has no {name!r}: it has {self._contents()}.") from None
            return getattr(info.own, name)

    def __setattr__(self, name: str, value: Any) -> None:
        info: PartInfo | None = self.__dict__.get("part_info")
        if info is None or name == "training":
            super().__setattr__(name, value)
        elif name == "__class__":
            own = "the model" if info.own is None else f"our module of it, a {type(info.own).__name__}"
            raise UnsupportedOption(
                f"{info.path} shows modules of the model and keeps its class, which torch's fully_shard changes: call "
                f"it with {own}. model.backbone holds the layers."
            )
        elif isinstance(value, nn.Parameter) and name in self._parameters and self._is_own(name, value):
            self._parameters[name] = value
            info.shown.pop(name, None)
        elif name in info.tensors:
            self._set_tensor(info, name, value)
        elif name in self._modules:
            info.replace(info, self._modules[name], value, f"{info.path}.{name}".lstrip("."))
            self._modules[name] = value
        elif isinstance(value, (nn.Module, nn.Parameter)):
            raise UnsupportedOption(
                f"{info.path}.{name} is no part of the model, so that no pass would use it. Its parts are "
                f"{self._contents()}."
            )
        elif info.own is not None and hasattr(info.own, name):
            setattr(info.own, name, value)
        else:
            super().__setattr__(name, value)

    def _inner_owner(self, name: str) -> nn.Module | None:
        """Return our module `c_attn.q`, one of several that a tensor is made of; None for another name."""
        held: Any = self._parameters
        for path, piece in held.pieces.items():
            first, dot, rest = path.partition(".")
            if dot and first == name:
                stem = piece.path.removesuffix(f".{rest}")
                model: Any = self.part_info.model()
                return None if model is None else model.get_submodule(stem)
        return None

    def _is_own(self, name: str, value: nn.Parameter) -> bool:
        """Return whether a parameter is one of `named_parameters`, in our layout, which fully_shard exchanges.

        It shards a parameter and puts the whole one back; nobody can have made either in the reference's layout.
        """
        held: Any = self._parameters
        piece = held.pieces.get(name)
        if piece is None or name not in self.part_info.tensors:
            return piece is not None
        return value is piece.parameter or is_sharded(value) or is_sharded(piece.parameter)

    def _set_tensor(self, info: PartInfo, name: str, value: Any) -> None:
        """Give a tensor other numbers; a parameter of our layout takes the place of the model's own."""
        if not isinstance(value, Tensor):
            raise UnsupportedOption(f"{info.path}.{name} is a tensor of the model; it cannot be {value!r:.60}.")
        tensor = info.tensors[name]
        piece = tensor.pieces[0]
        plain = len(tensor.pieces) == 1 and piece.is_plain
        # `functional_call` assigns to the model itself
        if plain and (isinstance(value, nn.Parameter) or not info.path):
            parameter: Any = value
            piece.owner._parameters[piece.leaf] = parameter
            self._parameters[name] = info.shown[name] = parameter
        elif value is not info.shown.get(name):
            tensor.write(value)

    def _contents(self) -> str:
        return ", ".join((*self._modules, *self.part_info.tensors)) or "no parts"

    def __getitem__(self, number: int) -> Any:
        try:
            return self._modules[str(number)]
        except KeyError:
            raise UnknownPart(f"{self.part_info.path} has no {number!r}: it has {self._contents()}.") from None

    def forward(self, *args: Any, **options: Any) -> Any:
        """Call our module that computes the same, with its own arguments, or the model without its head.

        Raises:
            UnsupportedOption: no module here computes the same.
        """
        info = self.part_info
        if info.base is not None:
            info.made = info.made or info.base()
            model = info.model()
            for part in (info.made, *(info.made.head.modules() if info.made.head is not None else ())):
                part.training = self.training if model is None else model.training
            return info.made(*args, **options)
        return self.own_module("be called")(*args, **options)

    def own_module(self, what: str) -> nn.Module:
        """Return our module that computes the same. Raises UnsupportedOption, which says `what` needs it."""
        if self.part_info.own is None:
            raise UnsupportedOption(
                f"{self.part_info.path} cannot {what}: no module here computes just what the reference's does. Its "
                f"inner parts can: {self._contents()}."
            )
        return self.part_info.own

    def train(self, mode: bool = True) -> Part:
        """Set the mode of our modules inside of the part."""
        for module in self.part_info.cover:
            module.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Part:
        for module in self.part_info.cover:
            module._apply(fn)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for leaf, tensor in self.part_info.tensors.items():
            destination[prefix + leaf] = getattr(self, leaf) if keep_vars else state_value(tensor)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        tensors = self.part_info.tensors
        for leaf, tensor in tensors.items():
            if prefix + leaf in state_dict:
                try:
                    tensor.write(state_dict[prefix + leaf])
                except InvalidInput as error:
                    error_msgs.append(str(error))
            elif strict:
                missing_keys.append(prefix + leaf)
        inside = {name: name.removeprefix(prefix).split(".") for name in state_dict if name.startswith(prefix)}
        unexpected_keys += [
            name for name, path in inside.items() if strict and path[0] not in (self._modules if path[1:] else tensors)
        ]

    def extra_repr(self) -> str:
        return ", ".join(f"{leaf}: {list(x.read().shape)}" for leaf, x in self.part_info.tensors.items())


class PartParameters(dict[str, Any]):
    """Parameters of a part by the names of `learned_pieces`; what torch puts in a place is put into our module too.

    `torch.func.functional_call` exchanges parameters in this way, tied ones under each of their names.

    Args:
        copies: further names of tied parameters, which leave our module alone.
    """

    def __init__(self, pieces: Mapping[str, Piece], copies: Set[str]) -> None:
        super().__init__({name: piece.parameter for name, piece in pieces.items()})
        self.pieces, self.copies = pieces, copies

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        if name not in self.copies and (piece := self.pieces.get(name)) is not None:
            piece.owner._parameters[piece.leaf] = value


def learned_pieces(leaf: str, tensor: StoredTensor) -> dict[str, Piece]:
    """Return the pieces of a stored tensor by names: its own, or with our names where it has several."""
    if len(tensor.pieces) == 1:
        return {leaf: tensor.pieces[0]}
    parts = [piece.path.split(".") for piece in tensor.pieces]
    size = next(n for n in range(1, 99) if len({tuple(part[-n:]) for part in parts}) == len(parts))
    return {".".join(p[-size:]): piece for p, piece in zip(parts, tensor.pieces, strict=True)}


def _hook_method(name: str) -> Callable[..., Any]:
    def register(self: Part, hook: Callable[..., Any], *args: Any, **options: Any) -> Any:
        own = self.part_info.own
        if isinstance(self, PartList):
            return getattr(nn.Module, name)(self, hook, *args, **options)  # no pass calls a list, nor the reference's
        if own is not None:
            return getattr(own, name)(lambda _, *given: hook(self, *given), *args, **options)
        return _part_hooks(self).register(name, hook, *args, **options)

    register.__name__, register.__doc__ = (
        name,
        f"Do what torch's `{name}` does. Raises UnsupportedOption for some parts.",
    )
    return register


def _part_hooks(part: Part) -> PartHooks:
    """Return the hooks of a part without a module of ours. Raises UnsupportedOption where nothing of ours spans it."""
    info, model = part.part_info, part.part_info.model()
    pieces = info.tensors["weight"].pieces if isinstance(part, (LinearPart, Conv1DPart)) else ()
    linear_only = all(piece.index is None and isinstance(piece.owner, nn.Linear) for piece in pieces)
    if info.hooks is None and len(pieces) > 1 and linear_only:
        info.hooks = JoinedHooks(part, [piece.owner for piece in pieces], [piece.source for piece in pieces])
    elif info.hooks is None and len(pieces) == 1 and not info.cover:
        head = tied_head(model, pieces[0].parameter)
        info.hooks = None if head is None else ScoreHooks(part, head)
    elif info.hooks is None:
        span = span_of(model, info.cover, info.base is not None)
        info.hooks = None if span is None else SpanHooks(part, span)
    if info.hooks is None:
        part.own_module("have hooks")
    assert info.hooks is not None
    return info.hooks


for _name in HOOKS:
    setattr(Part, _name, _hook_method(_name))


class PartList(Part, nn.ModuleList):
    """A list of parts."""

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return nn.ModuleList(list(self._modules.values())[place])
        return nn.ModuleList.__getitem__(self, place)

    __len__ = nn.ModuleList.__len__
    __iter__: Callable[..., Iterator[Any]] = nn.ModuleList.__iter__


class LinearPart(Part, nn.Linear):
    """A linear layer of the reference that is no module of its own here: a tied one, or one of several of ours."""

    @property
    def out_features(self) -> int:  # type: ignore[override]
        return int(self.weight.shape[0])

    @property
    def in_features(self) -> int:  # type: ignore[override]
        return int(self.weight.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs), in the reference's order."""
        return _outputs(self, x)

    extra_repr = Part.extra_repr


class Conv1DPart(Part, Conv1D):
    """A linear layer whose weight is (inputs, outputs) in the reference."""

    @property
    def nf(self) -> int:  # type: ignore[override]
        return int(self.weight.shape[1])

    @property
    def nx(self) -> int:  # type: ignore[override]
        return int(self.weight.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs), in the reference's order."""
        return _outputs(self, x)

    extra_repr = Part.extra_repr


def _outputs(part: Part, x: Tensor) -> Tensor:
    """Return the outputs of a linear part."""
    pieces = part.part_info.tensors["weight"].pieces
    if all(piece.index is None and isinstance(piece.owner, nn.Linear) for piece in pieces):
        return join_outputs([piece.source for piece in pieces], [piece.owner(x) for piece in pieces])
    weight: Tensor = part.weight
    return linear(x, weight if isinstance(part, LinearPart) else weight.T, getattr(part, "bias", None))
