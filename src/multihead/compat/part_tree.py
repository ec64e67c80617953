"""The tree of a model's parts by the reference's names, made of the table of these names."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from torch import nn

from ..checkpoints.tensor_sources import Transposed
from ..nn.own_names import own_modules
from .part_assignment import replace_part
from .part_base import without_head
from .part_table import PartTable, part_table
from .parts import Conv1DPart, LinearPart, Part, PartInfo, PartList
from .stored_tensors import StoredParameter, StoredStack, StoredTensor, shown


@dataclass(eq=False)
class PartTree:
    """The parts of a model as it was when the tree was made.

    Args:
        root: the part of all others; its path is empty.
        table: of the names. tensors: by their names.
        state: what the model was made of then.
    """

    root: Part
    table: PartTable
    tensors: Mapping[str, StoredTensor]
    state: tuple[int, ...]


_TREES: weakref.WeakKeyDictionary[nn.Module, PartTree] = weakref.WeakKeyDictionary()
_TOP_NAMES: weakref.WeakKeyDictionary[nn.Module, tuple[str, ...]] = weakref.WeakKeyDictionary()


def part_tree(model: Any) -> PartTree:
    """Return the tree of a model as it is now, made anew only where its modules have changed."""
    state, found = _state(model), _TREES.get(model)
    if found is None or found.state != state:
        builder = TreeBuilder(model)
        tensors = {tensor.name: tensor for leaves in builder.leaves.values() for tensor in leaves.values()}
        found = _TREES[model] = PartTree(builder.part("")[0], builder.table, tensors, state)
    return found


def top_names(model: Any) -> tuple[str, ...]:
    """Return the reference's names of a model's outermost parts; they stay the same."""
    if model not in _TOP_NAMES:
        _TOP_NAMES[model] = ()  # making the tree asks the model for attributes that it may lack
        root = part_tree(model).root
        _TOP_NAMES[model] = tuple(dict.fromkeys((*root._modules, *root.part_info.tensors)))
    return _TOP_NAMES[model]


def find_part(model: Any, name: str) -> Any:
    """Return an outermost part by its name in the reference, one of `top_names`."""
    return getattr(part_tree(model).root, name)


def set_part(model: Any, name: str, value: nn.Module | nn.Parameter) -> None:
    """Put something in the place of an outermost part, one of `top_names`."""
    setattr(part_tree(model).root, name, value)


def find_module(model: Any, path: str) -> nn.Module | None:
    """Return a part by its path in the reference's model; None without one."""
    found: Any = part_tree(model).root
    for name in path.split("."):
        found = found._modules.get(name) if isinstance(found, nn.Module) else None
    return found if isinstance(found, nn.Module) else None


def find_tensor(model: Any, name: str) -> nn.Parameter | None:
    """Return a tensor by its name in the reference's model, where that has another name or is more than in its files.

    Files of a mixture of experts have a matrix for each expert, and the reference's model has one stack of all.
    """
    keys, tensors = model.keys, part_tree(model).tensors
    other = next((prefix for prefix in keys.prefixes if prefix and name.startswith(prefix)), None)
    current = keys.current_name(name if other is None or name in tensors else keys.prefix + name.removeprefix(other))
    if current in tensors:
        return shown(tensors[current])
    if current.endswith(".weight") or not (names := keys.names_of_parts(current)):
        return None
    parts = [tuple(tensors.get(name.replace("#", "0")) for name in names)]
    while "#" in names[0] and None not in parts[-1]:
        parts.append(tuple(tensors.get(name.replace("#", str(len(parts)))) for name in names))
    whole = [tuple(one for one in each if one is not None) for each in parts if None not in each]
    return StoredParameter(StoredStack(name, tuple(whole), "#" in names[0])) if whole else None


def _state(model: nn.Module) -> tuple[int, ...]:
    return tuple(id(one) for _, module in own_modules(model) for one in (module, *module._parameters.values()))


