"""Models and tokenizers of a program's own that it registered with Auto classes, in this process. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import CONFIG_FILE, Config, read_json
from ..errors import InvalidInput, UnknownModel
from ..models.common.registry import DERIVED, OWN_CONFIGS
from .auto_classes import head_suffix

MODELS: dict[str, dict[type[Config], Any]] = {}  # Auto class -> config class -> model class
TOKENIZERS: dict[type[Config], Any] = {}


def add(table: dict[type[Config], Any], config_class: type[Config], value: Any, exist_ok: bool) -> None:
    """Add a class to a table. Raises InvalidInput where the config has another one."""
    if not exist_ok and table.get(config_class, value) is not value:
        raise InvalidInput(f"{config_class.__name__} has {table[config_class].__name__}; exist_ok=True replaces it.")
    table[config_class] = value


def knows(auto: str, config_class: type[Config]) -> bool:
    """Return whether an Auto class loads a family of this config class."""
    try:
        return head_suffix(auto, config_class.model_type) is not None
    except UnknownModel:
        return False


def registered_model(auto: str, name: Any, options: Mapping[str, Any]) -> Any:
    """Return the class that a program registered for a checkpoint's config; None where a family's is loaded.

    Raises:
        UnknownModel: the config is a program's own, and has no class of this kind.
    """
    known = MODELS.get(auto, {})
    if not known and not OWN_CONFIGS:
        return None
    config = options.get("config")
    if config is None or isinstance(config, (str, os.PathLike)):  # a path of a config is read as the model's own
        from ..hub import Want
        from ..hub.options import DownloadOptions

        path = DownloadOptions.pop_from({**options}).resolve(config or name, Want.CONFIG)
        kind = model_type_of(path)
    else:
        kind = config.model_type
    found = next((model for config_class, model in known.items() if config_class.model_type == kind), None)
    if found is None and kind in OWN_CONFIGS and kind not in DERIVED:
        raise UnknownModel(f"{auto}: no class is registered for {OWN_CONFIGS[kind].__name__}.")
    return found


def registered_tokenizer(path: Path) -> Any:
    """Return the tokenizer class that a program registered for a folder's config; None where there is none."""
    if not TOKENIZERS:
        return None
    kind = model_type_of(path)
    found = next((one for config_class, one in TOKENIZERS.items() if config_class.model_type == kind), None)
    return None if found is None or any(is_ours(base) for base in found.__mro__) else found


def is_ours(cls: type) -> bool:
    """Return whether this package defines a class; its tokenizers are all read in one way."""
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def model_type_of(path: Path) -> str | None:
    """Return the model_type in a folder's config.json; None without one."""
    if not path.is_dir() or not (path / CONFIG_FILE).is_file():
        return None
    kind = read_json(path / CONFIG_FILE).get("model_type")
    return kind if isinstance(kind, str) else None
