"""The adapters of a model: add them, choose the active ones, remove or merge them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..checkpoints.key_map import KeyMap, parameter_owners
from ..errors import InvalidInput, UnsupportedConfig, UnsupportedOption, nearest
from ..nn.own_names import own_modules
from ..nn.quantized_linear import dequantize_model, is_quantized
from ..nn.replace_layers import LayerPlaces
from .config import ALL_LINEAR, LoraConfig
from .layers import AdapterLayer, add_lora, initial_down, unwrap, wrap
from .targets import (
    SavedParameter,
    Target,
    V,
    choose_targets,
    find_targets,
    named_targets,
    saved_parameters,
    unknown_module,
    values_by_pattern,
)

RANK = 4096  # up to which a rank that does not fit is found by comparing shapes


class Adapters(nn.Module):
    """The adapters of a model and their settings. Their matrices are in the model's layers.

    Args (as attributes):
        configs: by name, in the order of adding. trainable: whether an active adapter learns.
        sources: where loaded adapters came from.
        frozen: paths of the base's parameters that were trainable before the first adapter.
        originals: base parameters that some adapter replaces. copies: each adapter's own, by the same keys.
    """

    not_in_checkpoint = True  # no parameter of the model's own checkpoint

    def __init__(self) -> None:
        super().__init__()
        self.configs: dict[str, LoraConfig] = {}
        self.trainable: dict[str, bool] = {}
        self.sources: dict[str, str] = {}
        self.active: tuple[str, ...] = ()
        self.enabled = True
        self.frozen: list[str] = []
        self.originals, self.copies = nn.ParameterDict(), nn.ModuleDict()

    def check_known(self, name: str) -> str:
        """Return the name. Raises InvalidInput if there is no such adapter."""
        if name not in self.configs:
            raise InvalidInput(f"The model has no adapter {name!r}. {nearest(name, self.configs)}")
        return name


def parameter_key(path: str) -> str:
    """Turn a parameter's path into a key of a `ModuleDict`, which allows no dots."""
    return path.replace(".", "/")


def adapter_layers(model: nn.Module) -> Iterator[AdapterLayer]:
    return (module for module in model.modules() if isinstance(module, AdapterLayer))


def add_adapter(
    model: Any,
    config: LoraConfig,
    name: str,
    prefix: str,
    *,
    trainable: bool = True,
    strict: bool = True,
    most: int | None = None,
) -> LoraConfig:
    """Add an adapter, make it the active one, and freeze everything else.

    Args:
        prefix: of the backbone in the names that the config uses. strict: as for `choose_targets`.
        most: the largest rank in the adapter's file.

    Returns:
        The config with names that a file can have.

    Raises:
        InvalidInput: the adapter's name is taken or not allowed, or names in the config match nothing.
        UnsupportedConfig: a larger rank than the file's.
    """
    if getattr(model, "prepared", None):
        raise InvalidInput("This model was prepared for inference; load it without precision=... to add adapters.")
    keys: KeyMap = model.keys
    known: Adapters | None = model.adapters
    check_name(name, known)
    found = find_targets(model, keys, prefix)
    config = with_head_modules(model, config, keys, prefix, strict)
    wanted = choose_targets(model, config, found, strict=strict)
    parts = saved_parameters(model, keys, prefix, config.modules_to_save or [])
    ranks = values_by_pattern(found, config.rank_pattern, wanted, config.r, ours=strict)
    alphas = values_by_pattern(found, config.alpha_pattern, wanted, config.lora_alpha, ours=strict)
    if most is not None and max(ranks.values()) > max(most, RANK):  # before anything of that size is made
        raise UnsupportedConfig(f"The adapter's config asks for rank {max(ranks.values()):,}; its file has {most:,}.")
    if known is None:
        known = model.adapters = Adapters()
        known.frozen = [path for path, _, _, p in parameter_owners(model) if p.requires_grad]
        for parameter in model.parameters():
            parameter.requires_grad_(False)
    places = LayerPlaces(model)
    for target in wanted:
        change_target(target, config, name, ranks[target.name], alphas[target.name], places)
    copy_parameters(known, parts, name)
    config = saved_config(config, wanted, found, parts)
    own_ranks, own_alphas = exceptions(ranks, config.r), exceptions(alphas, config.lora_alpha)
    config = replace(config, rank_pattern=own_ranks, alpha_pattern=own_alphas)
    known.configs[name], known.trainable[name] = config, trainable
    activate(model, (name,))
    return config


