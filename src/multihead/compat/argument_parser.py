"""Command lines, dicts and files as instances of dataclasses: a field is an option of its name and type."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import InvalidInput
from ..training.arguments import NO_EFFECT, RENAMED, TrainingArguments

TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


def string_to_bool(value: str | bool) -> bool:
    """Read yes or no, true or false, 1 or 0. Raises argparse.ArgumentTypeError."""
    if isinstance(value, bool):
        return value
    said = value.lower()
    if said not in (*TRUE, *FALSE):
        raise argparse.ArgumentTypeError(f"{value} is no truth value: give one of {', '.join((*TRUE, *FALSE))}.")
    return said in TRUE


def HfArg(
    *,
    aliases: str | list[str] | None = None,
    help: str | None = None,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    metadata: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Return a dataclass field with other names and a help text for its option."""
    said = {name: value for name, value in (("aliases", aliases), ("help", help)) if value is not None}
    return dataclasses.field(
        metadata={**(metadata or {}), **said}, default=default, default_factory=default_factory, **options
    )


class HfArgumentParser(argparse.ArgumentParser):
    """A parser with an option for each field of some dataclasses.

    A field with a default is optional. A list takes several values. A truth value is also a switch, and one that is
    True has a switch `--no_NAME`. `metadata` of a field is given to `add_argument`; `aliases` in it are more names.

    Args:
        dataclass_types: one dataclass or several. options: those of `argparse.ArgumentParser`.
    """

    def __init__(self, dataclass_types: Any = None, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(**options)
        several = isinstance(dataclass_types, Iterable) and not dataclasses.is_dataclass(dataclass_types)
        self.dataclass_types: list[Any] = (
            [] if dataclass_types is None else list(dataclass_types) if several else [dataclass_types]
        )
        for kind in self.dataclass_types:
            self._add_fields(kind)

    def _add_fields(self, kind: Any) -> None:
        """Add the options of a dataclass, in a group of its own where it names one."""
        name = getattr(kind, "_argument_group_name", None)
        parser: Any = self if name is None else self.add_argument_group(name)
        try:
            hints = get_type_hints(kind)
        except NameError as error:
            raise RuntimeError(
                f"The types of {kind.__name__} cannot be read: {error}. Define it at the top level of its file."
            ) from error
        for field in dataclasses.fields(kind):
            if field.init:
                add_field(parser, field, hints[field.name])
        if isinstance(kind, type) and issubclass(kind, TrainingArguments):
            known = {field.name for field in dataclasses.fields(kind)}
            for older in sorted({*NO_EFFECT, *RENAMED} - known):  # the class itself refuses what has no meaning
                hidden: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
                parser.add_argument(f"--{older}", nargs="?", const=True, type=read_value, **hidden)

    def parse_args_into_dataclasses(
        self,
        args: Sequence[str] | None = None,
        return_remaining_strings: bool = False,
        look_for_args_file: bool = True,
        args_filename: str | os.PathLike[str] | None = None,
        args_file_flag: str | None = None,
    ) -> tuple[Any, ...]:
        """Parse a command line.

        Args:
            args: the words; None for those of the process.
            look_for_args_file: words also come from a file `.args` beside the program, of its name, if there is one.
            args_filename: such a file. args_file_flag: an option that names such files. Later words go before.

        Returns:
            An instance of each dataclass; a namespace of options that were added otherwise, if any; and with
            `return_remaining_strings` the words that are no option.

        Raises:
            ValueError: words that are no option.
        """
        words = list(sys.argv[1:] if args is None else args)
        files = [Path(args_filename)] if args_filename else []
        if not files and look_for_args_file and sys.argv:
            files = [Path(sys.argv[0]).with_suffix(".args")]
        if args_file_flag:
            reader = argparse.ArgumentParser(add_help=False)
            reader.add_argument(args_file_flag, dest="files", action="append", default=[])
            found, words = reader.parse_known_args(words)
            files += map(Path, found.files)
        before = [word for file in files if file.is_file() for word in file.read_text().split()]
        namespace, rest = self.parse_known_args([*before, *words])
        values = vars(namespace)
        made = []
        for kind in self.dataclass_types:
            names = field_names(kind)
            made.append(kind(**{name: values.pop(name) for name in names if name in values}))
        if values:
            made.append(namespace)
        if return_remaining_strings:
            return (*made, rest)
        if rest:
            raise ValueError(f"No option takes these words: {' '.join(rest)}.")
        return tuple(made)

    def parse_dict(self, args: Mapping[str, Any], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """Return an instance of each dataclass with the entries of a mapping.

        Raises:
            ValueError: entries that are no field, unless these are allowed.
        """
        names = [set(field_names(kind)) for kind in self.dataclass_types]
        extra = set(args) - set().union(*names)
        if extra and not allow_extra_keys:
            raise ValueError(f"No field takes these entries: {', '.join(sorted(extra))}.")
        chosen = [{name: value for name, value in args.items() if name in own} for own in names]
        return tuple(kind(**entries) for kind, entries in zip(self.dataclass_types, chosen, strict=True))

    def parse_json_file(self, json_file: str | os.PathLike[str], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """Return an instance of each dataclass with the entries of a JSON file; as `parse_dict`."""
        return self.parse_dict(json.loads(Path(json_file).read_text(encoding="utf-8")), allow_extra_keys)

    def parse_yaml_file(self, yaml_file: str | os.PathLike[str], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """Return an instance of each dataclass with the entries of a YAML file; as `parse_dict`.

        Raises:
            InvalidInput: the package PyYAML is not installed.
        """
        try:
            yaml: Any = import_module("yaml")
        except ImportError as error:
            raise InvalidInput("A YAML file needs the package PyYAML: pip install pyyaml.") from error
        return self.parse_dict(yaml.safe_load(Path(yaml_file).read_text(encoding="utf-8")), allow_extra_keys)


def field_names(kind: Any) -> list[str]:
    """Return the names that a dataclass takes; training arguments take older ones too."""
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    older = isinstance(kind, type) and issubclass(kind, TrainingArguments)
    return [*names, *sorted({*NO_EFFECT, *RENAMED} - set(names))] if older else names


def read_value(word: str | bool) -> Any:
    """Read a word as JSON where it is, as a truth value or None where it says one, else as itself."""
    if not isinstance(word, str) or word in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[word] if isinstance(word, str) else word
    try:
        return json.loads(word)
    except ValueError:
        return word


def add_field(parser: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    """Add the option of a field. Raises ValueError for a type that one option cannot have."""
    options = dict(field.metadata)
    more = options.pop("aliases", [])
    names = [f"--{field.name}", *([f"--{field.name.replace('_', '-')}"] if "_" in field.name else [])]
    names += [more] if isinstance(more, str) else more
    kind, optional = single_type(hint, field.name)
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    given = {"required": True} if default is dataclasses.MISSING else {"default": default}
    switch = None
    if get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        choices = get_args(kind) if get_origin(kind) is Literal else [member.value for member in kind]
        parser.add_argument(*names, **options, **given, choices=choices, type=choice_reader(choices))
    elif kind is bool:
        if not optional or default not in (None, dataclasses.MISSING):
            given = {"default": False if default is dataclasses.MISSING else default, "nargs": "?", "const": True}
        parser.add_argument(*names, **options, **given, type=string_to_bool)
        switch = field.name if default is True else None
    elif kind is dict or get_origin(kind) is dict:
        parser.add_argument(*names, **options, **given, type=json.loads)
    elif get_origin(kind) is list:
        parser.add_argument(*names, **options, **given, type=get_args(kind)[0], nargs="+")
    else:
        parser.add_argument(*names, **options, **given, type=kind)
    if switch is not None:
        off = [f"--no_{switch}", f"--no-{switch.replace('_', '-')}"]
        parser.add_argument(*off, **{**options, "default": False}, action="store_false", dest=switch)


def choice_reader(choices: Iterable[Any]) -> Callable[[str], Any]:
    """Return a function from a word to the choice that it spells; another word stays as it is."""
    spelled = {str(choice): choice for choice in choices}
    return lambda word: spelled.get(word, word)


def single_type(hint: Any, name: str) -> tuple[Any, bool]:
    """Return the type that an option's word has, and whether None is a value too.

    Of `str` and another type it is the other one, and `str` where None is a value too. Raises ValueError for other
    unions.
    """
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    parts = [part for part in get_args(hint) if part is not type(None)]
    optional = len(parts) < len(get_args(hint))
    if len(parts) > 1 and str in parts and not optional:
        parts = [part for part in parts if part is not str]
    if len(parts) > 1 and str not in parts:
        raise ValueError(f"The field {name} has several types, {hint}; an option has one, and perhaps None.")
    return (str if len(parts) > 1 else parts[0]), optional
