"""Parts of a program's own model: the families' models in it, and its own parameters and buffers, with their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..nn.own_names import own_modules
from .base_model import BaseModel


@dataclass(frozen=True)
class OwnTensor:
    """A parameter or persistent buffer that is no family's, under the name that its file has too."""

    name: str
    owner: nn.Module
    leaf: str
    value: Tensor

    @property
    def is_parameter(self) -> bool:
        return self.leaf in self.owner._parameters

    def replace(self, value: Tensor) -> None:
        """Put another tensor in its place."""
        if self.is_parameter:
            learns = self.value.requires_grad and value.is_floating_point()
            self.owner._parameters[self.leaf] = nn.Parameter(value, requires_grad=learns)
        else:
            self.owner._buffers[self.leaf] = value


def family_models(model: nn.Module) -> dict[str, BaseModel]:
    """Return the families' models in a module by their paths, the outermost ones."""
    found: dict[str, BaseModel] = {}
    for path, module in own_modules(model):
        inside = any(path.startswith(f"{outer}.") for outer in found)
        if isinstance(module, BaseModel) and not inside:
            found[path] = module
    return found


def own_tensors(model: nn.Module) -> Iterator[OwnTensor]:
    """Yield the parameters and persistent buffers outside of the families' models, each name."""
    theirs = {id(module) for part in family_models(model).values() for module in part.modules()}
    for path, owner in own_modules(model):
        if id(owner) in theirs:
            continue
        held = {**owner._parameters, **owner._buffers}
        for leaf, value in held.items():
            if value is not None and leaf not in owner._non_persistent_buffers_set:
                yield OwnTensor(f"{path}.{leaf}" if path else leaf, owner, leaf, value)


@dataclass(frozen=True)
class SharedParameters:
    """Parameters that stand in several places: they are one again after each place got a tensor of its own."""

    places: tuple[tuple[tuple[nn.Module, str], ...], ...]

    @classmethod
    def of(cls, model: nn.Module) -> SharedParameters:
        found: dict[int, list[tuple[nn.Module, str]]] = {}
        for owner in model.modules():
            for leaf, parameter in owner._parameters.items():
                if parameter is not None:
                    found.setdefault(id(parameter), []).append((owner, leaf))
        return cls(tuple(tuple(places) for places in found.values() if len(places) > 1))

    def restore(self, before: set[int]) -> None:
        """Share the first tensor that was replaced, of each group. `before`: ids of the parameters as they were."""
        for places in self.places:
            held = [owner._parameters[leaf] for owner, leaf in places]
            new = next((one for one in held if id(one) not in before), held[0])
            for owner, leaf in places:
                owner._parameters[leaf] = new


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a program's own model as its files have them; a shared parameter once.

    Those of a family's model have the names of the family's files, behind the path of the model.
    """
    families = family_models(model)
    out = {
        f"{path}.{name}": tensor for path, part in families.items() for name, tensor in part.keys.export(part).items()
    }
    seen = {id(parameter) for part in families.values() for parameter in part.parameters()}
    for one in own_tensors(model):
        if id(one.value) not in seen:
            seen.add(id(one.value))
            out[one.name] = one.value.detach().contiguous()
    return out


def with_prefix(model: Any, stored: list[str], own: list[OwnTensor]) -> dict[str, str]:
    """Return the model's names of stored tensors -> their names in the file.

    A file of a model's base lacks the base's name (`base_model_prefix`), and that of a model with a head has it.
    """
    prefix = f"{model.base_model_prefix}."
    if prefix == ".":
        return {name: name for name in stored}
    inner = {one.name for one in own}
    if hasattr(model, model.base_model_prefix):
        if any(name.startswith(prefix) for name in stored):
            return {name: name for name in stored}
        return {f"{prefix}{name}" if f"{prefix}{name}" in inner else name: name for name in stored}
    within = [name for name in stored if name.removeprefix(prefix) in inner and name.startswith(prefix)]
    return {name.removeprefix(prefix): name for name in within} if within else {name: name for name in stored}
