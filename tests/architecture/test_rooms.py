"""The architecture: imports run downward, in no circle; functions are short; `import multihead` loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import multihead
from tests.architecture import floors
from tests.architecture.floors import LEVEL, PACKAGE

FILES = sorted(PACKAGE.rglob("*.py"))
PEERS = {"transformers", "sentence_transformers", "peft", "vllm", "llama_cpp", "ctranslate2"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield every name that a file imports from this package, wherever the import stands, as a path of names."""
    here = ("multihead", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            full = (*base, *(node.module.split(".") if node.module else ()))
            if full and full[0] == "multihead":
                for alias in node.names:
                    yield (*full[1:], alias.name)


def module(names: tuple[str, ...]) -> Path | None:
    """Return the file of an imported name: the module itself, or the one that defines it."""
    for end in (len(names), len(names) - 1):
        path = PACKAGE.joinpath(*names[:end])
        if end and path.with_suffix(".py").exists():
            return path.with_suffix(".py")
    return None


@pytest.mark.parametrize("room", sorted({room_of(path) for path in FILES} - {"__init__"}))
def test_a_room_imports_only_rooms_below_it(room):
    assert room in LEVEL, f"{room} is on no floor of tests/architecture/floors.py"
    for path in (path for path in FILES if room_of(path) == room):
        above = {names[0] for names in imports(path) if names[0] in LEVEL and LEVEL[names[0]] > LEVEL[room]}
        assert not above, f"{path.name} in {room} imports {above}, which is above it; see docs/house.md"


def circles() -> list[set[str]]:
    """Find the strongly connected groups of modules (Tarjan, 1972), imports for types included."""
    graph = {path: {m for names in imports(path) if (m := module(names)) and m != path} for path in FILES}
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    groups = []

    def visit(path: Path) -> None:
        index[path] = low[path] = len(index)
        stack.append(path)
        for other in graph[path]:
            if other not in index:
                visit(other)
            if other in stack:
                low[path] = min(low[path], low[other])
        if low[path] == index[path]:
            group = set(stack[stack.index(path) :])
            del stack[stack.index(path) :]
            if len(group) > 1:
                groups.append({str(p.relative_to(PACKAGE)) for p in group})

    for path in FILES:
        if path not in index:
            visit(path)
    return groups


def test_no_modules_import_each_other_in_a_circle():
    assert not circles()


def test_the_page_of_the_house_is_true():
    assert floors.page() == floors.PAGE.read_text(), "run python -m tests.architecture.floors"


def test_files_say_what_they_are_and_functions_stay_short():
    silent = [path for path in FILES if not ast.get_docstring(tree(path)) and path.name != "_version.py"]
    assert not silent, "a file begins with a docstring"
    long = []
    for file, node in [(path, node) for path in FILES for node in ast.walk(tree(path))]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.end_lineno - node.body[0].lineno + 1
            doc = ast.get_docstring(node)
            lines = body - (len(doc.splitlines()) + 1 if doc else 0)
            long += [f"{file}: {node.name} has {lines} lines"] if lines > 50 else []
    assert not long


def test_the_package_never_imports_the_reference_or_a_peer():
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = {node.module.split(".")[0]}
            else:
                continue
            assert not names & PEERS, path


def test_importing_loads_no_torch_and_no_hub_client():
    heavy = ("torch", "numpy", "huggingface_hub", "tokenizers", "jinja2")
    code = f"import sys, multihead; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves():
    for name in multihead.__all__:
        assert getattr(multihead, name) is not None
    assert multihead.BertForMaskedLM.__name__ == "BertForMaskedLM"
    assert multihead.LlamaConfig().hidden_size == 4096
    with pytest.raises(AttributeError, match="BertForCoffee"):
        _ = multihead.BertForCoffee
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = multihead.nothing_like_it


def test_no_object_is_given_another_class():
    """A module that replaces another one is put in its parent, so that its methods and hooks are its own."""
    nodes = ((path, x) for path in FILES for x in ast.walk(tree(path)) if isinstance(x, ast.Attribute))
    assert not [(path, x.lineno) for path, x in nodes if x.attr == "__class__" and isinstance(x.ctx, ast.Store)]
