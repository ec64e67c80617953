"""Finders of the reference's submodules, for Python's import. Imports nothing, since `import multihead` installs them.

The rooms and the family files that have the name of a submodule keep their own names, and get the reference's beside
them: `multihead.generation`, `multihead.models.bert`. All other submodules are facades (`modules.py`).
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

ROOT = "multihead"
OWN = ("generation", "models", "pipelines")  # rooms with the name of a submodule


class SurfaceLoader(SourceFileLoader):
    """Loads a file of this package, and gives it the reference's names beside its own."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)

        def look_up(name: str) -> Any:
            from .modules import look_up

            return look_up(module.__name__, name)

        vars(module).setdefault("__getattr__", look_up)
        vars(module).setdefault("__path__", [])  # `multihead.models.bert.modeling_bert` is looked for


class Surfaces:
    """Finds the rooms and family files that have the name of a submodule. The first finder."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        root, _, inner = name.partition(".")
        room, _, file = inner.partition(".")
        if root != ROOT or not (inner in OWN or (room == "models" and file and "." not in file and file != "common")):
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and found.origin is not None and type(found.loader) is SourceFileLoader:
            found.loader = SurfaceLoader(name, found.origin)
        return found


class FacadeLoader:
    """Makes facades."""

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        from .modules import Facade

        return Facade(spec.name, "A module of the reference; its names are looked up on first use.")

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Do nothing: a facade has no code."""


class Facades:
    """Finds the submodules that no file has. The last finder, so that files go before."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        root, _, inner = name.partition(".")
        if root != ROOT:
            return None
        from .modules import is_known

        return ModuleSpec(name, FacadeLoader(), is_package=True) if is_known(inner) else None  # type: ignore[arg-type]


def install() -> None:
    """Add the finders to Python's, once."""
    if not any(finder is Surfaces for finder in sys.meta_path):
        sys.meta_path.insert(0, Surfaces)
        sys.meta_path.append(Facades)
