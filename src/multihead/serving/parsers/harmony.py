"""The harmony format of gpt-oss: messages with a channel, and calls as messages to a function."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .json_text import json_value
from .output_parser import OutputParser
from .source import Markers, NotACall, Reads

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
MARKERS = (START, CHANNEL, CONSTRAIN, MESSAGE, *ENDS)
CHANNEL_NAME = re.compile(r"<\|channel\|>\s*(\w+)")
RECIPIENT = re.compile(r"\bto=([^\s<]+)")


@dataclass
class HarmonyParser(OutputParser):
    """Splits messages: `analysis` is reasoning, other channels are content, and a message to a function is a call.

    A message to a function that holds no JSON object counts as text of its channel.
    """

    calls: bool = True  # the request has tools

    def __post_init__(self) -> None:
        super().__post_init__()
        self.source.add(self.opening)

    def run(self) -> Reads[None]:
        """Read all messages."""
        while (yield from self.source.peek()):
            header = yield from self.read_header()
            if not header and self.writer.content.any:
                self.writer.content.mark("\n")
            channel = CHANNEL_NAME.search(header)
            recipient = RECIPIENT.search(header)
            thinks = channel is not None and channel[1] == "analysis"
            text = self.writer.reasoning if thinks else self.writer.content
            if header:
                text.mark("\n")
            if recipient is not None and self.calls:
                yield from self.read_call(recipient[1].removeprefix("functions."), text.write)
            yield from self.read_body(text.write)

    def read_header(self) -> Reads[str]:
        """Consume a header up to its message and return it; "" for text without a header."""
        parts: list[str] = []
        if not (yield from self.source.follows(*MARKERS, "to=", space=True)):
            return ""
        search = Markers(*MARKERS)
        while True:
            marker = yield from self.source.until(search, parts.append)
            if not marker:
                return ""  # cut inside the header
            self.source.take(len(marker))
            if marker == MESSAGE:
                return "".join([*parts, MESSAGE])
            parts = [] if marker in (START, *ENDS) else [*parts, marker]

    def read_call(self, name: str, write: Callable[[str], None]) -> Reads[None]:
        """Read the JSON object of a call, if there is one."""
        write((yield from self.source.space()))
        if (yield from self.source.peek()) != "{":
            return
        self.writer.open_call(name)
        try:
            yield from json_value(self.source, self.writer.arguments)
        except NotACall:  # the rest is text
            return

    def read_body(self, write: Callable[[str], None]) -> Reads[None]:
        """Read the text of a message up to its end."""
        search = Markers(*MARKERS, *self.kept_tokens)
        while True:
            marker = yield from self.source.until(search, write)
            if not marker or marker in (START, CHANNEL):
                return
            self.source.take(len(marker))
            if marker in ENDS:
                self.writer.mark()
                return


def opening(prompt: str) -> str:
    """Return the header that a prompt ends with: what comes behind its last `<|start|>`, up to the message."""
    if START not in prompt:
        return ""
    header, message, _ = prompt.rpartition(START)[2].partition(MESSAGE)
    return header.removeprefix("assistant") + message
