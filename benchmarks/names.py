"""Which names that public programs import from the reference are here: a list of names with counts against the package.

    python -m benchmarks.names                     # the names that public files import most, benchmarks/names.csv
    python -m benchmarks.names programs/*.py       # the imports of some programs

A name that ends with a dot is a submodule. A name of the list counts as many times as files import it. A program counts
as runnable if all its names are here. A name that can be imported, and is an error when it is used, is counted apart.
"""

from __future__ import annotations

import ast
import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from multihead.compat.absent import Absent

LIST = Path(__file__).parent / "names.csv"
STATES = ("here", "refused when used", "missing")


def state(name: str) -> str:
    """Return which of STATES a name is in: `Trainer`, `utils.check_min_version`, or `utils.` for a submodule."""
    module, _, last = f"multihead.{name}".rpartition(".")
    try:
        found = import_module(module)
        value = getattr(found, last) if last else found
    except (ImportError, AttributeError):
        return "missing"
    return "refused when used" if isinstance(value, Absent) else "here"


def imports(program: Path) -> Iterator[str]:
    """Yield the names that a program imports from the reference, and those it takes from the module itself."""
    tree, aliases = ast.parse(program.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "transformers" and not node.level:
            inner = node.module.removeprefix("transformers").removeprefix(".")
            yield from (f"{inner}.{alias.name}".lstrip(".") for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                root, _, inner = alias.name.partition(".")
                if root == "transformers":
                    aliases.add(alias.asname or root)
                    yield from [f"{inner}."] if inner else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield node.attr


def report_list() -> None:
    """Print the state of each name of the list, and the shares by count."""
    rows = [(row["name"], int(row["files"])) for row in csv.DictReader(LIST.open(encoding="utf-8"))]
    states = {name: state(name) for name, _ in rows}
    total = sum(files for _, files in rows)
    for wanted in STATES:
        files = sum(count for name, count in rows if states[name] == wanted)
        names = sum(states[name] == wanted for name, _ in rows)
        print(f"{wanted:18} {names:4} of {len(rows)} names, {files / total:6.1%} of the imports")
    for name, files in rows:
        if states[name] != "here":
            print(f"  {name} ({files}): {states[name]}")


def report_programs(programs: Sequence[Path]) -> None:
    """Print how many programs find all their names, and the names that are missing, the most frequent first."""
    known: dict[str, str] = {}
    missing: Counter[str] = Counter()
    whole = users = 0
    for program in programs:
        names = set(imports(program))
        known |= {name: state(name) for name in names if name not in known}
        missing.update(name for name in names if known[name] == "missing")
        users += bool(names)
        whole += bool(names) and all(known[name] != "missing" for name in names)
    print(f"{whole} of {users} programs that import the reference find all their names.")
    for name, files in missing.most_common(60):
        print(f"  {name}: {files}")


if __name__ == "__main__":
    report_programs([Path(name) for name in sys.argv[1:]]) if sys.argv[1:] else report_list()
