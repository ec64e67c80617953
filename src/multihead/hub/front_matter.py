"""YAML front matter of a README.md for the Hub, written without a YAML library.

Strings are double-quoted with YAML escapes, so that no string becomes another type: `no` is the code of Norwegian.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

KEY = re.compile(r"(?!(true|false|null|yes|no|on|off|y|n)$)[a-z][a-z_-]*", re.IGNORECASE)


def front_matter(entries: Mapping[str, Any]) -> str:
    """Return entries between lines of `---`: strings, numbers, booleans, None, and lists and mappings of these."""
    return "\n".join(["---", *_mapping(entries), "---"])


def _mapping(entries: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in entries.items():
        key = name if KEY.fullmatch(name) else quoted(name)
        if isinstance(value, (Mapping, list, tuple)) and value:
            lines += [f"{key}:", *(f"  {line}" for line in _block(value))]
        else:
            lines.append(f"{key}: {_scalar(value)}")
    return lines


def _block(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return _mapping(value)
    lines = []
    for item in value:
        first, *rest = _block(item) if isinstance(item, (Mapping, list, tuple)) and item else [_scalar(item)]
        lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return lines


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return "{}"
    return "[]" if isinstance(value, (list, tuple)) else quoted(str(value))


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    digits, exponent, power = repr(value).partition("e")
    return f"{digits if '.' in digits else digits + '.0'}{exponent}{power}"  # YAML 1.1 reads 1e-05 as a string


def quoted(text: str) -> str:
    """Return a string as a double-quoted YAML scalar."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
