"""Tools in plain words, for chat templates that have no place for them: calls and their results are text of messages.

The format of calls is Hermes' (github.com/NousResearch/Hermes-Function-Calling), which many small models have seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

GENERIC = "generic"
PARSER = "hermes"
INTRODUCTION = (
    "You can call functions. Each line is the JSON of a function, with the schema of its parameters:\n{functions}\n"
    "To call a function, answer with its name and arguments, and nothing else:\n"
    '<tool_call>\n{{"name": "NAME", "arguments": {{"PARAMETER": VALUE}}}}\n</tool_call>\n'
    "The result comes in <tool_response></tool_response>. If no function helps, answer in words."
)


def generic_messages(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Return a conversation whose tools are told in the system message, and whose calls and results are contents."""
    found: list[dict[str, Any]] = []
    for given in messages:
        message = dict(given)
        if calls := message.pop("tool_calls", None):
            texts = [message.get("content") or "", *map(call_text, calls)]
            message["content"] = "\n".join(filter(None, texts))
        elif message["role"] == "tool":
            text = f"<tool_response>\n{message.get('content') or ''}\n</tool_response>"
            if found and found[-1].get("results"):  # templates want turns that alternate
                found[-1]["content"] += f"\n{text}"
                continue
            message = {"role": "user", "content": text, "results": True}
        found.append(message)
    for message in found:
        message.pop("results", None)
    return with_introduction(found, tools) if tools else found


def call_text(call: Mapping[str, Any]) -> str:
    """Return a call as the model is asked to write it."""
    function = {name: call["function"][name] for name in ("name", "arguments")}
    return f"<tool_call>\n{json.dumps(function, ensure_ascii=False)}\n</tool_call>"


def with_introduction(messages: Sequence[dict[str, Any]], tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Return messages whose first one, of the system, tells the tools behind what it says itself."""
    functions = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    text = INTRODUCTION.format(functions=functions)
    if messages and messages[0]["role"] in ("system", "developer"):
        first = {**messages[0], "content": f"{messages[0].get('content') or ''}\n\n{text}".strip()}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
