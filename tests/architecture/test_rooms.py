"""The house stands: a room imports only rooms below it, files and functions stay small, importing loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import multihead

ROOT = Path(multihead.__file__).parent
FLOORS = [  # from the ground up; a room may import its own floor's other rooms only where listed together
    ["errors", "terminal", "_version"],
    ["files", "data_files", "consoles"],
    ["config", "hub"],
    ["native"],
    ["kernels"],
    ["nn"],
    ["checkpoints"],
    ["tokenizers"],
    ["heads"],
    ["models"],
    ["adapters"],
    ["runtime"],
    ["token_batches"],
    ["generation"],
    ["modeling"],
    ["sentences"],
    ["pipelines"],
    ["training"],
    ["cli"],
    ["__main__"],
]
UPWARD = {
    ("heads/heads.py", "runtime"),
    ("runtime/prepare.py", "modeling"),
    ("runtime/cpu_decode_runner.py", "generation"),
    ("runtime/cuda_graph_runner.py", "generation"),
}  # to be removed
LEVEL = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Rooms of this package that a file imports."""
    here = path.relative_to(ROOT.parent).with_suffix("").parts
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = list(here[: len(here) - node.level]) if node.level else []
        full = base + (node.module.split(".") if node.module else [])
        if not full or full[0] != "multihead":
            continue
        rooms |= {full[1]} if len(full) > 1 else {alias.name for alias in node.names}
    return rooms


@pytest.mark.parametrize("path", [f for f in FILES if f.name != "__init__.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_rooms_below_it(path):
    room = room_of(path)
    assert room in LEVEL, f"{room} is in no floor of this test; add it to the drawing"
    above = [other for other in imported(path) if other in LEVEL and LEVEL[other] > LEVEL[room]]
    above = [other for other in above if (str(path.relative_to(ROOT)), other) not in UPWARD]
    assert not above, f"{path.name} in {room} imports {above}: not allowed, see docs/house.md"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small_and_say_what_they_are(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) < 400, "a file of 400 lines holds more than one idea"
    assert ast.get_docstring(tree) or path.name == "_version.py", "a file begins by saying what is in it"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.end_lineno - node.body[0].lineno + 1
            doc = ast.get_docstring(node)
            lines = body - (len(doc.splitlines()) + 1 if doc else 0)
            assert lines <= 50, f"{node.name} has {lines} lines"


def test_the_package_never_imports_the_reference_or_a_peer():
    for path in FILES:
        names = {
            alias.name.split(".")[0]
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Import)
            for alias in n.names
        } | {
            n.module.split(".")[0]
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.ImportFrom) and n.module and not n.level
        }
        assert not names & {"transformers", "sentence_transformers", "peft", "vllm", "llama_cpp", "ctranslate2"}, path


def test_importing_loads_no_torch_and_no_hub_client():
    heavy = ("torch", "numpy", "huggingface_hub", "tokenizers", "jinja2")
    code = f"import sys, multihead; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_every_public_name_resolves():
    for name in multihead.__all__:
        assert getattr(multihead, name) is not None
    assert multihead.BertForMaskedLM.__name__ == "BertForMaskedLM"
    assert multihead.LlamaConfig().hidden_size == 4096
    with pytest.raises(AttributeError, match="BertForCoffee"):
        _ = multihead.BertForCoffee
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = multihead.nothing_like_it
