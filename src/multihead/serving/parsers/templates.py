"""Answers divided by the response template that a checkpoint ships with its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from ...tokenizers.response_parser import tool_properties
from ...tokenizers.response_regions import Region, Regions, Step
from ...tokenizers.response_template import ResponseTemplate, load_template
from ...tokenizers.response_values import PLAIN_KINDS, field_value
from .deltas import ParsedDelta, Writer
from .json_text import to_json
from .output_parser import OutputParser
from .schemas import Tools
from .source import Markers

CONTENT, CALLS = "content", "tool_calls"
REASONING = ("reasoning_content", "reasoning", "thinking")


@dataclass
class TemplateParser(OutputParser):
    """Splits an answer by a response template.

    The field `content` is content; `reasoning_content`, `reasoning` and `thinking` are reasoning; `tool_calls` are
    calls, given out when they are complete. Other fields, and calls that cannot be read, are content as they are.
    """

    template: ResponseTemplate | None = None
    prompt: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.template is not None
        self.writer, self.regions = Writer(), Regions(self.template)
        self.filter = TokenFilter(self.kept_tokens)
        for step in self.regions.feed(self.template.message_part(self.prompt)):
            self.use(step)
        self.filter.add("", last=True)
        for text in (self.writer.content, self.writer.reasoning):  # what the prompt begins is no news
            text.take()
            text.space.clear()

    def feed(self, text: str) -> ParsedDelta:
        for step in self.regions.feed(text):
            self.use(step)
        return self.writer.take()

    def finish(self) -> ParsedDelta:
        for step in self.regions.feed("", last=True):
            self.use(step)
        return self.writer.take(last=True)

    def use(self, step: Step) -> None:
        """Write what a step of the regions adds."""
        own = step.region.field
        if own.content not in PLAIN_KINDS or own.name not in (CONTENT, *REASONING):
            if step.kind == "close":
                self.close(step.region)
            return
        target = self.writer.content if own.name == CONTENT else self.writer.reasoning
        strips = own.content_args.get("strip", True)
        if step.kind == "chunk":
            target.write(self.filter.add(step.text))
        elif step.kind == "close":
            target.write(self.filter.add("", last=True))
        if step.kind != "chunk" and strips:
            target.mark((own.join or "") if step.kind == "open" else "")

    def close(self, region: Region) -> None:
        """Write a region that is complete: calls, or text as it is."""
        calls = self.calls_of(region) if region.field.name == CALLS and self.tool_parser else []
        for name, arguments in calls:
            self.writer.open_call(name)
            self.writer.arguments(arguments)
        if not calls:
            self.writer.content.write(self.filter.add(region.begin + region.body + region.end, last=True))

    def calls_of(self, region: Region) -> list[tuple[str, str]]:
        """Return names and arguments of the calls of a region; none where one cannot be read."""
        try:
            value = field_value(region.field, region.body, region.groups, self.properties)
            return [call_of(item) for item in (value if isinstance(value, list) else [value])]
        except InvalidInput:
            return []


class TokenFilter:
    """Removal of special tokens from a text that arrives in pieces."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.markers, self.rest = Markers(*tokens), ""

    def add(self, text: str, *, last: bool = False) -> str:
        """Return the new text without special tokens; what may be the beginning of one waits."""
        text = self.rest + text
        end = len(text) if last else self.markers.hold(text, 0)
        for match in self.markers.pattern.finditer(text):
            end = max(end, match.end()) if match.start() < end else end
        self.rest = text[end:]
        return self.markers.pattern.sub("", text[:end])


def call_of(value: Any) -> tuple[str, str]:
    """Return name and arguments of a call as chat templates read it. Raises InvalidInput for what is none."""
    function = value.get("function", value) if isinstance(value, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise InvalidInput("This is no call: it has no name.")
    given = function.get("arguments")
    if isinstance(given, str):
        try:
            arguments = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise InvalidInput("The arguments of the call are no JSON.") from error
    else:
        arguments = {} if given is None else given
    if not isinstance(arguments, dict):
        raise InvalidInput("The arguments of the call are no object.")
    return name, given if isinstance(given, str) else to_json(arguments)


def template_parser(
    tokenizer: Any, template: Any, tools: Sequence[Mapping[str, Any]] | None, prompt: str, kept_tokens: tuple[str, ...]
) -> TemplateParser:
    """Return the parser of a response template. Raises InvalidInput without one, ChatTemplateError for a broken one."""
    if template is None:
        raise InvalidInput(
            "This model's tokenizer has no response_template, which the parser 'hf' reads. Name another parser."
        )
    return TemplateParser(
        kept_tokens=kept_tokens, tools=Tools(tools), tool_parser="hf" if tools else "", reasoning_parser="hf",
        template=load_template(template), prompt=prompt, properties=tool_properties(tools),
    )  # fmt: skip
