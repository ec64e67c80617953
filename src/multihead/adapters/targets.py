"""Which modules an adapter's names mean: names as the checkpoint has them, or our own paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import nn

from ..checkpoints.key_map import KeyMap, parameter_owners
from ..checkpoints.tensor_sources import Interleaved, Part, PerHead, Source, Transposed
from ..errors import InvalidInput, UnsupportedOption, nearest
from ..nn.weights import Linear
from .config import ALL_LINEAR, LoraConfig
from .patterns import fits
from .words import MERGE

BACKBONE = "backbone."
SPARSE = re.compile(r"\.router$|\.experts\.")  # no linear layers in the reference's models of today
V = TypeVar("V")


@dataclass(frozen=True, eq=False)
class Target:
    """One stored matrix, and the layers that hold its rows: several where queries, keys and values are stored as one.

    Args:
        name: path of the module in the reference's model. paths: of `layers` in ours.
        rows: how each layer's rows lie among the stored ones. turned: stored as (in, out).
    """

    name: str
    paths: tuple[str, ...]
    layers: tuple[Linear, ...]
    rows: tuple[Source, ...]
    turned: bool = False

    @property
    def aliases(self) -> tuple[str, ...]:
        """What a user may call it, beside its name."""
        return (*self.paths, *(path.removeprefix(BACKBONE) for path in self.paths))

    @property
    def number(self) -> int | None:
        """Of its layer."""
        found = re.search(r"(?:^|\.)(\d+)\.", self.name)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Saved:
    """A parameter that an adapter may replace whole. `keys`: the tensors that a checkpoint keeps it in."""

    path: str
    owner: nn.Module
    leaf: str
    source: Source
    keys: tuple[str, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the modules that hold it, in the reference's model and in ours."""
        found = [key.rpartition(".")[0] for key in self.keys]
        return (*found, self.path.rpartition(".")[0])

    def ends_with(self, name: str) -> bool:
        """True where it lies in a module of the reference's model whose path ends with these letters."""
        parts = [module.split(".") for module in self.modules[:-1]]
        return any(".".join(path[:n]).endswith(name) for path in parts for n in range(1, len(path) + 1))


def prefix_in(keys: KeyMap, names: Iterable[str]) -> str:
    """The backbone's prefix in a file with these names."""
    known = list(names)
    return next((p for p in (keys.prefix, *keys.prefixes) if p and any(n.startswith(p) for n in known)), "")


def targets(model: nn.Module, keys: KeyMap, prefix: str) -> list[Target]:
    """Every matrix of a model that an adapter can change, in the order of its modules."""
    found: dict[str, list[tuple[str, Linear, Source]]] = {}
    for path, module in model.named_modules():
        where = keys.locate(f"{path}.weight", prefix) if isinstance(module, Linear) else None
        if where is None or _rows(where[0]) is None or not where[1][0].endswith(".weight"):
            continue
        found.setdefault(where[1][0].removesuffix(".weight"), []).append((path, module, where[0]))
    out = []
    for name, parts in found.items():
        paths, layers, sources = zip(*parts, strict=True)
        turned = any(isinstance(s, Transposed) or getattr(s, "transposed", False) for s in sources)
        out.append(Target(name, paths, layers, tuple(_rows(s) or s for s in sources), turned))
    return out


def _rows(source: Source) -> Source | None:
    """How the rows of a matrix (outputs, anything) lie among the stored ones; None where columns move too."""
    if isinstance(source, Transposed):
        return Source(source.key)
    if isinstance(source, Part):
        return replace(source, transposed=False)
    if type(source) is Source or isinstance(source, PerHead) or (isinstance(source, Interleaved) and not source.axis):
        return source
    return None


def chosen(model: Any, config: LoraConfig, found: Sequence[Target], *, strict: bool) -> list[Target]:
    """The targets that a config means.

    Args:
        strict: the names are a user's: ours are fine, and each must mean something. Else they are a file's.

    Raises:
        InvalidInput: names that mean nothing.
    """
    wanted = _matching(model, config, found, strict)
    skip = set(meant(found, config.exclude_modules or [], ours=strict))
    saved = [*(config.modules_to_save or ()), *config.head_modules]
    numbers = config.layers_to_transform
    numbers = [numbers] if isinstance(numbers, int) else numbers
    kept = [
        target
        for target in wanted
        if target not in skip
        and not any(within(name, target.name) for name in saved)
        and (not numbers or target.number in numbers)
        and _patterned(config, target)
    ]
    if not kept:
        raise InvalidInput(
            f"The adapter's config leaves no layer of {type(model).__name__} to change: every target is excluded, "
            "saved whole, or outside of layers_to_transform."
        )
    return kept


