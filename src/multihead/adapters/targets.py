"""Find the modules that an adapter's names mean: names of the checkpoint, or paths of our modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import nn

from ..checkpoints.key_map import KeyMap, parameter_owners
from ..checkpoints.tensor_sources import Interleaved, Part, PerHead, Source, Transposed
from ..errors import InvalidInput, UnsupportedOption, nearest
from ..nn.own_names import own_modules
from ..nn.weights import Linear
from .config import ALL_LINEAR, LoraConfig
from .embedding_tables import MERGE
from .patterns import matches

BACKBONE = "backbone."
SPARSE = re.compile(r"\.router$|\.experts\.")  # no linear layers in the reference's models of today
V = TypeVar("V")


@dataclass(frozen=True, eq=False)
class Target:
    """A stored matrix and the layers that hold its rows: three where queries, keys and values are stored as one.

    Args:
        name: path of the module in the reference's model. paths: of `layers` in ours.
        rows: which of the stored rows each layer has. transposed: stored as (in, out).
    """

    name: str
    paths: tuple[str, ...]
    layers: tuple[Linear, ...]
    rows: tuple[Source, ...]
    transposed: bool = False

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that a user may give: our paths, with and without "backbone."."""
        return (*self.paths, *(path.removeprefix(BACKBONE) for path in self.paths))

    @property
    def number(self) -> int | None:
        """The number of the target's layer; None outside of layers."""
        found = re.search(r"(?:^|\.)(\d+)\.", self.name)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class SavedParameter:
    """A parameter that an adapter may replace whole. `keys`: the tensors of a checkpoint that hold it."""

    path: str
    owner: nn.Module
    leaf: str
    source: Source
    keys: tuple[str, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the modules that hold the parameter, in the reference's model and in ours."""
        found = [key.rpartition(".")[0] for key in self.keys]
        return (*found, self.path.rpartition(".")[0])

    def ends_with(self, name: str) -> bool:
        """True if it is in a module of the reference's model whose path ends with these letters."""
        parts = [module.split(".") for module in self.modules[:-1]]
        return any(".".join(path[:n]).endswith(name) for path in parts for n in range(1, len(path) + 1))


def find_prefix(keys: KeyMap, names: Iterable[str]) -> str:
    """Return the backbone's prefix in a file with these names."""
    known = list(names)
    return next((p for p in (keys.prefix, *keys.prefixes) if p and any(n.startswith(p) for n in known)), "")


def find_targets(model: nn.Module, keys: KeyMap, prefix: str) -> list[Target]:
    """List every matrix of a model that an adapter can change, in the order of modules."""
    found: dict[str, list[tuple[str, Linear, Source]]] = {}
    for path, module in own_modules(model):
        if not isinstance(module, Linear):
            continue
        where = keys.locate(f"{path}.weight", prefix)
        if where is None or _rows(where[0]) is None or not where[1][0].endswith(".weight"):
            continue
        found.setdefault(where[1][0].removesuffix(".weight"), []).append((path, module, where[0]))
    out = []
    for name, parts in found.items():
        paths, layers, sources = zip(*parts, strict=True)
        transposed = any(isinstance(s, Transposed) or getattr(s, "transposed", False) for s in sources)
        out.append(Target(name, paths, layers, tuple(_rows(s) or s for s in sources), transposed))
    return out


def _rows(source: Source) -> Source | None:
    """Return how the rows of a matrix (outputs, any) are stored; None if storing moves columns too."""
    if isinstance(source, Transposed):
        return Source(source.key)
    if isinstance(source, Part):
        return replace(source, transposed=False)
    if type(source) is Source or isinstance(source, PerHead) or (isinstance(source, Interleaved) and not source.axis):
        return source
    return None


def choose_targets(model: Any, config: LoraConfig, found: Sequence[Target], *, strict: bool) -> list[Target]:
    """Return the targets that a config names.

    Args:
        strict: True for names of a user, which may be our paths and must each match a target; False for a file's.

    Raises:
        InvalidInput: names that match no target.
    """
    wanted = _wanted_targets(model, config, found, strict)
    skip = set(named_targets(found, config.exclude_modules or [], ours=strict))
    saved = [*(config.modules_to_save or ()), *config.head_modules]
    numbers = config.layers_to_transform
    numbers = [numbers] if isinstance(numbers, int) else numbers
    selected = [
        target
        for target in wanted
        if target not in skip
        and not any(is_within(name, target.name) for name in saved)
        and (not numbers or target.number in numbers)
        and _in_layers(config, target)
    ]
    if not selected:
        raise InvalidInput(
            f"The adapter's config leaves no layer of {type(model).__name__} to change: every target is excluded, "
            "saved whole, or outside of layers_to_transform."
        )
    return selected


def _wanted_targets(model: Any, config: LoraConfig, found: Sequence[Target], strict: bool) -> list[Target]:
    requested = config.target_modules
    if requested is None:
        wanted = [t for t in found if any(path.rpartition(".")[2] in ("q", "v") for path in t.paths)]
    elif isinstance(requested, str) and requested.lower() == ALL_LINEAR:
        wanted = [t for t in found if t.paths[0].startswith(BACKBONE) and not SPARSE.search(t.paths[0])]
    else:
        wanted = named_targets(found, requested, ours=strict)
        if strict and isinstance(requested, list):
            known = {**targets_by_suffix(found, ours=False), **targets_by_suffix(found, ours=True)}
            for name in requested:
                if name not in known:
                    raise _unknown_target(model, name, found)
    if not wanted:
        raise _unknown_target(model, requested, found)
    return wanted


def _unknown_target(model: Any, requested: Any, found: Sequence[Target]) -> InvalidInput:
    ends = {name.rpartition(".")[2] for t in found for name in (t.name, *t.paths)}
    advice = nearest(requested, ends) if isinstance(requested, str) else f"Known: {', '.join(sorted(ends))}."
    requested = "the default, queries and values of attention," if requested is None else repr(requested)
    return InvalidInput(f"target_modules: {requested} is no linear layer of {type(model).__name__}. {advice}")


def named_targets(found: Sequence[Target], names: list[str] | str, *, ours: bool) -> list[Target]:
    """Return the targets whose paths end with one of the names, or match a regular expression.

    Args:
        ours: a name without a match in the reference's model may be one of our paths.
    """
    if isinstance(names, str):
        return matching_targets(found, names, ours=ours)
    known = {**(targets_by_suffix(found, ours=True) if ours else {}), **targets_by_suffix(found, ours=False)}
    meaning = {target for name in names for target in known.get(name, [])}
    return [target for target in found if target in meaning]


def targets_by_suffix(found: Sequence[Target], *, ours: bool) -> dict[str, list[Target]]:
    """Map every end of a path, in the reference's model or in ours, to the targets that have it."""
    out: dict[str, list[Target]] = {}
    for target in found:
        paths = [path.split(".") for path in (target.aliases if ours else (target.name,))]
        for end in {".".join(parts[n:]) for parts in paths for n in range(len(parts))}:
            out.setdefault(end, []).append(target)
    return out


def matching_targets(found: Sequence[Target], pattern: str, *, ours: bool) -> list[Target]:
    """Return the targets whose whole path, in the reference's model or else in ours, matches a pattern."""
    known = matches(pattern, [target.name for target in found])
    theirs = [target for target in found if target.name in known]
    if theirs or not ours:
        return theirs
    known = matches(pattern, [name for target in found for name in target.aliases])
    return [target for target in found if known.intersection(target.aliases)]


def _in_layers(config: LoraConfig, target: Target) -> bool:
    """True if the layer's number follows one of the names of `layers_pattern`, or there is no such pattern."""
    if not config.layers_pattern or config.layers_to_transform is None:
        return True
    names = [config.layers_pattern] if isinstance(config.layers_pattern, str) else config.layers_pattern
    return any(matches(rf"(^|.*\.){name}\.{target.number}\..*", [target.name]) for name in names)


def values_by_pattern(
    found: Sequence[Target], patterns: Mapping[str, V], wanted: Sequence[Target], usual: V, *, ours: bool
) -> dict[str, V]:
    """Map the name of each target to the value of the first pattern that matches the end of its path."""
    fits = [
        (set(matching_targets(found, rf"(.*\.)?({pattern})", ours=ours)), value) for pattern, value in patterns.items()
    ]
    return {target.name: next((value for known, value in fits if target in known), usual) for target in wanted}


def is_within(name: str, module: str) -> bool:
    """True if a module is, or is inside of, the one that `name`, a part of a path, means."""
    return f".{name}." in f".{module}."


def saved_parameters(model: nn.Module, keys: KeyMap, prefix: str, names: Sequence[str]) -> list[SavedParameter]:
    """Return the parameters in modules whose paths end with one of these names.

    As in the peft library, "norm" also means "input_layernorm". A name that ends no path of the reference may be a part
    of one of ours.

    Raises:
        UnsupportedOption: a table that embeddings and head share: a file can only hold it twice.
    """
    located = ((path, owner, leaf, keys.locate(path, prefix)) for path, owner, leaf, _ in parameter_owners(model))
    every = [SavedParameter(path, owner, leaf, *where) for path, owner, leaf, where in located if where is not None]
    meant_ = {
        one.path
        for name in names
        for one in [one for one in every if one.ends_with(name)] or [o for o in every if is_within(name, o.modules[-1])]
    }
    out = [one for one in every if one.path in meant_]
    for one in out:
        homes = [path for path, module in own_modules(model, remove_duplicate=False) if module is one.owner]
        if len(homes) > 1:
            raise UnsupportedOption(
                f"modules_to_save: {one.keys[0]} is read in {len(homes)} places of {type(model).__name__}, and an "
                "adapter trains no shared table here. Train the whole model, or leave it out. Is it an adapter of "
                f"the peft library? {MERGE}"
            )
    return out


def unknown_module(model: Any, name: str, keys: KeyMap, prefix: str) -> InvalidInput:
    """Return the error for a name in `modules_to_save` without a match."""
    known = set()
    for path, *_ in parameter_owners(model):
        where = keys.locate(path, prefix)
        known |= {path.rpartition(".")[0], *(key.rpartition(".")[0] for key in (where[1] if where else ()))}
    ends = {part for module in known for part in module.split(".") if not part.isdigit() and part}
    return InvalidInput(f"modules_to_save: {name!r} is no module of {type(model).__name__}. {nearest(name, ends)}")
