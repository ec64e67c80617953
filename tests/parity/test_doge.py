"""Refused options of Doge."""

from __future__ import annotations

import pytest

import multihead
from multihead.errors import UnsupportedConfig


def test_experts_that_depend_on_the_batch_are_refused():
    with pytest.raises(UnsupportedConfig, match="is_moe"):
        multihead.DogeConfig(is_moe=True)
