"""Formats of quantized checkpoints: which tensors store a weight, and how they become numbers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from ...errors import CorruptFile, UnsupportedConfig, read_errors
from ...extensions import find_object
from .registry import FORMATS
from .stored_codes import StoredCodes

SKIPPED = (
    "modules_to_not_convert",
    "ignored_layers",
    "llm_int8_skip_modules",
    "skip_modules",
)  # names of the same entry


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
    known = FORMATS[method]
    with read_errors(f"quantization_config ({method})", UnsupportedConfig, "Check the types of its entries."):
        cls: Any = known if isinstance(known, type) else find_object(known, __package__)
        found: StoredFormat = cls(entries)
    return found


def expect(true: bool, name: str, what: str) -> None:
    """Raise CorruptFile if a weight's stored tensors do not fit together."""
    if not true:
        raise CorruptFile(f"{name}: {what}.")
