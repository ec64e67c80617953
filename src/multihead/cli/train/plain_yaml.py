"""YAML files of plain data, with limits on size: anchors could otherwise multiply what a file holds without end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, ModelNotFound

MAX_BYTES = 1 << 20
MAX_VALUES = 10_000  # each value counts as often as it is named
MAX_DEPTH = 30  # of nested lists and entries
NUMBER = re.compile(r"[-+]?(\d[\d_]*)?\.?\d+([eE][-+]?\d+)?$")


def read(path: Path) -> dict[str, Any]:
    """Return the entries of a YAML file.

    Raises:
        ModelNotFound: no such file. InvalidInput: no YAML, no entries, or more than the limits.
        UnsupportedOption: PyYAML is not installed.
    """
    from ...training.optional_packages import optional

    yaml = optional("yaml", "PyYAML", f"Reading {path.name}")
    if not path.is_file():
        raise ModelNotFound(f"There is no file {path}.")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput(f"{path} has {path.stat().st_size / 1e6:.1f} MB; a file of entries has at most 1 MB.")
    loader: Any = None
    try:
        loader = core_loader(yaml)(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        count_values(node, path, {}, 0)
        found = loader.construct_document(node) if node is not None else None
    except RecursionError as error:
        raise InvalidInput(f"{path} has lists in lists, deeper than are read.") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path} is no YAML file: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(found, Mapping):
        raise InvalidInput(f"{path} must hold entries such as `task: text-classification`.")
    return dict(found)


def count_values(node: Any, path: Path, known: dict[int, int | None], depth: int) -> int:
    """Return the number of values of a node. Values under an anchor count as often as it is named.

    Args:
        known: numbers of nodes counted before; None for a node that is being counted.

    Raises:
        InvalidInput: too many, too deep, one that holds itself, or two entries of one name.
    """
    if id(node) in known:
        inside = known[id(node)]
        if inside is None:
            raise InvalidInput(f"{path} has a part that holds itself (line {node.start_mark.line + 1}).")
        return inside
    if depth > MAX_DEPTH:
        raise InvalidInput(f"{path} has lists in lists, deeper than are read (line {node.start_mark.line + 1}).")
    known[id(node)] = None
    value = getattr(node, "value", None)
    total = 1
    if isinstance(value, list):
        names = [pair[0].value for pair in value if isinstance(pair, tuple) and isinstance(pair[0].value, str)]
        if twice := sorted({name for name in names if names.count(name) > 1 and name != "<<"}):
            raise InvalidInput(f"{path} has the entry {twice[0]!r} twice (line {node.start_mark.line + 1}).")
        for part in value:
            for inner in part if isinstance(part, tuple) else (part,):
                total += count_values(inner, path, known, depth + 1)
                if total > MAX_VALUES:
                    raise InvalidInput(f"{path} holds more than {MAX_VALUES:,} values; name files of data instead.")
    known[id(node)] = total
    return total


def core_loader(yaml: Any) -> Any:
    """Return a loader of plain data by YAML 1.2: `no` is a string and `2e-5` a number."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    tags = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:int")
    Loader.yaml_implicit_resolvers = {
        first: [rule for rule in rules if rule[0] in tags]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)$", re.IGNORECASE), list("tTfF"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))
    return Loader
