"""The distribution of tests over worker processes: a parity case, or a module, is done by one of them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from xdist.scheduler import LoadScopeScheduling

MODULES = "families|given_vectors|prepared|stray_tensors|untied|wide"  # whose tests are of one case each
CASE = re.compile(rf"tests/parity/test_(?:{MODULES})\.py::\w+\[([^/\]]+)")


class CaseScheduling(LoadScopeScheduling):
    """Gives a worker all tests of a case, which share a checkpoint and models, or all tests of another module."""

    def _split_scope(self, nodeid: str) -> str:
        case = CASE.match(nodeid)
        return f"case {case[1]}" if case else nodeid.split("::")[0]

    def _assign_work_unit(self, node: Any) -> None:
        """Look each test's number up in a table; the base class searches 25,000 names for it."""
        scope, unit = self.workqueue.popitem(last=False)
        # finished scopes are left out, which the base class would count again after each test
        left = {name: tests for name, tests in self.assigned_work.get(node, {}).items() if not all(tests.values())}
        self.assigned_work[node] = {**left, scope: unit}
        numbers = self._numbers(tuple(self.registered_collections[node]))
        node.send_runtest_some([numbers[name] for name, done in unit.items() if not done])

    @staticmethod
    @cache
    def _numbers(names: tuple[str, ...]) -> dict[str, int]:
        return {name: number for number, name in enumerate(names)}
