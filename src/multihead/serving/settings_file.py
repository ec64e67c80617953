"""Settings from the entries of a config file, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, replace
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, UnsupportedOption, nearest
from .settings import ModelSettings, ServerSettings

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)
UNITS = {"": 1, **{u: 1000 ** (i + 1) for i, u in enumerate("kmgt")},
         **{f"{u}i": 1024 ** (i + 1) for i, u in enumerate("kmgt")}}  # fmt: skip
KINDS: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}
NOUNS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text", "Path": "a path"}


def settings_from(
    entries: Mapping[str, Any], base: ServerSettings | None = None, origin: str = "The config file"
) -> ServerSettings:
    """Return settings with the entries of a config file.

    `models` is a list of sources, or of entries of `ModelSettings`.

    Raises:
        UnsupportedOption: a name that is no setting. InvalidInput: a value of the wrong kind.
    """
    values = {name: value for name, value in entries.items() if name != "models"}
    found = _values(ServerSettings, values, origin)
    if "models" in entries:
        models = entries["models"]
        if not isinstance(models, (list, tuple)):
            raise InvalidInput(f"{origin}: models must be a list.")
        found["models"] = tuple(model_from(each, f"{origin}: models[{i}]") for i, each in enumerate(models))
    return replace(base or ServerSettings(), **found)


def model_from(entry: Any, origin: str) -> ModelSettings:
    """Return the settings of one model: of its source, or of entries. Raises as `settings_from`."""
    if isinstance(entry, str):
        return ModelSettings(source=entry)
    if not isinstance(entry, Mapping):
        raise InvalidInput(f"{origin} must be a model's name, or entries such as source and name.")
    values = _values(ModelSettings, entry, origin)  # first, since a typo of `source` is an unknown entry
    if not isinstance(entry.get("source"), str):
        raise InvalidInput(f"{origin} needs a source: a hub name, a folder or pypi:NAME==VERSION/path.")
    return ModelSettings(**values)


def parse_size(text: str) -> int | None:
    """Return the bytes of a text such as "8GiB" or "500MB"; None if it is no size."""
    match = SIZE.fullmatch(text.strip())
    return round(float(match[1]) * UNITS[(match[2] or "").lower()]) if match else None


def to_entries(settings: ServerSettings) -> dict[str, Any]:
    """Return settings as the entries of a config file, without those that have their default."""
    entries = _changed(settings)
    entries["models"] = [_changed(model) for model in settings.models]
    return entries


def _changed(settings: Any) -> dict[str, Any]:
    plain = asdict(settings)
    default = {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in fields(settings)}
    return {
        name: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        for name, value in plain.items() if name != "models" and value != default[name]
    }  # fmt: skip


def _values(kind: type, entries: Mapping[str, Any], origin: str) -> dict[str, Any]:
    known: dict[str, Field[Any]] = {f.name: f for f in fields(kind) if f.name != "models"}
    unknown = next((name for name in entries if name not in known), None)
    if unknown is not None:
        raise UnsupportedOption(f"{origin} has {str(unknown)!r}, which is no setting. {nearest(str(unknown), known)}")
    return {name: _value(known[name], value, f"{origin}: {name}") for name, value in entries.items()}


def _value(field: Field[Any], value: Any, where: str) -> Any:
    kind, _, optional = str(field.type).partition(" | ")
    if value is None and optional == "None":
        return None
    if field.metadata["bytes"] and isinstance(value, str):
        size = parse_size(value)
        if size is None:
            raise InvalidInput(f'{where} is {value!r}; sizes are bytes, or texts such as "8GiB".')
        return size
    if kind == "tuple[str, ...]":
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise InvalidInput(f"{where} is {value!r}; it must be a list of texts.")
        return tuple(value)
    if kind == "dict[str, str]":
        if not isinstance(value, Mapping) or not all(isinstance(x, str) for pair in value.items() for x in pair):
            raise InvalidInput(f"{where} is {value!r}; it must be entries NAME: TEXT.")
        return dict(value)
    if kind == "Path" and isinstance(value, (str, Path)):
        return Path(value).expanduser()
    if kind == "Path" or not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise InvalidInput(f"{where} is {value!r}; it must be {NOUNS[kind]}.")
    return float(value) if isinstance(value, int) and kind == "float" else value
