"""Additions of installed packages: entry points of `multihead.families`, `.tasks`, `.formats` and `.backends`.

An entry point's name is the key in the registry of that kind, and its object the value. It is loaded when the registry
is asked for a name that is not this package's, or for all of its names. Only installed packages have entry points: no
file of a checkpoint does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

from .errors import InvalidInput, describe_error, warn

V = TypeVar("V")
PREFIX = "multihead"


class Registry(Mapping[str, V]):
    """A table of this package, and what installed packages add to it. This package's own entries go first.

    Args:
        kind: "families", "tasks", "formats" or "backends". own: the table. fits: whether an object is of this kind.
    """

    def __init__(self, kind: str, own: Mapping[str, V], fits: Callable[[Any], bool]) -> None:
        self.kind, self.own, self._fits = kind, own, fits
        self._loaded: dict[str, V] = {}

    @cached_property
    def added(self) -> Mapping[str, EntryPoint]:
        """The entry points of other packages by name; one with a name of this package is left out, with a warning."""
        found = {point.name: point for point in entry_points(group=f"{PREFIX}.{self.kind}")}
        for name in [name for name in found if name in self.own]:
            warn(f"{source(found.pop(name))} names {self.kind} {name!r}, which multihead has itself: it is left out.")
        return found

    def __getitem__(self, name: str) -> V:
        if name in self.own:
            return self.own[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(self.added[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self.added

    def __len__(self) -> int:
        return len(self.own) + len(self.added)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.added

    def added_values(self) -> dict[str, V]:
        """Return what other packages add, without this package's own entries."""
        return {name: self[name] for name in self.added}

    def _load(self, point: EntryPoint) -> V:
        """Return the object of an entry point. Raises InvalidInput, with the name of its package."""
        try:
            found = point.load()
        except Exception as error:  # of the other package's code
            raise InvalidInput(
                f"{source(point)} cannot be loaded: {describe_error(error)}. Correct or uninstall the package."
            ) from error
        if not self._fits(found):
            raise InvalidInput(
                f"{source(point)} gives a {type(found).__name__}, which is none of multihead's {self.kind}."
            )
        return cast("V", found)


def source(point: EntryPoint) -> str:
    """Return the name of an entry point and its package, for messages."""
    package = point.dist.name if point.dist is not None else "?"
    return f"The entry point {point.group}: {point.name} of the package {package}"


def find_object(path: str, package: str) -> Any:
    """Return an object by "module.name" inside a package, or by "module:name" anywhere."""
    if ":" in path:
        module, _, name = path.partition(":")
        return getattr(import_module(module), name)
    module, _, name = path.rpartition(".")
    return getattr(import_module(f".{module}", package), name)
