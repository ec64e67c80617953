"""Layers shared by several processes: heads and inner channels are split, activations between are whole.

The plan follows from what a module does in its layer, not from a family (Shoeybi et al., 2019, arXiv:1909.08053): an
attention's queries, keys and values are split by heads, a feed-forward's inner channels evenly; what brings them back
adds up over processes. Everything else (embeddings, norms, heads of tasks, routers) is computed by each process alike.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.distributed.tensor.parallel.style import ParallelStyle

from ...errors import UnsupportedOption
from ...nn.attention.attention import Attention, CrossAttention
from ...nn.experts import RoutedExperts, SharedExpert
from ...nn.feedforward import FeedForward, GatedFeedForward
from ...nn.norms import RMSNorm, WideRMSNorm
from ...nn.positions import Positions
from ...nn.stack import Stack
from ...nn.weights import LayerNorm, Linear
from .fsdp import settled
from .process_group import World

HEAD_NORMS = (LayerNorm, RMSNorm, WideRMSNorm)


def split(model: nn.Module, mesh: Any, world: World) -> None:
    """Splits every layer over the processes of `mesh`, in place. All begin with the first process's values.

    Raises:
        UnsupportedOption: a module whose part in its layer is none that can be split, or that does not divide evenly.
    """
    count = mesh.size()
    found: dict[int, tuple[nn.Module, Mapping[str, ParallelStyle]]] = {}
    for path, stack in model.named_modules():
        if isinstance(stack, Stack):
            for number, layer in enumerate(stack.layers):
                for module, parts in planned(layer, f"{path}.layers.{number}", count):
                    found[id(module)] = (module, parts)
    if not found:
        raise UnsupportedOption(f"{type(model).__name__} has no layers that tensor_parallel_size could split.")
    settled(model, world)
    for module, parts in found.values():
        learns = {name: p.requires_grad for name, p in module.named_parameters()}
        parallelize_module(module, mesh, dict(parts))
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(learns[name])
        for part in module.modules():
            if isinstance(part, Linear):  # which else has ways for small batches that know no split weights
                part.forward = functools.partial(nn.Linear.forward, part)  # type: ignore[method-assign]


def planned(layer: nn.Module, path: str, count: int) -> Iterator[tuple[nn.Module, Mapping[str, ParallelStyle]]]:
    """The modules of a layer that are split in `count`, and how.

    Raises:
        UnsupportedOption: see `split`.
    """
    done: tuple[str, ...] = ()
    for name, module in layer.named_modules():
        where = f"{path}.{name}" if name else path
        if f"{name}.".startswith(done):
            continue
        if isinstance(module, Attention):
            yield module, _attention(module, where, count)
        elif type(module) in (FeedForward, GatedFeedForward):
            yield module, _feed_forward(module, where, count)
        else:
            _whole(layer, name, module, where)
            continue
        done = (*done, f"{name}." if name else "")


def _attention(module: Attention, path: str, count: int) -> Mapping[str, ParallelStyle]:
    """Queries, keys and values by heads."""
    if type(module) not in (Attention, CrossAttention):
        raise _refused(path, f"it is a {type(module).__name__}, whose heads do more than attend to keys of their own")
    if type(module.positions).bias is not Positions.bias:
        raise _refused(path, f"{type(module.positions).__name__} gives each head a bias of its own")
    if module.sinks is not None:
        raise _refused(path, "each head has a sink of its own")
    _linear(path, q=module.q, k=module.k, v=module.v, out=module.out)
    for what, part in (("key heads", module.k), ("heads", module.q)):
        number = part.weight.shape[0] // module.head_width  # type: ignore[index]
        if number % count:
            raise _refused(path, f"its {number} {what} cannot be shared evenly by {count} processes")
    parts: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in ("q", "k", "v")}
    for name in ("q_norm", "k_norm"):
        norm = getattr(module, name)
        alike = isinstance(norm, (*HEAD_NORMS, nn.Identity))
        if not alike or any(p.shape != (module.head_width,) for p in norm.parameters()):
            raise _refused(path, f"its {name} is a {type(norm).__name__}, over all heads or with weights for each")
        if not isinstance(norm, nn.Identity):
            parts[name] = SequenceParallel(sequence_dim=1, use_local_output=True)
    return {**parts, "out": RowwiseParallel()}


def _feed_forward(module: Any, path: str, count: int) -> Mapping[str, ParallelStyle]:
    """Inner channels evenly."""
    names = ("gate", "up") if isinstance(module, GatedFeedForward) else ("up",)
    _linear(path, **{name: getattr(module, name) for name in (*names, "down")})
    inner = module.down.in_features
    if inner % count:
        raise _refused(path, f"its {inner} inner channels cannot be shared evenly by {count} processes")
    return {**{name: ColwiseParallel() for name in names}, "down": RowwiseParallel()}


def _linear(path: str, **parts: nn.Module) -> None:
    for name, part in parts.items():
        if type(part) is not Linear:
            raise _refused(f"{path}.{name}", f"it is a {type(part).__name__}, no plain linear layer")


def _whole(layer: nn.Module, name: str, module: nn.Module, path: str) -> None:
    """Raises UnsupportedOption for matrices that would be neither split nor small."""
    parent = layer.get_submodule(name.rpartition(".")[0])
    routes = isinstance(parent, (RoutedExperts, SharedExpert)) and name.rpartition(".")[2] in ("router", "share")
    if not routes and any(p.ndim > 1 for p in module.parameters(recurse=False)):
        raise _refused(path, f"it is a {type(module).__name__}, for which there is no rule")


def _refused(path: str, why: str) -> UnsupportedOption:
    return UnsupportedOption(f"tensor_parallel_size cannot split {path}: {why}. Use fsdp=True, which splits any layer.")
