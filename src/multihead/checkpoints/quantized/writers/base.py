"""WrittenFormat: a quantized format of checkpoints, as it is written; the inverse of `format.StoredFormat`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor

from ....errors import UnsupportedConfig, UnsupportedOption
from ..stored_codes import StoredCodes
from .integers import IntegerGrid
from .registry import STACKED, WRITTEN


@dataclass(frozen=True)
class FormatOptions:
    """Options of a format that users choose; None for the format's own.

    Args:
        bits: of a code. group: inputs that share a scale; -1 for a whole row. symmetric: codes have no zeros.
        act_order: inputs with large activations are rounded first.
        dtype: of the weights that stay numbers, and of scales where the format leaves it open.
    """

    bits: int | None = None
    group: int | None = None
    symmetric: bool | None = None
    act_order: bool = False
    dtype: torch.dtype = torch.bfloat16


class WrittenFormat(ABC):
    """Format of quantized weights; what its `StoredFormat` reads of a file is what `pack` got.

    Attributes:
        name: as users name it. method: `quant_method` in config.json. calibrated: it cannot do without activations.
        grid: of integers, whose errors of rounding later inputs can make up for; None for other codes.
        rescales: inputs are scaled by their activations before weights are rounded, as AWQ does.
        regroups: with act-order, its groups hold inputs in the order in which they are rounded; else in their own.
        stacks: it stores experts that lie in one tensor, (experts, inputs, outputs), and no other weights.

    Args:
        options: as users chose them. Raises UnsupportedOption for one that the format lacks.
    """

    name: ClassVar[str]
    method: ClassVar[str]
    calibrated: ClassVar[bool] = False
    rescales: ClassVar[bool] = False
    regroups: ClassVar[bool] = False
    stacks: ClassVar[bool] = False
    grid: IntegerGrid | None = None
    allowed: ClassVar[Mapping[str, Sequence[Any]]] = {}  # option -> values; others than these cannot be chosen

    def __init__(self, options: FormatOptions) -> None:
        for option, default in vars(FormatOptions()).items():
            value = getattr(options, option)
            if option != "dtype" and value != default and value not in self.allowed.get(option, ()):
                able = ", ".join(map(str, self.allowed.get(option, ()))) or "its own alone"
                raise UnsupportedOption(f"{self.name} has no {option} = {value}; it has {able}.")
        self.options = options

    def round(self, weight: Tensor) -> StoredCodes:
        """Round a weight (outputs, inputs), float32, to the nearest codes."""
        assert self.grid is not None
        return self.grid.round(weight)

    @abstractmethod
    def pack(self, codes: StoredCodes) -> dict[str, Tensor]:
        """Return the stored tensors of a weight: what follows its module's name -> tensor."""

    @abstractmethod
    def entries(self, skipped: Sequence[str]) -> dict[str, Any]:
        """Return the `quantization_config` of config.json.

        Args:
            skipped: names of linear layers that stay numbers.
        """

    def stored_name(self, weight: str, part: str) -> str:
        """Return the name of a stored tensor of a weight."""
        return f"{weight.removesuffix('.weight')}.{part}"

    def check(self, name: str, shape: Sequence[int]) -> None:
        """Raise UnsupportedConfig for a weight of a shape that the format cannot hold."""
        if len(shape) != 2:
            raise UnsupportedConfig(f"{name} has {len(shape)} axes, and {self.name} holds matrices.")

    def expect_multiple(self, name: str, what: str, count: int, of: int, advice: str = "") -> None:
        """Raise UnsupportedConfig if a number of inputs or outputs is no multiple of another."""
        if of > 0 and count % of:
            raise UnsupportedConfig(
                f"{name} has {count} {what}, no multiple of {of}, which {self.name} needs. "
                f"{advice}Leave it out with --exclude (exclude=)."
            )


def written_format(name: str, options: FormatOptions, *, stacks: bool = False) -> WrittenFormat:
    """Return the format of a name in `registry.WRITTEN`. Raises UnsupportedOption.

    Args:
        stacks: for a model whose experts lie in one tensor.
    """
    if name not in WRITTEN:
        raise UnsupportedOption(f"Format {name!r} is none of {', '.join(WRITTEN)}, gguf:TYPE.")
    module, _, cls = ({**WRITTEN, **STACKED} if stacks else WRITTEN)[name].partition(".")
    found: WrittenFormat = getattr(import_module(f".{module}", __package__), cls)(options)
    return found
