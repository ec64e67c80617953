"""Detection of hooks, which code that bypasses a module's forward must respect."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as everywhere


def is_hooked(part: nn.Module) -> bool:
    """Return True if a module has hooks or a replaced forward, which a fast path would skip."""
    if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
        return True
    return bool(everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks)
