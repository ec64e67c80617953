"""Regions of a text that arrives in pieces: which field of a response template each part belongs to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..errors import ChatTemplateError
from .response_field import Anchor, ResponseField
from .response_template import ResponseTemplate

LOOK_BACK = 256  # characters before the place of reading that patterns may look back at
TRIM = 4096  # characters that are read before the buffer is cut
LONG_HOLD = 256  # characters that may be the beginning of a marker; more are searched again when there are 1/8 more


@dataclass
class Region:
    """A part of the text that belongs to a field.

    Attributes:
        begin, end: the markers around it. parts: its text so far. groups: named groups of the opening marker.
    """

    field: ResponseField
    begin: str = ""
    groups: dict[str, str] = dataclasses.field(default_factory=dict)
    parts: list[str] = dataclasses.field(default_factory=list)
    end: str = ""

    @property
    def body(self) -> str:
        return "".join(self.parts)


@dataclass(frozen=True)
class Step:
    """Effect of new text: "open", "chunk" or "close" of a region."""

    kind: str
    region: Region
    text: str = ""


class Regions:
    """Divides a text into regions. Outside of the fields that open with a marker is the field without one, if any."""

    def __init__(self, template: ResponseTemplate) -> None:
        self.template = template
        self.outside = template.outside
        self.buffer, self.at = "", 0
        self.region: Region | None = None  # an open one
        self.empty_at = -1  # where a marker without a length was passed
        self.waiting: list[str] = []  # text that is not in the buffer yet
        self.count = 0  # its characters

    def feed(self, text: str, *, last: bool = False) -> list[Step]:
        """Read a piece of text, the last one perhaps."""
        self.waiting.append(text)
        self.count += len(text)
        held = len(self.buffer) - self.at
        if held > LONG_HOLD and not last and self.count < held // 8:
            return []
        text, self.waiting, self.count = "".join(self.waiting), [], 0
        if self.at > TRIM:
            self.buffer, self.at, self.empty_at = self.buffer[self.at - LOOK_BACK :], LOOK_BACK, -1
        self.buffer += text
        steps: list[Step] = []
        while True:
            found, hold = self.search(last)
            if found is None:
                end = len(self.buffer) if last else hold
                self.chunk(steps, end)
                if last:
                    self.close(steps)
                return steps
            kind, matched, match = found
            self.chunk(steps, match.start())
            self.at = match.end()
            was_open = self.region is not None
            self.close(steps, match[0] if kind == "close" else "")
            if kind == "open":
                self.check_progress(match)
                groups = {name: value for name, value in match.groupdict().items() if value is not None}
                self.region = Region(matched, match[0], groups)
                steps.append(Step("open", self.region))
            elif not was_open and match.start() == match.end():
                return steps  # nothing but the empty end of an empty region

    def check_progress(self, match: Any) -> None:
        """Raise ChatTemplateError for opening markers that could be passed forever."""
        if match.start() == match.end():
            if self.empty_at == match.end():
                raise ChatTemplateError("The tokenizer's response_template has a field that opens with no text.")
            self.empty_at = match.end()

    def chunk(self, steps: list[Step], end: int) -> None:
        """Pass on text up to a place; text outside of all fields is dropped."""
        text = self.buffer[self.at : end]
        self.at = max(self.at, end)
        if not text:
            return
        if self.region is None and self.outside is not None:
            self.region = Region(self.outside)
            steps.append(Step("open", self.region))
        if self.region is not None:
            self.region.parts.append(text)
            steps.append(Step("chunk", self.region, text))

    def close(self, steps: list[Step], end: str = "") -> None:
        """End the open region."""
        if self.region is not None:
            self.region.end = end
            steps.append(Step("close", self.region))
            self.region = None

    def markers(self) -> list[tuple[str, ResponseField, Anchor]]:
        """Return the markers that end the open region or open another."""
        if self.region is not None and self.region.field is not self.outside:
            own = self.region.field
            return [("close", own, own.close)] if own.close else []
        found = [("open", one, one.open) for one in self.template.fields.values() if one.open]
        if self.outside is not None and self.outside.close:
            found.append(("close", self.outside, self.outside.close))
        return found

    def search(self, last: bool) -> tuple[tuple[str, ResponseField, Any] | None, int]:
        """Return the first marker that is certain, and the place from which more text may make one.

        Of markers at the same place the longest counts, then one that opens.
        """
        hold, found = len(self.buffer), []
        for kind, own, anchor in self.markers():
            match = anchor.pattern.search(self.buffer, self.at, partial=not last)
            if match is None:
                continue
            at_end = match.end() == len(self.buffer) and (not anchor.certain or match.start() == match.end())
            if not last and (match.partial or at_end):
                hold = min(hold, match.start())
            else:
                found.append((match.start(), match.start() - match.end(), kind != "open", own.name, (kind, own, match)))
        best = min(found, key=lambda item: item[:4], default=None)
        if best is None or best[0] >= hold:
            return None, hold
        return best[4], hold
