"""Reading of texts with a parser, in pieces."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from multihead.serving.parsers import choose_parser

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"}, "days": {"type": "integer"}, "options": {"type": "object"},
                    "any": {}, "wind": {"type": ["boolean", "null"]}, "scale": {"enum": [1, 2]},
                },
            },
        },
    },
    {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}},
]  # fmt: skip


@dataclass
class Token:
    content: str
    special: bool = True


@dataclass
class Words:
    """The parts of a tokenizer that parsers look at."""

    chat_template: Any = None
    response_template: Any = None
    special: tuple[str, ...] = ()
    added_tokens_decoder: dict[int, Token] = field(init=False)

    def __post_init__(self) -> None:
        self.added_tokens_decoder = dict(enumerate(map(Token, self.special)))


def parser_of(tool=None, reasoning=None, *, tools=TOOLS, prompt="", tokenizer=None, family=None):
    return choose_parser(
        tokenizer, family=family, tools=tools, tool_parser=tool, reasoning_parser=reasoning, prompt=prompt
    )


def read(parser, text, cuts=()):
    """(reasoning, content, calls) of a text; checks that the pieces of calls come in order and name each call once."""
    reasoning, content, calls = "", "", []
    deltas = [parser.feed(text[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for delta in [*deltas, parser.finish()]:
        reasoning, content = reasoning + delta.reasoning, content + delta.content
        for piece in delta.calls:
            if piece.name:
                assert piece.index == len(calls)
                calls.append([piece.name, ""])
            assert piece.index == len(calls) - 1
            calls[-1][1] += piece.arguments
            assert len(cuts) > 9 or begins_json(calls[-1][1]), calls[-1]
    assert all(begins_json(arguments) for _, arguments in calls), calls
    return reasoning, content, [tuple(call) for call in calls]


TAILS = [
    "", "0", '"', '"": 0', ": 0", '": 0', 'n"', 'n": 0',
    *(f'{"0" * digits}{end}' for digits in range(1, 5) for end in ('"', '": 0')),
    *(word[begin:] for word in ("true", "false", "null") for begin in range(1, 5)),
]  # fmt: skip


def begins_json(text: str) -> bool:
    """True for the beginning of a JSON text: some end makes it complete."""
    brackets, inside, skip = [], False, False
    for char in text:
        if skip:
            skip = False
        elif inside:
            skip, inside = char == "\\", char != '"'
        elif char in "{[":
            brackets.append("}" if char == "{" else "]")
        elif char in "}]":
            brackets.pop()
        else:
            inside = char == '"'
    for tail in TAILS:
        try:
            json.loads(text + tail + "".join(reversed(brackets)))
        except ValueError:
            continue
        return True
    return text == ""
