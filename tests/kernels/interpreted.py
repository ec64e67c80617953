"""The Triton programs in Triton's interpreter, in place of the C++ kernels: for tests without a GPU."""

from __future__ import annotations

import pytest
import torch

from multihead.kernels.ops import BACKENDS
from multihead.kernels.triton import launch, programs


def interpret(patch: pytest.MonkeyPatch) -> None:
    """Let the Triton backend serve tensors on the CPU; `TRITON_INTERPRET=1` is set by tests/conftest.py."""
    patch.setattr(launch, "programs", lambda: programs)
    patch.setattr(launch, "why_not", lambda: "")
    patch.setattr(launch, "processors", lambda device: 8)
    patch.setattr(launch, "serves", lambda x: x.dtype in launch.TYPES and not torch.is_grad_enabled())
    patch.setattr(BACKENDS["triton"], "device", "cpu")
    patch.setattr(BACKENDS["cpu"], "device", "none")
    patch.setattr(BACKENDS["cpu"], "serves", lambda x: False)