def check_name(name: str, known: Adapters | None) -> None:
    if known is not None and name in known.configs:
        raise InvalidInput(f"The model has an adapter {name!r} already; give another adapter_name, or delete it first.")
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict, name):
        raise InvalidInput(f"{name!r} cannot name an adapter; take a word without dots, such as 'default'.")


def with_head_modules(model: Any, config: LoraConfig, keys: KeyMap, prefix: str, strict: bool) -> LoraConfig:
    """Return the config with all modules that are trained whole: those it names, the task's, and new ones."""
    requested = config.modules_to_save or []
    for name in requested if strict else ():
        if not saved_parameters(model, keys, prefix, [name]):
            raise unknown_module(model, name, keys, prefix)
    fresh = [key.rpartition(".")[0] for key in model.new_weights] if strict else []
    heads = list(config.head_modules)
    if strict and heads and not saved_parameters(model, keys, prefix, heads):  # a family whose head has other names
        paths = [path for path, *_ in parameter_owners(model) if path.startswith("head.")]
        heads = [found[1][0].rpartition(".")[0] for path in paths if (found := keys.locate(path, prefix))]
    names = list(dict.fromkeys([*requested, *heads, *fresh]))
    return replace(config, modules_to_save=names or None)


def exceptions(values: Mapping[str, V], usual: V) -> dict[str, V]:
    """Return the values that differ from `usual`, by regular expressions of their names."""
    return {re.escape(name): value for name, value in values.items() if value != usual}


def change_target(target: Target, config: LoraConfig, name: str, rank: int, alpha: float, places: LayerPlaces) -> None:
    """Add one adapter's matrices to the layers of a target, at these places of the model."""
    scale = config.scale(alpha, rank)
    wrapped = [wrap(layer, places) for layer in target.layers]
    weight = wrapped[0].base_weight()
    kind = torch.promote_types(weight.dtype, torch.float32)  # halves are too coarse for small steps
    down = nn.Parameter(initial_down(rank, weight.shape[1], config.init_lora_weights).to(weight.device, kind))
    for layer in wrapped:
        add_lora(
            layer, name, down, scale=scale, dropout=config.lora_dropout, dora=config.use_dora,
            drawn=config.init_lora_weights is False,
        )  # fmt: skip


def copy_parameters(known: Adapters, parts: Sequence[SavedParameter], name: str) -> None:
    """Copy the parameters that an adapter replaces."""
    own = known.copies[name] = nn.ParameterDict()
    for part in parts:
        key = parameter_key(part.path)
        if key not in known.originals:
            known.originals[key] = part.owner._parameters[part.leaf]
        own[key] = nn.Parameter(known.originals[key].detach().clone())


def saved_config(
    config: LoraConfig, wanted: Sequence[Target], found: Sequence[Target], parts: Sequence[SavedParameter]
) -> LoraConfig:
    """Return the config in names of the reference's model, as a file must have them."""
    requested, listed = config.target_modules, [target.name for target in wanted]
    same = requested is not None and set(wanted) <= set(named_targets(found, requested, ours=False))
    theirs = same and not (isinstance(requested, str) and requested.lower() == ALL_LINEAR)
    changes: dict[str, Any] = {"fan_in_fan_out": any(target.transposed for target in wanted)}
    if not theirs or config.exclude_modules:
        changes |= {"target_modules": listed, "exclude_modules": None}
        changes |= {"layers_to_transform": None, "layers_pattern": None}
    modules = [name for name in config.modules_to_save or () if any(part.ends_with(name) for part in parts)]
    ours = [part.modules[0] for part in parts if not any(part.ends_with(name) for name in modules)]
    changes["modules_to_save"] = list(dict.fromkeys([*modules, *ours])) or None
    return replace(config, **changes)


