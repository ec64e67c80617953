"""The families' tiny random checkpoints, written by the reference implementation: a row each, not a test each.

Every module of this folder has a tuple CASES.
"""

from importlib import import_module
from pkgutil import iter_modules

from ..case import Case

MODULES: dict[str, tuple[Case, ...]] = {
    module.name: import_module(f".{module.name}", __name__).CASES for module in iter_modules(__path__)
}
CASES = tuple(case for cases in MODULES.values() for case in cases)
PAIRS = [(case, end) for case in CASES for end in case.ends]
IDS = [f"{case.name}/{end}" for case, end in PAIRS]
