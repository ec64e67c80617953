"""Models that several files use."""

from __future__ import annotations

import pytest

from .drawn import MODELS, drawn


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return {name: drawn(name, tmp_path_factory.mktemp(name)) for name in MODELS}
