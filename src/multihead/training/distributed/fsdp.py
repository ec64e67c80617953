"""Sharding of parameters, gradients and optimizer state over processes by torch's FSDP2 (arXiv:2304.11277).

torch's FSDP modules are imported at use, since their import takes most of a second.
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
from ...nn.own_names import own_modules
from ...nn.stack import Stack
from ..arguments import TrainingArguments
from .process_group import ProcessGroup

STRATEGIES: Mapping[str, bool] = {  # name of Transformers -> reshard parameters after the forward pass of a layer
    "full_shard": True,
    "full_shard auto_wrap": True,
    "shard_grad_op": False,
    "shard_grad_op auto_wrap": False,
}
FSDP_OPTIONS = ("mixed_precision", "reshard_after_forward")


@dataclass(frozen=True)
class Sharding:
    """FSDP settings.

    Args:
        reshard: free the full parameters of a layer after its forward pass and gather them again for its gradient.
        bfloat16: gather parameters in bfloat16 and reduce gradients in float32; stored parameters keep their dtype.
    """

    reshard: bool = True
    bfloat16: bool = False

    @classmethod
    def of(cls, arguments: TrainingArguments) -> Sharding | None:
        """Read `fsdp` and `fsdp_config`; None without FSDP.

        Raises:
            UnsupportedOption: an unknown strategy or option.
        """
        style, config = arguments.fsdp, dict(arguments.fsdp_config or {})
        if not style:
            if config:
                raise UnsupportedOption("TrainingArguments: fsdp_config needs fsdp=True.")
            return None
        if style is not True and style not in STRATEGIES:
            known = ", ".join(map(repr, STRATEGIES))
            raise UnsupportedOption(f"TrainingArguments: fsdp = {style!r} is none of True, {known}.")
        for name, value in config.items():
            if name not in FSDP_OPTIONS:
                raise UnsupportedOption(
                    f"TrainingArguments: fsdp_config has {name!r}, which has no meaning here; it takes "
                    f"{', '.join(FSDP_OPTIONS)}. Layers are found automatically, and gradient_checkpointing is a "
                    "setting of its own."
                )
            if not isinstance(value, bool):
                raise UnsupportedOption(f"TrainingArguments: fsdp_config: {name} = {value!r} must be true or false.")
        default = True if style is True else STRATEGIES[style]
        return cls(config.get("reshard_after_forward", default), config.get("mixed_precision", arguments.bf16))


def is_sharded(module: nn.Module) -> bool:
    """Return whether FSDP2 shards the parameters of a module."""
    return hasattr(module, "set_requires_gradient_sync")  # a method of torch's FSDPModule


def shard(objective: nn.Module, mesh: Any, sharding: Sharding, group: ProcessGroup) -> None:
    """Shard the parameters of each layer, and all others (embeddings, norms, heads) as one more FSDP unit.

    Layers move to the device one by one, so that the device never holds all full layers. All processes start with the
    values of the first process.

    Args:
        mesh: processes that share one copy of the model.

    Raises:
        UnsupportedOption: the model drops layers at random (LayerDrop), which each process draws by itself.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    layers = list(unit_layers(objective))
    common = shared_modules(objective, layers)
    dtype = torch.bfloat16 if sharding.bfloat16 else None
    # autocast casts the inputs
    policy = MixedPrecisionPolicy(dtype, torch.float32 if dtype else None, cast_forward_inputs=False)
    options = {"mesh": mesh, "mp_policy": policy, "ignored_params": {p for m in common for p in m.parameters()}}
    with show_base_weights(objective):
        for layer in layers:
            move_and_broadcast(layer, group)
            wrapped = fully_shard(layer, reshard_after_forward=sharding.reshard, **options)
            if hasattr(layer, "both"):  # XLNet's two-stream forward
                register_fsdp_forward_method(layer, "both")
            if any(isinstance(module, RoutedExperts) for module in layer.modules()):
                _allow_unused_experts(wrapped)
        # shared parameters belong to the root unit, which does not search inside layers
        objective.shared = nn.ModuleList(common)
        move_and_broadcast(objective, group)
        fully_shard(objective, **{**options, "ignored_params": set()})


@contextmanager
def show_base_weights(objective: nn.Module) -> Iterator[None]:
    """Let linear layers with adapters show their base weights inside the block.

    torch looks a sharded parameter up by name once more before it is first gathered, and `weight` of a LoRA layer is
    the merged weight. So all parameters are gathered once inside the block.
    """
    lora = [module for module in objective.modules() if isinstance(module, LoraLinear)]
    for module in lora:
        module.shows_base_weight = True
    yield
    for part in objective.modules() if lora else ():
        if is_sharded(part):
            part.unshard()  # type: ignore[operator]
            part.reshard()  # type: ignore[operator]
    for module in lora:
        module.shows_base_weight = False


def unit_layers(objective: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that occur once in their stack; repeated layers must stay gathered between their uses.

    Raises:
        UnsupportedOption: a stack with LayerDrop.
    """
    for path, stack in own_modules(objective):
        if not isinstance(stack, Stack):
            continue
        if stack.drop:
            raise UnsupportedOption(
                f"{path} drops layers with probability {stack.drop}, each process other ones: sharded parameters "
                "could not be gathered. Set the config's layerdrop to 0."
            )
        times = Counter(map(id, stack.layers))
        yield from (layer for layer in stack.layers if times[id(layer)] == 1)


def shared_modules(objective: nn.Module, layers: list[nn.Module]) -> list[nn.Module]:
    """Return modules inside layers whose parameters other modules use too (T5's position bias table)."""
    inside = {id(module) for layer in layers for module in layer.modules()}
    rest = [p for m in objective.modules() if id(m) not in inside for p in m.parameters(recurse=False)]
    times = Counter(map(id, rest)) + Counter(id(p) for layer in layers for p in layer.parameters())
    modules = {
        id(module): module
        for layer in layers
        for module in layer.modules()
        if any(times[id(p)] > 1 for p in module.parameters(recurse=False))
    }
    return list(modules.values())


def move_and_broadcast(module: nn.Module, group: ProcessGroup) -> None:
    """Move full parameters and buffers to the device, and set them to the values of the first process."""
    module.to(torch.device(group.device, group.local_rank) if group.device == "cuda" else group.device)
    for tensor in (*module.parameters(), *module.buffers()):
        if not hasattr(tensor, "device_mesh"):
            dist.broadcast(tensor.detach(), 0)


def reshard(module: nn.Module) -> None:
    """Free the full parameters that a pass without gradients leaves gathered."""
    for part in module.modules():
        if is_sharded(part):
            part.reshard()  # type: ignore[operator]


def _allow_unused_experts(layer: Any) -> None:
    """Reduce gradients of experts that have tokens on some processes only; the others contribute zeros."""
    if not hasattr(layer, "set_reduce_scatter_unused_params"):
        raise UnsupportedOption(f"fsdp with layers of experts needs a newer torch than {torch.__version__}: 2.13.")
    layer.set_reduce_scatter_unused_params(True)
