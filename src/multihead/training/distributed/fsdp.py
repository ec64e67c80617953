"""Parameters, gradients and optimizer state shared out over processes: torch's FSDP2 (arXiv:2304.11277) around layers.

What torch needs for it is imported where it is used: it takes most of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ...adapters.layers import LoraLinear
from ...errors import UnsupportedOption
from ...nn.experts import RoutedExperts
from ...nn.stack import Stack
from ..arguments import TrainingArguments
from .process_group import World

STYLES: Mapping[str, bool] = {  # the reference's names -> whether parameters are let go after a layer's forward pass
    "full_shard": True,
    "full_shard auto_wrap": True,
    "shard_grad_op": False,
    "shard_grad_op auto_wrap": False,
}
OPTIONS = ("mixed_precision", "reshard_after_forward")


@dataclass(frozen=True)
class Sharding:
    """How parameters are shared out.

    Args:
        reshard: lets a layer's whole parameters go after its forward pass; they are gathered again for its gradient.
        half: gathers parameters in bfloat16 and adds gradients up in float32; what is kept stays as it is.
    """

    reshard: bool = True
    half: bool = False

    @classmethod
    def of(cls, arguments: TrainingArguments) -> Sharding | None:
        """What `fsdp` and `fsdp_config` ask for; None for nothing.

        Raises:
            UnsupportedOption: a style or option that is not known.
        """
        style, config = arguments.fsdp, dict(arguments.fsdp_config or {})
        if not style:
            if config:
                raise UnsupportedOption("TrainingArguments: fsdp_config needs fsdp=True.")
            return None
        if style is not True and style not in STYLES:
            known = ", ".join(map(repr, STYLES))
            raise UnsupportedOption(f"TrainingArguments: fsdp = {style!r} is none of True, {known}.")
        for name, value in config.items():
            if name not in OPTIONS:
                raise UnsupportedOption(
                    f"TrainingArguments: fsdp_config has {name!r}, which has no meaning here; it takes "
                    f"{', '.join(OPTIONS)}. Layers are found by themselves, and gradient_checkpointing is a setting of "
                    "its own."
                )
            if not isinstance(value, bool):
                raise UnsupportedOption(f"TrainingArguments: fsdp_config: {name} = {value!r} must be true or false.")
        usual = True if style is True else STYLES[style]
        return cls(config.get("reshard_after_forward", usual), config.get("mixed_precision", arguments.bf16))


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 shares out a module's own parameters."""
    return hasattr(module, "set_requires_gradient_sync")  # of torch's FSDPModule


def shard(objective: nn.Module, mesh: Any, sharding: Sharding, world: World) -> None:
    """Shares out each layer's parameters, and those of the rest (embeddings, norms, heads) as one more group.

    Layers are moved to the device one by one, so that it never holds all of them whole. All processes begin with the
    first one's values.

    Args:
        mesh: the processes that share one copy.

    Raises:
        UnsupportedOption: layers that are left out at random, by each process for itself.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    layers = list(layers_of(objective))
    common = shared(objective, layers)
    half = torch.bfloat16 if sharding.half else None
    policy = MixedPrecisionPolicy(half, torch.float32 if half else None, cast_forward_inputs=False)  # autocast casts
    options = {"mesh": mesh, "mp_policy": policy, "ignored_params": {p for m in common for p in m.parameters()}}
    with unchanged(objective):
        for layer in layers:
            settled(layer, world)
            wrapped = fully_shard(layer, reshard_after_forward=sharding.reshard, **options)
            if hasattr(layer, "both"):  # a second way through a layer (XLNet's targets)
                register_fsdp_forward_method(layer, "both")
            if any(isinstance(module, RoutedExperts) for module in layer.modules()):
                _count_unread(wrapped)
        objective.shared = nn.ModuleList(common)  # so that they are the root's, which does not look into layers
        settled(objective, world)
        fully_shard(objective, **{**options, "ignored_params": set()})


@contextmanager
def unchanged(objective: nn.Module) -> Iterator[None]:
    """Inside, linear layers with adapters show their own weights.

    torch looks a sharded parameter up by its name once more before it is first gathered, and under `weight` such a
    layer shows the changed one; so everything is gathered once inside.
    """
    changed = [module for module in objective.modules() if isinstance(module, LoraLinear)]
    for module in changed:
        module.shows_base_weight = True
    yield
    for part in objective.modules() if changed else ():
        if is_sharded(part):
            part.unshard()  # type: ignore[operator]
            part.reshard()  # type: ignore[operator]
    for module in changed:
        module.shows_base_weight = False


def layers_of(objective: nn.Module) -> Iterator[nn.Module]:
    """The layers that stand in one place of one stack; those that are passed several times stay whole in between.

    Raises:
        UnsupportedOption: a stack that leaves layers out at random.
    """
    for path, stack in objective.named_modules():
        if not isinstance(stack, Stack):
            continue
        if stack.drop:
            raise UnsupportedOption(
                f"{path} leaves out layers with probability {stack.drop}, each process others: sharded parameters "
                "could not be gathered. Set the config's layerdrop to 0."
            )
        times = Counter(map(id, stack.layers))
        yield from (layer for layer in stack.layers if times[id(layer)] == 1)


def shared(objective: nn.Module, layers: list[nn.Module]) -> list[nn.Module]:
    """Modules inside of layers whose parameters others hold too (T5's table of distances)."""
    inside = {id(module) for layer in layers for module in layer.modules()}
    rest = [p for m in objective.modules() if id(m) not in inside for p in m.parameters(recurse=False)]
    times = Counter(map(id, rest)) + Counter(id(p) for layer in layers for p in layer.parameters())
    found = {
        id(module): module
        for layer in layers
        for module in layer.modules()
        if any(times[id(p)] > 1 for p in module.parameters(recurse=False))
    }
    return list(found.values())


def settled(module: nn.Module, world: World) -> None:
    """Moves whole parameters and buffers to the device, with the first process's values."""
    module.to(torch.device(world.device, world.local) if world.device == "cuda" else world.device)
    for tensor in (*module.parameters(), *module.buffers()):
        if not hasattr(tensor, "device_mesh"):
            dist.broadcast(tensor.detach(), 0)


def gathered_no_more(module: nn.Module) -> None:
    """Lets go of whole parameters that a pass without a gradient has left, so that the module has its shards again."""
    for part in module.modules():
        if is_sharded(part):
            part.reshard()  # type: ignore[operator]


def _count_unread(layer: Any) -> None:
    """Experts without tokens on one process have gradients on another: zeros stand for them."""
    if not hasattr(layer, "set_reduce_scatter_unused_params"):
        raise UnsupportedOption(f"fsdp with layers of experts needs a newer torch than {torch.__version__}: 2.13.")
    layer.set_reduce_scatter_unused_params(True)
