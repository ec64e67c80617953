"""Names of modules, parameters and buffers by our attributes.

`named_modules()` of a model may show the reference's names instead, which a program can ask for. Code of this package
that gives names a meaning, in key maps, files and adapters, takes these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `--help` counts parameters of no model, and must not wait for torch
    from torch import Tensor, nn


def own_modules(module: nn.Module, path: str = "", *, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, module) of a module and of all inside of it, as `nn.Module.named_modules` does."""
    seen: set[int] = set()
    left = [(path, module)]  # what comes next is last
    while left:
        path, found = left.pop()
        if id(found) in seen:
            continue
        if remove_duplicate:
            seen.add(id(found))
        yield path, found
        inside = [(name, inner) for name, inner in found._modules.items() if inner is not None]
        left += [(f"{path}.{name}" if path else name, inner) for name, inner in reversed(inside)]


def own_parameters(module: nn.Module, *, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield (path, parameter), as `nn.Module.named_parameters` does."""
    seen: set[int] = set()
    for path, owner in own_modules(module, remove_duplicate=remove_duplicate):
        for leaf, parameter in owner._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.update([id(parameter)] if remove_duplicate else [])
                yield f"{path}.{leaf}" if path else leaf, parameter


def own_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (path, buffer), as `nn.Module.named_buffers` does."""
    seen: set[int] = set()
    for path, owner in own_modules(module):
        for leaf, buffer in owner._buffers.items():
            if buffer is not None and id(buffer) not in seen:
                seen.add(id(buffer))
                yield f"{path}.{leaf}" if path else leaf, buffer
