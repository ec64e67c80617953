"""Calls as Python writes them: `[weather(city="Oslo", days=3), now()]`, passed on as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable

from .deltas import Writer
from .json_text import to_json
from .literals import PythonValues
from .schemas import Tools
from .source import NotACall, Reads, Source

CallReader = Callable[[Source, Writer, str, Tools], Reads[None]]
NAME = re.compile(r"[\w.:-]+")
KEY = re.compile(r"\w+")
BEGINS = frozenset("'\"[{-+.0123456789TFNtfn")  # what a value may begin with


def python_calls(*closes: str) -> CallReader:
    """Return the reader of a list of calls up to a closing marker, which may be missing."""

    def read(source: Source, out: Writer, marker: str, tools: Tools) -> Reads[None]:
        yield from source.expect("[", space=True)
        while True:
            yield from read_call(source, out)
            source.hold()
            if (yield from source.expect(",", "]", space=True)) == "]":
                break
        source.release()
        if closes:
            yield from source.accept(*closes, space=True)

    return read


def python_lines(close: str) -> CallReader:
    """Return the reader of calls, each on its line, up to a closing marker."""

    def read(source: Source, out: Writer, marker: str, tools: Tools) -> Reads[None]:
        while True:
            yield from read_call(source, out)
            source.hold()
            if (yield from source.accept(close, space=True)):
                return

    return read


def read_call(source: Source, out: Writer) -> Reads[None]:
    """Read a call with named arguments. Raises NotACall for other text, and where it breaks off."""
    yield from source.space()
    name = yield from source.name(NAME)
    if name[0].isdigit():
        raise NotACall
    yield from source.expect("(", space=True)
    if (yield from source.accept(")", space=True)):
        out.open_call(name)
        out.arguments("{}")
        source.release()
        return
    key = yield from read_key(source)
    if (yield from source.peek()) not in BEGINS:
        raise NotACall
    out.open_call(name)
    out.arguments("{")
    values = PythonValues(source, out.arguments)
    while True:
        source.release()
        out.arguments(f"{to_json(key)}: ")
        yield from values.value()
        source.hold()
        comma = (yield from source.expect(",", ")", space=True)) == ","
        if not comma or (yield from source.accept(")", space=True)):
            break
        key = yield from read_key(source)
        out.arguments(", ")
    source.release()
    out.arguments("}")


def read_key(source: Source) -> Reads[str]:
    """Read the name of an argument up to its value."""
    yield from source.space()
    key = yield from source.name(KEY)
    yield from source.expect("=", space=True)
    yield from source.space()
    return key
