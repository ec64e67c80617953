"""Programs in benchmarks/ use names of the package that exist: no test runs them, and a rename would miss them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import pytest

from .floors import ROOT

PROGRAMS = sorted((ROOT / "benchmarks").rglob("*.py"))


def package_modules(tree: ast.AST) -> Iterator[tuple[str, ModuleType]]:
    """Yield the local name of each module of the package that a program imports. Raises for a name that is gone."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("multihead") or node.level:
            continue
        module = import_module(node.module)
        for name in node.names:
            if not hasattr(module, name.name) and find_spec(f"{node.module}.{name.name}") is None:
                raise AttributeError(f"line {node.lineno}: {node.module} has no {name.name}")
            value = getattr(module, name.name, None) or import_module(f"{node.module}.{name.name}")
            if isinstance(value, ModuleType):
                yield name.asname or name.name, value


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT / "benchmarks")))
def test_names_of_the_package_exist(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = dict(package_modules(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"line {node.lineno}: no {node.value.id}.{node.attr}"
