"""Whether somebody looks into a module's passes: who computes without calling it asks first."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as everywhere


def hooked(part: nn.Module) -> bool:
    """Whether a module's passes are looked into or replaced, which whoever stands in for it would pass by."""
    if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
        return True
    return bool(everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks)
