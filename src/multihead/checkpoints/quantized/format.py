"""Formats of quantized checkpoints: which tensors store a weight, and how they become numbers."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import CorruptFile, UnsupportedConfig, read_errors
from .registry import FORMATS

SLICE = 2**22  # weights that are dequantized at once
SKIPPED = ("modules_to_not_convert", "ignored_layers", "llm_int8_skip_modules")  # names of the same entry


@dataclass(frozen=True)
class StoredCodes:
    """A weight in codes: (code - zero) * scale.

    Args:
        codes: (..., rows, columns), integers or narrow floating-point numbers.
        scales: (..., rows, groups), or (..., 1, groups) where all rows share them.
        zeros: as `scales`, integers; None for zero.
        size: columns of a group; the last group may be narrower.
        index: group of each column, (columns,), where groups are not neighbours; `size` then says nothing.
        bits: of a code.
        transposed: True if the weight is the transpose of this matrix.
        table: numbers of the codes, where these are no numbers themselves.
        form: shape of the weight, where the matrix holds its codes end to end; None for the matrix itself.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None = None
    size: int = 0
    index: Tensor | None = None
    bits: int = 8
    transposed: bool = False
    table: Tensor | None = None
    form: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight, before it takes its `form`."""
        *more, rows, columns = self.codes.shape
        return (*more, columns, rows) if self.transposed else (*more, rows, columns)

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """Dequantize, some rows at a time: in float32, then rounded once."""
        rows, columns = self.codes.shape[-2:]
        out = torch.empty(self.shape, dtype=dtype)
        targets = out.view(-1, *self.shape[-2:])
        step = max(1, SLICE // max(1, columns))
        scales, zeros = self._matrices(self.scales), None if self.zeros is None else self._matrices(self.zeros)
        for number, codes in enumerate(self._matrices(self.codes)):
            target = targets[number].T if self.transposed else targets[number]  # (rows, columns)
            for begin in range(0, rows, step):
                part = slice(begin, begin + step)
                values = codes[part].float() if self.table is None else self.table[codes[part].int()]
                if zeros is not None:
                    values -= self._columns(zeros[number], part)
                target[part] = values.mul_(self._columns(scales[number], part))
        return out if self.form is None else out.flatten()[: math.prod(self.form)].view(self.form)

    def _matrices(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *x.shape[-2:])

    def _columns(self, groups: Tensor, part: slice) -> Tensor:
        """Return the number of its group for each column of some rows: (rows, groups) to (rows, columns)."""
        found = (groups[part] if len(groups) > 1 else groups).float()
        if self.index is not None:
            return found[:, self.index]
        if found.shape[1] == 1:
            return found
        return found.repeat_interleave(self.size, 1)[:, : self.codes.shape[-1]]


class StoredFormat(ABC):
    """Quantized format of a checkpoint, with the settings of its `quantization_config`.

    Attributes:
        method: `quant_method` in config.json, the key in `registry.FORMATS`.
        names: (pattern of a stored name, name of the weight, part) rows; the first that matches counts. The tensor
            with the weight's own name is the part "codes".
        unread: patterns of stored tensors that change no weight.

    Args:
        entries: of quantization_config.
    """

    method: ClassVar[str]
    names: ClassVar[Sequence[tuple[str, str, str]]]
    unread: ClassVar[Sequence[str]] = ()

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.entries = entries
        skipped: Any = next((found for name in SKIPPED if (found := entries.get(name))), [])
        if not isinstance(skipped, list) or not all(isinstance(each, str) for each in skipped):
            raise UnsupportedConfig(f"{self.title}: modules that are not quantized are {skipped!r}, no list of names.")
        self.skipped: list[str] = skipped
        for pattern in skipped:
            with read_errors(f"{self.title}: {pattern!r}", UnsupportedConfig, "Name modules or give patterns."):
                re.compile(pattern)
        self.check()

    @property
    def title(self) -> str:
        """The beginning of messages about the config."""
        return f"quantization_config ({self.method})"

    @abstractmethod
    def check(self) -> None:
        """Check the entries and keep what decoding needs. Raises UnsupportedConfig."""

    @abstractmethod
    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        """Return the codes of a weight.

        Args:
            name: of the weight. parts: its stored tensors.

        Raises:
            CorruptFile: parts that do not fit together, or contradict the config.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return the format and its bits in a few words."""

    def is_weight(self, parts: Mapping[str, str]) -> bool:
        """True if these stored tensors (part -> name) are a quantized weight, False if they are ordinary tensors."""
        return True

    def entry(self, name: str, default: Any, *allowed: Any) -> Any:
        """Return an entry; None counts as left out. Raises UnsupportedConfig for one that is not allowed."""
        found = self.entries.get(name)
        found = default if found is None else found
        if allowed and found not in allowed:
            choices = ", ".join(repr(each) for each in allowed)
            raise UnsupportedConfig(f"{self.title}: {name} is {found!r}; read are {choices}.")
        return found

    def whole(self, name: str, default: int | None) -> int:
        """Return an entry that must be a whole number."""
        found = self.entry(name, default)
        if not isinstance(found, int) or isinstance(found, bool):
            raise UnsupportedConfig(f"{self.title}: {name} is {found!r}; a whole number is read.")
        return found

    def skips(self, module: str) -> bool:
        """True if the config leaves a module in floating-point numbers.

        A pattern names a module from the beginning, as a regular expression up to a dot or the end, or its end.
        """
        return any(
            module.endswith(pattern) or re.match(rf"(?:{pattern})(?:(?<=\.)|(?=\.|$))", module)
            for pattern in self.skipped
        )


def open_format(entries: Mapping[str, Any]) -> StoredFormat:
    """Return the format that a quantization_config describes. Raises UnsupportedConfig."""
    method = entries["quant_method"]
    module, _, cls = FORMATS[method].partition(".")
    with read_errors(f"quantization_config ({method})", UnsupportedConfig, "Check the types of its entries."):
        found: StoredFormat = getattr(import_module(f".{module}", __package__), cls)(entries)
    return found


def expect(true: bool, name: str, what: str) -> None:
    """Raise CorruptFile if a weight's stored tensors do not fit together."""
    if not true:
        raise CorruptFile(f"{name}: {what}.")
