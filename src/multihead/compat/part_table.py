"""The reference's names of a model's modules and tensors, from its key map."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..modeling.class_factory import model_class
from ..modeling.tied_weights import same_parameters
from ..nn.empty import empty_weights
from .assigned_parts import AssignedPart
from .stored_tensors import Piece

ANY_LEAF = "any_leaf"  # a leaf that no row names: a row that matches it is one of a whole module


@dataclass
class PartTable:
    """Names of one model.

    Args:
        modules: the reference's path -> our module that is the same. paths: our path of each. slots: the reverse, with
            all places that one module of a program stands for. assigned: those places.
        tensors: the reference's name -> the parameters that it is made of.
        copies: further names of tied tensors.
    """

    modules: dict[str, nn.Module] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, list[Piece]] = field(default_factory=dict)
    copies: set[str] = field(default_factory=set)
    slots: dict[str, str] = field(default_factory=dict)
    assigned: set[str] = field(default_factory=set)

    def inside(self, path: str) -> str:
        """Return what our paths have between a slot and what is inside of a program's module there."""
        return ".part" if path in self.assigned else ""


def part_table(model: Any) -> PartTable:
    """Return the table of a model as it is now."""
    table, keys = PartTable(), model.keys
    _visit(table, keys, "", model, set())
    for name, other in keys.aliases:
        _add_copy(table, other, name)
        _add_copy(table, name, other)
    for config in model.architecture.untied_configs(model.config):
        with empty_weights():
            other = model_class(model.config.model_type, model.head_suffix)(config)
        _add_tied(table, keys, model, other)
    return table


def _add_tied(table: PartTable, keys: KeyMap, model: Any, other: Any) -> None:
    """Add the names that tied tensors have in a model with fewer ties, where they are copies."""
    for path, own in same_parameters(model, other):
        there, here = other.keys.locate(path, other.keys.prefix), keys.locate(own, keys.prefix)
        if there is None or here is None or there[1] == here[1] or len(there[1]) != 1 or len(here[1]) != 1:
            continue
        (copy,), (name,) = there[1], here[1]
        _add_copy(table, copy, name)
        for key, alias in other.keys.aliases:
            _add_copy(table, alias, name if copy == key else "")
        stem, own_stem = copy.rpartition(".")[0], name.rpartition(".")[0]
        if isinstance(other.get_submodule(path.rpartition(".")[0]), nn.Embedding) and own_stem in table.modules:
            table.modules.setdefault(stem, table.modules[own_stem])


def _add_copy(table: PartTable, copy: str, name: str) -> None:
    if name in table.tensors and copy not in table.tensors:
        table.tensors[copy] = table.tensors[name]
        table.copies.add(copy)


def _visit(table: PartTable, keys: KeyMap, path: str, module: nn.Module, seen: set[int]) -> None:
    """Add a module's parameters and its inner modules."""
    if id(module) in seen or getattr(module, "not_in_checkpoint", False):
        return
    seen.add(id(module))
    for leaf, parameter in module._parameters.items():
        if parameter is not None:
            name = f"{path}.{leaf}" if path else leaf
            found = keys.locate(name, keys.prefix)
            _add(table, found or (Source(name), (name,)), Piece(name, module, leaf, Source(name)))
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        found = keys.locate(f"{inner}.{ANY_LEAF}", keys.prefix)
        if found is None or _has_inner_rows(keys, inner):
            _visit(table, keys, inner, child, seen)
        elif id(child) not in seen:
            seen.add(id(child))
            _add_module(table, inner, child, *found)


def _has_inner_rows(keys: KeyMap, path: str) -> bool:
    """Return whether parts of a module have rows of their own."""
    every, first = (re.sub(r"\.\d+(?=\.|$)", ".*", path, count=count) for count in (0, 1))
    return any(row.startswith((f"{every}.", f"{first}.")) for row in keys.rows)


def _add_module(table: PartTable, path: str, module: nn.Module, source: Source, names: tuple[str, ...]) -> None:
    """Add a module whose parameters are all in one row."""
    stems = [name.removesuffix(f".{ANY_LEAF}") for name in names]
    if isinstance(module, AssignedPart):
        table.modules[stems[0]] = module.part
        table.paths[stems[0]] = path
        table.slots[path] = stems[0]
        table.assigned.add(path)
        return
    piece = Piece(path, module, "", source)
    if len(stems) == 1 and piece.is_plain:
        table.modules[stems[0]] = module
        table.paths[stems[0]] = path
        table.slots[path] = stems[0]
    for leaf, parameter in module._parameters.items():
        if parameter is not None:
            own = tuple(f"{stem}.{leaf}" for stem in stems)
            _add(table, (source, own), Piece(f"{path}.{leaf}", module, leaf, source))


def _add(table: PartTable, found: tuple[Source, tuple[str, ...]], piece: Piece) -> None:
    source, names = found
    for index, name in enumerate(names):
        one = Piece(piece.path, piece.owner, piece.leaf, source, index if len(names) > 1 else None)
        table.tensors.setdefault(name, []).append(one)
