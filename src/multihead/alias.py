"""Programs for the reference, unchanged: `python -m multihead.alias program.py` makes `import transformers` mean this.

`import multihead.alias` does the same for the process that it is imported in. A name that is not here is an error, as
it is for a package that lacks it: the reference itself is never imported, whether it is installed or not.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .compat.finders import FacadeLoader
from .compat.modules import is_known
from .compat.versions import REFERENCE
from .errors import InvalidInput

NAME = "transformers"
USAGE = "usage: python -m multihead.alias program.py [arguments], or -m module [arguments]"


class AliasLoader(FacadeLoader):
    """Makes facades of the reference's name."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Give the root the version of the reference that these names are of."""
        if module.__name__ == NAME:
            vars(module)["__version__"] = REFERENCE


class Alias:
    """Finds the reference's modules here."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        root, _, inner = name.partition(".")
        if root != NAME:
            return None
        if inner and not is_known(inner):
            raise ModuleNotFoundError(
                f"multihead has no module {inner!r}, and {name!r} means multihead in this process. The reference is "
                "not imported in its place.",
                name=name,
            )
        return ModuleSpec(name, AliasLoader(), origin="multihead", is_package=True)  # type: ignore[arg-type]


def install() -> None:
    """Let `import transformers` mean multihead from now on. Raises InvalidInput where it is loaded already."""
    if any(isinstance(finder, Alias) for finder in sys.meta_path):
        return
    if NAME in sys.modules:
        raise InvalidInput(f"{NAME} is imported already; import multihead.alias before it.")
    sys.meta_path.insert(0, Alias())


def main(words: Sequence[str]) -> None:
    """Run a program with the rest of the words as its arguments."""
    if not words or words[0] in ("-h", "--help") or (words[0] == "-m" and len(words) < 2):
        sys.stdout.write(f"{USAGE}\n")
        raise SystemExit(0 if words and words[0] in ("-h", "--help") else 2)
    install()
    if words[0] == "-m":
        sys.argv = list(words[1:])
        sys.path[0] = ""
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    if not Path(words[0]).exists():
        raise SystemExit(f"{words[0]} is no file.\n{USAGE}")
    sys.argv = list(words)
    sys.path[0] = str(Path(words[0]).resolve().parent)
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
else:
    install()