def _ancestors(path: str) -> Iterator[str]:
    """Yield a path and those of all that it is inside of, the empty one last."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


class TreeBuilder:
    """Makes the parts of one model.

    Attributes:
        inner: path -> names of its inner parts. leaves: path -> leaf name -> tensor.
        units: path -> our paths of what is inside: parameters, and modules that have none of their own.
        counts: our path -> how many units are inside.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.table, self.prefix = model, part_table(model), model.keys.prefix.rstrip(".")
        self.own = dict(own_modules(model))
        self.paths = {id(module): path for path, module in self.own.items()}
        self.inner: dict[str, dict[str, None]] = {"": {}}
        self.leaves: dict[str, dict[str, StoredTensor]] = {}
        self.units: dict[str, set[str]] = {}
        for path in self.table.modules:
            self._add(path, [self.table.paths[path]] if path in self.table.paths else [])
        for name, pieces in self.table.tensors.items():
            path, _, leaf = name.rpartition(".")
            self._add(path, [] if name in self.table.copies else [piece.path for piece in pieces])
            self.leaves.setdefault(path, {})[leaf] = StoredTensor(name, tuple(pieces), copy=name in self.table.copies)
        self.counts = Counter(above for unit in self.units[""] for above in _ancestors(unit))

    def _add(self, path: str, units: Iterable[str]) -> None:
        for above in _ancestors(path):
            self.units.setdefault(above, set()).update(units)
            self.inner.setdefault(above, {})
            if above:
                parent, _, name = above.rpartition(".")
                self.inner.setdefault(parent, {})[name] = None

    def part(self, path: str) -> tuple[Any, str | None]:
        """Return the part or our module at a path of the reference, and our path of the module that computes it."""
        leaves, module = self.leaves.get(path, {}), self.table.modules.get(path)
        if module is not None and not self.inner[path] and self._is_whole(module, leaves):
            return module, self.table.paths.get(path)
        names = list(self.inner[path])
        names = sorted(names, key=int) if all(map(str.isdecimal, names)) else names
        inner = {name: self.part(f"{path}.{name}" if path else name) for name in names}
        kind = self._kind(path, leaves)
        own = self._own(path, kind is PartList, [place for _, place in inner.values()])
        cover = tuple(self.own[place] for place in self._cover(path))
        base = partial(without_head, weakref.ref(self.model)) if path and path == self.prefix else None
        module = self.own[own] if own else None
        info = PartInfo(path, weakref.ref(self.model), module, cover, leaves, replace_part, base)
        return kind(info, {name: part for name, (part, _) in inner.items()}, self.model.training), own

    @staticmethod
    def _is_whole(module: nn.Module, leaves: dict[str, StoredTensor]) -> bool:
        """Return whether the tensors at a path are the module's own."""
        pieces = {leaf: tensor.pieces for leaf, tensor in leaves.items()}
        return all(len(x) == 1 and x[0].owner is module and x[0].leaf == leaf for leaf, x in pieces.items())

    def _kind(self, path: str, leaves: dict[str, StoredTensor]) -> type[Part]:
        names = list(self.inner[path])
        if names:
            return PartList if {*names} == {str(n) for n in range(len(names))} and not leaves else Part
        if not leaves.keys() <= {"weight", "bias"} or "weight" not in leaves:
            return Part
        pieces = leaves["weight"].pieces
        if any(piece.parameter.ndim != 2 for piece in pieces):
            return Part
        transposed = any(isinstance(p.source, Transposed) or getattr(p.source, "transposed", False) for p in pieces)
        return Conv1DPart if transposed else LinearPart

    def _own(self, path: str, is_list: bool, inner: list[str | None]) -> str | None:
        """Return the path of our module with the same parameters that is no inner part's, the innermost one."""
        units = self.units[path]
        if not units:
            return None
        for place in _ancestors(self._common(units)):
            if not place or self.counts[place] != len(units):
                return None
            module = self.own.get(place)
            if (
                is_list
                and isinstance(module, nn.ModuleList)
                and {*inner} - {None, *(f"{place}.{n}" for n in module._modules)}
            ):
                return None  # T5's `block.0.layer`, where there is one block
            below = len(inner) == 1 and inner[0] is not None and not inner[0].startswith(f"{place}.")
            if module is not None and isinstance(module, nn.ModuleList) is is_list and not below:
                return place
        return None

    @staticmethod
    def _common(units: Iterable[str]) -> str:
        """Return the path that all of these begin with."""
        paths = [unit.split(".") for unit in units]
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(min(paths), max(paths), strict=False))
        return ".".join(name for name, _ in pairs)

    def _cover(self, path: str) -> list[str]:
        """Return the paths of our modules whose parameters are all inside of a part, the outermost ones.

        The model is none of them: its tree would hold it in memory for ever.
        """
        inside = Counter(above for unit in self.units[path] for above in _ancestors(unit))
        whole = {place for place in inside if place in self.own and place and inside[place] == self.counts[place]}
        return [place for place in inside if place in whole and place.rpartition(".")[0] not in whole]