def _matching(model: Any, config: LoraConfig, found: Sequence[Target], strict: bool) -> list[Target]:
    asked = config.target_modules
    if asked is None:
        wanted = [t for t in found if any(path.rpartition(".")[2] in ("q", "v") for path in t.paths)]
    elif isinstance(asked, str) and asked.lower() == ALL_LINEAR:
        wanted = [t for t in found if t.paths[0].startswith(BACKBONE) and not SPARSE.search(t.paths[0])]
    else:
        wanted = meant(found, asked, ours=strict)
        if strict and isinstance(asked, list):
            known = {**ends(found, ours=False), **ends(found, ours=True)}
            for name in asked:
                if name not in known:
                    raise _unknown(model, name, found)
    if not wanted:
        raise _unknown(model, asked, found)
    return wanted


def _unknown(model: Any, asked: Any, found: Sequence[Target]) -> InvalidInput:
    ends = {name.rpartition(".")[2] for t in found for name in (t.name, *t.paths)}
    told = nearest(asked, ends) if isinstance(asked, str) else f"Known: {', '.join(sorted(ends))}."
    asked = "the default, queries and values of attention," if asked is None else repr(asked)
    return InvalidInput(f"target_modules: {asked} is no linear layer of {type(model).__name__}. {told}")


def meant(found: Sequence[Target], names: list[str] | str, *, ours: bool) -> list[Target]:
    """The targets that one of the names ends, or a regular expression fits.

    Args:
        ours: a name that means nothing in the reference's model may be one of our paths.
    """
    if isinstance(names, str):
        return fitting(found, names, ours=ours)
    known = {**(ends(found, ours=True) if ours else {}), **ends(found, ours=False)}
    meaning = {target for name in names for target in known.get(name, [])}
    return [target for target in found if target in meaning]


def ends(found: Sequence[Target], *, ours: bool) -> dict[str, list[Target]]:
    """Every end of a path, in the reference's model or in ours, and the targets that have it."""
    out: dict[str, list[Target]] = {}
    for target in found:
        paths = [path.split(".") for path in (target.aliases if ours else (target.name,))]
        for end in {".".join(parts[n:]) for parts in paths for n in range(len(parts))}:
            out.setdefault(end, []).append(target)
    return out


def fitting(found: Sequence[Target], pattern: str, *, ours: bool) -> list[Target]:
    known = fits(pattern, [target.name for target in found])
    theirs = [target for target in found if target.name in known]
    if theirs or not ours:
        return theirs
    known = fits(pattern, [name for target in found for name in target.aliases])
    return [target for target in found if known.intersection(target.aliases)]


def _patterned(config: LoraConfig, target: Target) -> bool:
    """Whether the layer's number stands behind one of the names of `layers_pattern`."""
    if not config.layers_pattern or config.layers_to_transform is None:
        return True
    names = [config.layers_pattern] if isinstance(config.layers_pattern, str) else config.layers_pattern
    return any(fits(rf"(^|.*\.){name}\.{target.number}\..*", [target.name]) for name in names)


def by_pattern(
    found: Sequence[Target], patterns: Mapping[str, V], wanted: Sequence[Target], usual: V, *, ours: bool
) -> dict[str, V]:
    """By name of a target, the value of the first pattern that fits the end of its path."""
    fits = [(set(fitting(found, rf"(.*\.)?({pattern})", ours=ours)), value) for pattern, value in patterns.items()]
    return {target.name: next((value for known, value in fits if target in known), usual) for target in wanted}


def within(name: str, module: str) -> bool:
    """Whether a module is, or lies in, one that a (part of a) path names."""
    return f".{name}." in f".{module}."


def saved(model: nn.Module, keys: KeyMap, prefix: str, names: Sequence[str]) -> list[Saved]:
    """The parameters in modules whose paths end with one of these names, as the peft library has it: "norm" is also
    "input_layernorm"; a name that ends none of the reference's may be a part of ours.

    Raises:
        UnsupportedOption: a table that embeddings and scores share, which a file can only keep twice.
    """
    located = ((path, owner, leaf, keys.locate(path, prefix)) for path, owner, leaf, _ in parameter_owners(model))
    every = [Saved(path, owner, leaf, *where) for path, owner, leaf, where in located if where is not None]
    meant_ = {
        one.path
        for name in names
        for one in [one for one in every if one.ends_with(name)] or [o for o in every if within(name, o.modules[-1])]
    }
    out = [one for one in every if one.path in meant_]
    for one in out:
        homes = [path for path, module in model.named_modules(remove_duplicate=False) if module is one.owner]
        if len(homes) > 1:
            raise UnsupportedOption(
                f"modules_to_save: {one.keys[0]} is read in {len(homes)} places of {type(model).__name__}, and an "
                "adapter trains no shared table here. Train the whole model, or leave it out. Is it an adapter of "
                f"the peft library? {MERGE}"
            )
    return out


def unknown_module(model: Any, name: str, keys: KeyMap, prefix: str) -> InvalidInput:
    known = set()
    for path, *_ in parameter_owners(model):
        where = keys.locate(path, prefix)
        known |= {path.rpartition(".")[0], *(key.rpartition(".")[0] for key in (where[1] if where else ()))}
    ends = {part for module in known for part in module.split(".") if not part.isdigit() and part}
    return InvalidInput(f"modules_to_save: {name!r} is no module of {type(model).__name__}. {nearest(name, ends)}")
