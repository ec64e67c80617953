"""Items of a response's input as messages that chat templates read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import ApiError
from ..messages import called_function, content_text, read_message, text_field

Message = dict[str, Any]
FIELDS: Mapping[str, frozenset[str]] = {  # type of an item -> its fields beside type, id and status
    "message": frozenset({"role", "content", "phase"}),
    "function_call": frozenset({"call_id", "name", "arguments"}),
    "function_call_output": frozenset({"call_id", "output", "name"}),
    "reasoning": frozenset({"summary", "content"}),
}


def read_input(given: str | Sequence[Mapping[str, Any]], instructions: str | None, template: str) -> list[Message]:
    """Return the messages of a conversation.

    Reasoning, text and calls of one turn become one message of the assistant. Instructions and system messages at the
    beginning become one, since many templates read only one.

    Args:
        template: the text of the chat template.

    Raises:
        ApiError: an item that a text model cannot read.
    """
    found: list[Message] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(given, str):
        return [*found, {"role": "user", "content": given}]
    if not given:
        raise ApiError("input is empty; give at least one item.", param="input")
    for number, item in enumerate(given):
        add_item(found, item, f"input[{number}]", template)
    while len(found) > 1 and found[0]["role"] == found[1]["role"] == "system":
        found[:2] = [{"role": "system", "content": f"{found[0]['content']}\n\n{found[1]['content']}"}]
    return found


def add_item(found: list[Message], item: Mapping[str, Any], where: str, template: str) -> None:
    """Add an item to the messages. Raises ApiError."""
    kind = item.get("type", "message")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise ApiError(
            f"{where}.type is {kind!r:.80}, which this model cannot read.", param=f"{where}.type",
            code="unsupported_content",
        )  # fmt: skip
    fields = {name: value for name, value in item.items() if value is not None and name not in ("type", "id", "status")}
    if other := sorted(set(fields) - FIELDS[kind]):
        raise ApiError(f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter")
    if kind == "message":
        fields.pop("phase", None)  # of the model's own messages: where they stood in its answer
        add_message(found, read_message(fields, template, where))
    elif kind == "function_call":
        function = called_function({"name": fields.get("name"), "arguments": fields.get("arguments")}, where)
        call = {"type": "function", "id": str(fields.get("call_id", "")), "function": function}
        turn(found, "tool_calls").setdefault("tool_calls", []).append(call)
    elif kind == "reasoning":
        given = fields.get("content") or fields.get("summary") or []
        parts = given if isinstance(given, list) else [given]
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
        if not all(isinstance(text, str) for text in texts):
            raise ApiError(f"{where} must have content, a list of texts.", param=f"{where}.content")
        if texts:
            turn(found, "reasoning_content")["reasoning_content"] = "\n".join(map(str, texts))
    else:
        text = content_text(fields.get("output"), f"{where}.output") if fields.get("output") != "" else ""
        name = {"name": text_field(fields, "name", where)} if "name" in fields else {}
        found.append({"role": "tool", "tool_call_id": str(fields.get("call_id", "")), "content": text, **name})


def add_message(found: list[Message], message: Message) -> None:
    """Add a message; one of the assistant goes on with the turn that its reasoning began."""
    if message["role"] == "assistant":
        turn(found, "content")["content"] = message["content"]
    else:
        found.append(message)


def turn(found: list[Message], part: str) -> Message:
    """Return the assistant's message that a part belongs to, a new one if the last turn has gone past it."""
    order = ("reasoning_content", "content", "tool_calls")
    last = found[-1] if found else {"role": ""}
    later = order[order.index(part) + (part == "tool_calls") :]
    if last["role"] != "assistant" or any(last.get(name) for name in later):
        last = {"role": "assistant", "content": ""}
        found.append(last)
    return last
