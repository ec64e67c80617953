"""The library's logger is as before after each test: other tests of the process read its logs."""

from __future__ import annotations

import logging

import pytest

from multihead.compat import logging as ours


@pytest.fixture(autouse=True)
def logger_as_before():
    root = logging.getLogger("multihead")
    level, handlers, propagate = root.level, list(root.handlers), root.propagate
    yield
    root.setLevel(level)
    root.handlers[:], root.propagate = handlers, propagate
    ours._handler.cache_clear()
