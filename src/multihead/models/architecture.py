"""What the library knows of one family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..checkpoints.keys import KeyMap
from ..config import Config
from ..heads import Head
from ..kinds import Kind

Build = Callable[[Any], nn.Module]
Keys = Callable[[Any], KeyMap]
MakeHead = Callable[[Any, Any], Head]  # (config, backbone) -> head


@dataclass(frozen=True)
class Architecture:
    """A family: from its config to modules, and from a checkpoint's names to theirs.

    Args:
        name: stem of the family's class names (`Bert`).
        heads: end of a class name (`ForMaskedLM`, `Model`) -> its head; None for a backbone without one.
        layouts: key maps of other file formats, by the name of the layout (`gguf`, `marian`).
        foreign_config: config.json entries from the metadata of such a file, by layout.
        kinds: where a class of this family is of another kind than its name says elsewhere.
        bare: builds the backbone of some heads in another way, by end of class name (a decoder alone).
    """

    name: str
    config: type[Config]
    build: Build
    keys: Keys
    heads: Mapping[str, MakeHead | None]
    layouts: Mapping[str, Keys] = field(default_factory=dict)
    foreign_config: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    bare: Mapping[str, tuple[Build, Keys]] = field(default_factory=dict)
