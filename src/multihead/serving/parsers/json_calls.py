"""Calls as JSON objects: `{"name": ..., "arguments": {...}}`, alone, in a list, or one after another."""

from __future__ import annotations

import json
from collections.abc import Callable

from .deltas import Writer
from .json_text import json_string, json_value
from .schemas import Tools
from .source import NotACall, Reads, Source

NAMES = ("name", "tool_name")
ARGUMENTS = ("arguments", "parameters")
OTHERS = ("id", "type", "tool_call_id")  # keys of a call without arguments, too
CallReader = Callable[[Source, Writer, str, Tools], Reads[None]]


def json_calls(*closes: str, bare: bool = False) -> CallReader:
    """Return the reader of JSON calls up to a closing marker, which may be missing.

    Args:
        bare: calls must have arguments, since other JSON may have a name.
    """

    def read(source: Source, out: Writer, marker: str, tools: Tools) -> Reads[None]:
        if (yield from source.accept("[", space=True)):
            yield from read_list(source, out, bare)
        else:
            yield from read_call(source, out, bare)
            while (yield from another(source)):
                yield from read_call(source, out, bare)
        if closes:
            yield from source.accept(*closes, space=True)

    return read


def another(source: Source) -> Reads[bool]:
    """Return True if another object comes next, perhaps behind a separator. Raises NotACall behind a separator."""
    if (yield from source.follows("{", ";", ",", space=True)) in ("", "{"):
        return bool((yield from source.follows("{", space=True)))
    source.hold()
    yield from source.expect(";", ",", space=True)
    if not (yield from source.follows("{", space=True)):
        raise NotACall
    return True


def read_list(source: Source, out: Writer, bare: bool) -> Reads[None]:
    """Read calls of a JSON list, whose bracket is consumed, up to its closing bracket."""
    if (yield from source.accept("]", space=True)):
        return
    while True:
        yield from read_call(source, out, bare)
        source.hold()
        if (yield from source.expect(",", "]", space=True)) == "]":
            return


def read_call(source: Source, out: Writer, bare: bool) -> Reads[None]:
    """Read one call.

    Keys other than the name and the arguments are left out, such as the call's id. A call without arguments has none,
    `{}`, unless it has unknown keys, which may be meant as such. What follows complete arguments may break off, since
    models forget the last bracket.

    Raises:
        NotACall: no call, or arguments that break off.
    """
    if source.held is None:
        source.hold()
    yield from source.expect("{", space=True)
    call = CallState(source, out)
    if not (yield from source.accept("}", space=True)):
        while True:
            yield from source.space()
            key = yield from json_string(source)
            if bare and key not in (*NAMES, *ARGUMENTS, *OTHERS):  # other JSON, which need not wait for its end
                raise NotACall
            yield from source.expect(":", space=True)
            yield from source.space()
            yield from call.value(key)
            if call.complete and not (yield from source.follows(",", "}", space=True)):
                break
            if (yield from source.expect(",", "}", space=True)) == "}":
                break
    call.close(bare)
    source.release()


class CallState:
    """The name and arguments of one call, in any order; the arguments are passed on as soon as the name is known."""

    def __init__(self, source: Source, out: Writer) -> None:
        self.source, self.out = source, out
        self.name = ""
        self.early: list[str] = []  # arguments before the name
        self.done = self.complete = False  # arguments are read; so is the name
        self.unknown = False  # there are keys that are none of a call

    def value(self, key: str) -> Reads[None]:
        """Read the value of a key. Raises NotACall."""
        if key in NAMES and not self.name:
            self.name = yield from json_string(self.source)
            if not self.name:
                raise NotACall
            if self.done:
                self.open("".join(self.early))
        elif key in ARGUMENTS and not self.done:
            yield from self.arguments()
            self.done = True
            self.mark_complete()
        else:
            self.unknown = self.unknown or key not in OTHERS
            yield from json_value(self.source, lambda text: None)

    def arguments(self) -> Reads[None]:
        """Read arguments: an object, null for none, or an object written as a string."""
        begin = yield from self.source.peek()
        if begin == "{":
            if self.name:
                self.open("")
            yield from json_value(self.source, self.out.arguments if self.name else self.early.append)
            return
        if begin == '"':
            text = yield from json_string(self.source)
            check_object(text)
        else:
            yield from self.source.expect("null")
            text = "{}"
        if self.name:
            self.open(text)
        else:
            self.early.append(text)

    def open(self, arguments: str) -> None:
        """Pass the call on: there is no way back."""
        self.source.release()
        self.out.open_call(self.name)
        self.out.arguments(arguments)
        self.mark_complete()

    def mark_complete(self) -> None:
        """Keep what follows complete arguments: it is content if it breaks off."""
        if self.done and self.name and not self.complete:
            self.complete = True
            self.source.hold()

    def close(self, bare: bool) -> None:
        """End the object. Raises NotACall for one that is no call."""
        if not self.name or (not self.done and (bare or self.unknown)):
            raise NotACall
        if not self.done:
            self.open("{}")


def check_object(text: str) -> None:
    """Raise NotACall for a text that is no JSON object."""
    try:
        if isinstance(json.loads(text), dict):
            return
    except (ValueError, RecursionError):
        pass
    raise NotACall
