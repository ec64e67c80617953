"""YAML files of plain data, read with limits: names for parts (anchors) may not grow what a file holds without end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, ModelNotFound

LONGEST = 1 << 20  # bytes of a file
MOST = 10_000  # values, each counted as often as it is named
DEEPEST = 30  # lists and entries in one another
NUMBER = re.compile(r"[-+]?(\d[\d_]*)?\.?\d+([eE][-+]?\d+)?$")


def read(path: Path) -> dict[str, Any]:
    """The entries of a YAML file.

    Raises:
        ModelNotFound: no such file. InvalidInput: not YAML, no entries, or more of them than is read.
        UnsupportedOption: PyYAML is not installed.
    """
    from ...training.optional_packages import optional

    yaml = optional("yaml", "PyYAML", f"Reading {path.name}")
    if not path.is_file():
        raise ModelNotFound(f"There is no file {path}.")
    if path.stat().st_size > LONGEST:
        raise InvalidInput(f"{path} has {path.stat().st_size / 1e6:.1f} MB; a file of entries has at most 1 MB.")
    loader: Any = None
    try:
        loader = core(yaml)(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        counted(node, path, {}, 0)
        found = loader.construct_document(node) if node is not None else None
    except RecursionError as error:
        raise InvalidInput(f"{path} has lists in lists, deeper than is read.") from error
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


def counted(node: Any, path: Path, known: dict[int, int | None], depth: int) -> int:
    """How many values a node holds, those of a name as often as it is named.

    Args:
        known: the numbers of nodes that were seen; None while one is counted.

    Raises:
        InvalidInput: too many, too deep, one that holds itself, or two entries of one name.
    """
    if id(node) in known:
        inside = known[id(node)]
        if inside is None:
            raise InvalidInput(f"{path} has a part that holds itself (line {node.start_mark.line + 1}).")
        return inside
    if depth > DEEPEST:
        raise InvalidInput(f"{path} has lists in lists, deeper than is read (line {node.start_mark.line + 1}).")
    known[id(node)] = None
    value = getattr(node, "value", None)
    total = 1
    if isinstance(value, list):
        names = [pair[0].value for pair in value if isinstance(pair, tuple) and isinstance(pair[0].value, str)]
        if twice := sorted({name for name in names if names.count(name) > 1 and name != "<<"}):
            raise InvalidInput(f"{path} has the entry {twice[0]!r} twice (line {node.start_mark.line + 1}).")
        for part in value:
            for inner in part if isinstance(part, tuple) else (part,):
                total += counted(inner, path, known, depth + 1)
                if total > MOST:
                    raise InvalidInput(f"{path} holds more than {MOST:,} values; name files of data instead.")
    known[id(node)] = total
    return total


def core(yaml: Any) -> Any:
    """A loader of plain data as YAML 1.2 reads it: `no` is a word, and `2e-5` a number."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    kept = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:int")
    Loader.yaml_implicit_resolvers = {
        first: [rule for rule in rules if rule[0] in kept]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)$", re.IGNORECASE), list("tTfF"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))
    return Loader
