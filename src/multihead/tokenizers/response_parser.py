"""Parsing of answers by the response template of a tokenizer: text to the message that chat templates read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from ..errors import ChatTemplateError, InvalidInput
from .response_regions import Regions, Step
from .response_template import ResponseTemplate, load_template
from .response_values import PLAIN_KINDS, field_value
from .tools import schemas

if TYPE_CHECKING:
    from .core import TokenizerCore


class ResponseParser:
    """Parser of one answer that arrives in pieces.

    Args:
        template: the template, or its checked form. prefix: the prompt; a chat template may have begun the message.
        tools: functions or JSON schemas, whose types the arguments of calls get.

    Attributes:
        initial_events: events of the part of the message that the prompt holds.

    Events are dicts: `region_open` with the `field`; `region_chunk` with `text` too, and `dirty` where the text is no
    piece of the value; `region_close` with the `value`.

    Raises:
        ChatTemplateError: a broken template. InvalidInput: text that the template cannot read, or no prefix.
    """

    def __init__(self, template: Any, prefix: str | None = None, *, tools: Any = None) -> None:
        if prefix is None:
            raise InvalidInput(
                "prefix is missing: the prompt that the answer follows, where a chat template may have begun the "
                'message (an open <think>, say). Pass prefix="" for an answer that is a whole message.'
            )
        self.template = load_template(template)
        self.tools = tool_properties(tools)
        self.regions = Regions(self.template)
        self.message: dict[str, Any] = deepcopy(dict(self.template.defaults))
        self.finished = False
        part = self.template.message_part(prefix)
        self.initial_events = self.events(self.regions.feed(part)) if part else []

    def feed(self, text: str) -> list[dict[str, Any]]:
        """Read more text and return the events. Raises InvalidInput after `finalize`."""
        self.check_open()
        return self.events(self.regions.feed(text))

    def finalize(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """End the text; return the message and the last events. Raises InvalidInput without a field that must be."""
        self.check_open()
        events = self.events(self.regions.feed("", last=True))
        self.finished = True
        missing = [name for name, one in self.template.fields.items() if not one.optional and name not in self.message]
        if missing:
            raise InvalidInput(f"The answer has no {', '.join(missing)}, which the response_template demands.")
        keep = self.template.defaults
        self.message = {key: value for key, value in self.message.items() if key in keep or not is_empty(value)}
        return self.message, events

    def check_open(self) -> None:
        if self.finished:
            raise InvalidInput("The answer is at its end: finalize was called. Make another parser.")

    def events(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """Return steps as events, and write the values of regions that close into the message."""
        found: list[dict[str, Any]] = []
        for step in steps:
            own = step.region.field
            if step.kind == "open":
                found.append({"type": "region_open", "field": own.name})
            elif step.kind == "chunk":
                dirty = own.content not in PLAIN_KINDS
                found.append({"type": "region_chunk", "field": own.name, "text": step.text, "dirty": dirty})
            else:
                value = field_value(own, step.region.body, step.region.groups, self.tools)
                self.write(own.name, value, own.repeats, own.join)
                found.append({"type": "region_close", "field": own.name, "value": value})
        return found

    def write(self, name: str, value: Any, repeats: bool, join: str | None) -> None:
        """Write the value of a field into the message. Raises InvalidInput for a join of what is no text."""
        if join is not None:
            if not isinstance(value, str):
                raise InvalidInput(f"The response_template joins {name!r}, whose value is no text: {value!r:.200}.")
            known = self.message.get(name)
            self.message[name] = value if known is None else known + join + value
        elif repeats:
            self.message.setdefault(name, []).append(value)
        else:
            self.message[name] = value


def parse_responses(tokenizer: TokenizerCore, response: Any, schema: Any, prefix: Any, tools: Any) -> Any:
    """Return the message of an answer, or the messages of a batch; see `Tokenizer.parse_response`.

    Raises:
        ChatTemplateError: a tokenizer without a template, or a broken one. InvalidInput: text that the template cannot
            read, or no prefix.
    """
    template = own_template(tokenizer, schema)
    texts, batched = to_texts(tokenizer, response)
    prefixes = [None] if prefix is None else to_texts(tokenizer, prefix)[0] or [""]
    if len(prefixes) == 1:
        prefixes = prefixes * len(texts)
    if len(prefixes) != len(texts):
        raise InvalidInput(f"There are {len(texts)} answers and {len(prefixes)} prefixes: give one, or one an answer.")
    messages = []
    for text, before in zip(texts, prefixes, strict=True):
        parser = ResponseParser(template, before, tools=tools)
        parser.feed(text)
        messages.append(parser.finalize()[0])
    return messages if batched else messages[0]


def own_template(tokenizer: TokenizerCore, given: Any) -> ResponseTemplate:
    """Return the given template, or the tokenizer's own. Raises ChatTemplateError."""
    template = tokenizer.options.get("response_template") if given is None else given
    if template is None:
        raise ChatTemplateError(
            "This tokenizer has no response_template, so what its model writes is text alone. Pass one as schema=...."
        )
    return load_template(template)


def to_texts(tokenizer: TokenizerCore, given: Any) -> tuple[list[str], bool]:
    """Return texts, decoded where they are ids, and True for a batch."""
    if isinstance(given, str):
        return [given], False
    if isinstance(given, (list, tuple)) and (not given or isinstance(given[0], str)):
        return list(given), True
    found = tokenizer.decode(given)
    return ([found], False) if isinstance(found, str) else (found, True)


def tool_properties(tools: Any) -> dict[str, Mapping[str, Any]]:
    """Return the properties of each tool's parameters by the tool's name."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in schemas(tools) or ():
        function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str):
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
            found[name] = properties if isinstance(properties, Mapping) else {}
    return found


def is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (list, dict, str)) and not value)
