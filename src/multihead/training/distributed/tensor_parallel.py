"""Tensor parallelism: heads and inner channels of a layer are split over processes (arXiv:1909.08053).

The plan depends on the types of the modules, not on the model family: queries, keys and values of attention are split
by heads, inner channels of a feed-forward block evenly. Output projections sum over processes, so activations between
blocks are full. Every process computes all other modules (embeddings, norms, task heads, routers).
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
from ...nn.own_names import own_modules
from ...nn.positions import Positions
from ...nn.stack import Stack
from ...nn.weights import LayerNorm, Linear
from .fsdp import move_and_broadcast
from .process_group import ProcessGroup

HEAD_NORMS = (LayerNorm, RMSNorm, WideRMSNorm)


def split(model: nn.Module, mesh: Any, group: ProcessGroup) -> None:
    """Split every layer over the processes of `mesh`, in place, with the values of the first process.

    Raises:
        UnsupportedOption: a module that cannot be split, or that does not divide evenly.
    """
    count = mesh.size()
    plan: dict[int, tuple[nn.Module, Mapping[str, ParallelStyle]]] = {}
    for path, stack in own_modules(model):
        if isinstance(stack, Stack):
            for number, layer in enumerate(stack.layers):
                for module, parts in layer_plan(layer, f"{path}.layers.{number}", count):
                    plan[id(module)] = (module, parts)
    if not plan:
        raise UnsupportedOption(f"{type(model).__name__} has no layers that tensor_parallel_size could split.")
    move_and_broadcast(model, group)
    for module, parts in plan.values():
        trainable = {name: p.requires_grad for name, p in module.named_parameters()}
        parallelize_module(module, mesh, dict(parts))
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(trainable[name])
        for part in module.modules():
            if isinstance(part, Linear):  # its own forward has kernels for small batches, which do not take DTensors
                part.forward = functools.partial(nn.Linear.forward, part)  # type: ignore[method-assign]


def layer_plan(layer: nn.Module, path: str, count: int) -> Iterator[tuple[nn.Module, Mapping[str, ParallelStyle]]]:
    """Yield the modules of a layer that are split over `count` processes, with their parallel styles.

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
            _check_replicated(layer, name, module, where)
            continue
        done = (*done, f"{name}." if name else "")


def _attention(module: Attention, path: str, count: int) -> Mapping[str, ParallelStyle]:
    """Return the styles of attention: queries, keys and values split by heads."""
    if type(module) not in (Attention, CrossAttention):
        raise _unsupported(
            path, f"it is a {type(module).__name__}, whose heads do more than attend to keys of their own"
        )
    if type(module.positions).bias is not Positions.bias:
        raise _unsupported(path, f"{type(module.positions).__name__} gives each head a bias of its own")
    if module.sinks is not None:
        raise _unsupported(path, "each head has a sink of its own")
    _check_linear(path, q=module.q, k=module.k, v=module.v, out=module.out)
    for what, part in (("key heads", module.k), ("heads", module.q)):
        number = part.weight.shape[0] // module.head_width  # type: ignore[index]
        if number % count:
            raise _unsupported(path, f"its {number} {what} cannot be shared evenly by {count} processes")
    parts: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in ("q", "k", "v")}
    for name in ("q_norm", "k_norm"):
        norm = getattr(module, name)
        known = isinstance(norm, (*HEAD_NORMS, nn.Identity))
        if not known or any(p.shape != (module.head_width,) for p in norm.parameters()):
            raise _unsupported(path, f"its {name} is a {type(norm).__name__}, over all heads or with weights for each")
        if not isinstance(norm, nn.Identity):
            parts[name] = SequenceParallel(sequence_dim=1, use_local_output=True)
    return {**parts, "out": RowwiseParallel()}


def _feed_forward(module: Any, path: str, count: int) -> Mapping[str, ParallelStyle]:
    """Return the styles of a feed-forward block: inner channels split evenly."""
    names = ("gate", "up") if isinstance(module, GatedFeedForward) else ("up",)
    _check_linear(path, **{name: getattr(module, name) for name in (*names, "down")})
    inner = module.down.in_features
    if inner % count:
        raise _unsupported(path, f"its {inner} inner channels cannot be shared evenly by {count} processes")
    return {**{name: ColwiseParallel() for name in names}, "down": RowwiseParallel()}


def _check_linear(path: str, **parts: nn.Module) -> None:
    for name, part in parts.items():
        if type(part) is not Linear:
            raise _unsupported(f"{path}.{name}", f"it is a {type(part).__name__}, no plain linear layer")


def _check_replicated(layer: nn.Module, name: str, module: nn.Module, path: str) -> None:
    """Raise UnsupportedOption for a matrix that would be replicated without a rule for it."""
    parent = layer.get_submodule(name.rpartition(".")[0])
    routes = isinstance(parent, (RoutedExperts, SharedExpert)) and name.rpartition(".")[2] in ("router", "share")
    if not routes and any(p.ndim > 1 for p in module.parameters(recurse=False)):
        raise _unsupported(path, f"it is a {type(module).__name__}, for which there is no rule")


def _unsupported(path: str, why: str) -> UnsupportedOption:
    return UnsupportedOption(f"tensor_parallel_size cannot split {path}: {why}. Use fsdp=True, which splits any layer.")
