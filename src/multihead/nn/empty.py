"""Construction of modules without memory for their parameters, and a limit on their number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.module import register_module_module_registration_hook

from ..errors import UnsupportedConfig

PARTS = 200_000  # of a model; one with 60 layers of 384 experts has some 120,000


@contextmanager
def empty_weights() -> Iterator[None]:
    """Build modules with meta-device parameters inside the block. Raises UnsupportedConfig for too many modules."""
    thread, count = threading.get_ident(), 0

    def counted(*_: object) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > PARTS:
            raise UnsupportedConfig(
                f"it asks for more than {PARTS:,} layers, experts and other parts. Check its sizes."
            )

    hook = register_module_module_registration_hook(counted)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()