def activate(model: Any, names: Sequence[str]) -> None:
    """Make these adapters the active ones; their changes add up. The others are frozen.

    Raises:
        InvalidInput: no such adapter, or two that replace the same parameter.
    """
    known: Adapters = model.adapters
    names = tuple(dict.fromkeys(known.check_known(name) for name in names))
    seen: dict[str, str] = {}
    for name in names:
        for key in known.copies[name]:  # type: ignore[attr-defined]
            if key in seen:
                raise InvalidInput(
                    f"The adapters {seen[key]!r} and {name!r} both replace {key.replace('/', '.')}; only one of them "
                    "can be active."
                )
            seen[key] = name
    known.active = names
    for layer in adapter_layers(model):
        for name, lora in layer.lora.items():
            lora.requires_grad_(name in names and known.trainable[name])
    for name, own in known.copies.items():
        own.requires_grad_(name in names and known.trainable[name])
    apply_active(model)


def apply_active(model: Any) -> None:
    """Update layers and replaced parameters to the active adapters, or to none while adapters are disabled."""
    known: Adapters = model.adapters
    names = known.active if known.enabled else ()
    for layer in adapter_layers(model):
        layer.active = tuple(name for name in names if name in layer.lora)
    for key, original in known.originals.items():
        found = next((known.copies[name][key] for name in names if key in known.copies[name]), original)  # type: ignore
        path, _, leaf = key.replace("/", ".").rpartition(".")
        model.get_submodule(path)._parameters[leaf] = found


def make_trainable(model: Any) -> None:
    """Make the active adapters trainable."""
    known: Adapters = model.adapters
    known.trainable |= dict.fromkeys(known.active, True)
    activate(model, known.active)


def is_untrained(model: Any) -> bool:
    """True while the active adapters change nothing, as before their first training step."""
    known: Adapters = model.adapters
    for layer in adapter_layers(model):
        for change in layer.active_loras():
            length = change.row_scale(layer.base_weight()) if change.magnitude is not None else None
            if change.B.any() or (length is not None and not torch.allclose(length, torch.ones_like(length))):
                return False
    same = (torch.equal(own, known.originals[key]) for n in known.active for key, own in known.copies[n].items())  # type: ignore[operator]
    return all(same)


def remove_adapter(model: Any, name: str) -> None:
    """Remove an adapter. With the last one, the base's parameters become trainable as before."""
    known: Adapters = model.adapters
    known.check_known(name)
    activate(model, [other for other in known.active if other != name])
    places = LayerPlaces(model)
    for layer in list(adapter_layers(model)):
        if name in layer.lora:
            del layer.lora[name]
        if not layer.lora:
            unwrap(layer, places)
    del known.copies[name], known.configs[name], known.trainable[name]
    known.sources.pop(name, None)
    if not known.configs:
        model.adapters = None
        for path, _, _, parameter in parameter_owners(model):
            if path in known.frozen:
                parameter.requires_grad_(True)


def merge_adapters(model: Any, dequantize: bool) -> None:
    """Add the active adapters' changes, computed in float32, to the base's weights, and remove all adapters.

    Raises:
        UnsupportedOption: the base is quantized, and `dequantize` does not allow it to grow.
    """
    if is_quantized(model) and not dequantize:
        raise UnsupportedOption(
            "The base model is quantized, and codes cannot take up small changes. Call "
            "merge_adapters(dequantize=True) for a model in full precision, or keep the adapter beside the base."
        )
    known: Adapters = model.adapters
    known.enabled = True
    apply_active(model)
    with torch.no_grad():
        values = {
            path: layer.merged_weight(layer.base_weight().float())
            for path, layer in own_modules(model) if isinstance(layer, AdapterLayer) and layer.active
        }  # fmt: skip
        for key in known.originals:
            path, _, leaf = key.replace("/", ".").rpartition(".")
            known.originals[key] = nn.Parameter(model.get_submodule(path)._parameters[leaf].detach())
        if known.originals:
            model.new_weights = ()  # a new head is trained now
        for name in list(known.configs):
            remove_adapter(model, name)
        dequantize_model(model)
        for path, value in values.items():
            layer = model.get_submodule(path)
            owned = layer._parameters["weight"]
            assert owned is not None
            layer._parameters["weight"] = nn.Parameter(value.to(owned.dtype), owned.requires_grad)
