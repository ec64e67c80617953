"""Calls as Gemma writes them: `call:weather{city:<escape>Oslo<escape>,days:3}`, passed on as JSON."""

from __future__ import annotations

from collections.abc import Callable

from .deltas import Writer
from .literals import MarkedValues
from .schemas import Tools
from .source import NotACall, Reads, Source

CallReader = Callable[[Source, Writer, str, Tools], Reads[None]]


def gemma_calls(quote: str, close: str) -> CallReader:
    """Return the reader of one call up to its closing marker. `quote`: the marker around strings."""

    def read(source: Source, out: Writer, marker: str, tools: Tools) -> Reads[None]:
        yield from source.expect("call:", space=True)
        name = yield from source.name()
        if (yield from source.follows("{", space=True)) != "{":
            raise NotACall
        yield from source.space()
        source.release()
        out.open_call(name)
        yield from MarkedValues(source, out.arguments, quote).value()
        yield from source.accept(close, space=True)

    return read
