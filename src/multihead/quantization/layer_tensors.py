"""The parameters of a model layer by layer, and which of their stored tensors are quantized."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap, ParameterOwner, parameter_owners
from ..checkpoints.quantized.writers.base import WrittenFormat
from ..checkpoints.tensor_sources import Chained, Joined, Sharded, Source
from ..errors import InvalidInput, UnsupportedConfig, read_errors
from ..modeling.base_model import BaseModel
from ..nn.experts import StackedExperts
from ..nn.own_names import own_modules
from ..nn.weights import Linear

LAYER = re.compile(r"^backbone\.(?:.*?\.)?layers\.\d+(?=\.)")
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class LayerTensors:
    """The parameters of a layer.

    Args:
        path: of the layer, such as `backbone.layers.3`; empty for what is in no layer.
        owners: as `parameter_owners` yields them.
        matrices: name of each stored tensor that is quantized -> paths of the modules whose inputs it multiplies.
    """

    path: str
    owners: Sequence[ParameterOwner]
    matrices: dict[str, tuple[str, ...]]

    def current(self) -> list[ParameterOwner]:
        """Return the owners with the parameters that they hold now."""
        return [(path, owner, leaf, owner._parameters[leaf]) for path, owner, leaf, _ in self.owners]  # type: ignore[misc]


def split_layers(model: BaseModel, format: WrittenFormat, exclude: Sequence[str] = ()) -> list[LayerTensors]:
    """Return the parameters of each layer, in their order, those outside of layers last.

    Args:
        exclude: patterns that are searched in stored names; what one is found in stays as it is.

    Raises:
        UnsupportedConfig: matrices of the layers that the format cannot hold, or none to quantize.
        InvalidInput: a pattern that is none, or that is found nowhere.
    """
    patterns = [_compile(pattern) for pattern in exclude]
    layers: dict[str, list[ParameterOwner]] = {}
    for row in parameter_owners(model):
        found = LAYER.match(row[0])
        layers.setdefault(found[0] if found else "", []).append(row)
    layers[""] = layers.pop("", [])
    keys, left = model.keys, set(_unpacked(model))
    refused: list[str] = []
    result = []
    for path, owners in layers.items():
        matrices, others = _matrices(keys, owners if path else [], left, format.stacks)
        matrices, others = ({k: v for k, v in x.items() if not any(p.search(k) for p in patterns)}
                            for x in (matrices, others))  # fmt: skip
        refused += others
        result.append(LayerTensors(path, owners, matrices))
    names = [name for row in parameter_owners(model) for name in keys.written_names(row[0])]
    for pattern in patterns:
        if not any(pattern.search(name) for name in names):
            raise InvalidInput(f"The pattern {pattern.pattern!r} of what to leave out is found in no stored name.")
    if refused:
        more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        raise UnsupportedConfig(
            f"{format.name} cannot hold {', '.join(refused[:SHOWN])}{more}: it needs matrices that are stored one by "
            "one as (outputs, inputs). Choose another format, or leave them as they are with --exclude (exclude=)."
            if not format.stacks
            else f"{format.name} cannot hold {', '.join(refused[:SHOWN])}{more}."
        )
    if not any(layer.matrices for layer in result):
        raise UnsupportedConfig(f"{type(model).__name__} has no matrices in its layers that {format.name} could hold.")
    return result


def _compile(pattern: str) -> re.Pattern[str]:
    with read_errors(f"exclude {pattern!r}", InvalidInput, "Give a regular expression."):
        return re.compile(pattern)


def _unpacked(model: nn.Module) -> Iterator[str]:
    """Yield the paths of modules that choose experts, which stay as they are."""
    for path, module in own_modules(model):
        for name in getattr(module, "unpacked", ()):
            yield f"{path}.{name}"


def _matrices(
    keys: KeyMap, owners: Sequence[ParameterOwner], left: set[str], stacks: bool
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Return stored matrices with the modules that multiply them: those to quantize, and those that cannot be."""
    found: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    mixed: set[str] = set()  # stored names that hold something else too
    for path, owner, leaf, parameter in owners:
        module, where = path.rpartition(".")[0], keys.locate(path, keys.prefix)
        names = keys.written_names(path)
        stack = isinstance(owner, StackedExperts) and parameter.ndim == 3
        linear = type(owner) is Linear and leaf == "weight" and module not in left
        if not (stack or linear) or where is None:
            mixed.update(names)
            continue
        fits = stack and type(where[0]) is Source if stacks else linear and keeps_rows(where[0])
        if stacks and linear:
            mixed.update(names)
            continue
        for name in names:
            (found if fits else wrong).setdefault(name, []).append(module)
    both = {name: tuple(paths) for name, paths in found.items() if name not in mixed and name not in wrong}
    return both, {name: tuple(paths) for name, paths in wrong.items()}


def keeps_rows(source: Source) -> bool:
    """True if a parameter's rows are rows of the stored matrices, with all of their columns in their order."""
    if isinstance(source, Chained):
        return keeps_rows(source.first) and keeps_rows(source.then)
    return source.by_rows or isinstance(source, Sharded) or (isinstance(source, Joined) and not source.row)


def check_shapes(format: WrittenFormat, layer: LayerTensors, tensors: dict[str, Tensor]) -> None:
    """Raise UnsupportedConfig for a matrix of a layer that the format cannot hold."""
    for name in layer.matrices:
        format.check(name, tensors[name].shape)
