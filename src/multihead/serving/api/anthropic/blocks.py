"""Messages of Anthropic's interface as chat templates read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ApiError

Message = dict[str, Any]
HINTS = {"cache_control", "citations", "caller", "toolset_name"}  # what no prompt depends on


def system_text(given: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the system prompt. Raises ApiError for what is no text."""
    return given if isinstance(given, str) else texts(given, "system")


def read_messages(given: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return messages for a chat template; results of tools become messages of the role `tool`.

    Raises:
        ApiError: a message that is none, or has what a text model cannot read.
    """
    found: list[Message] = []
    for number, message in enumerate(given):
        where = f"messages[{number}]"
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise ApiError(f"{where}.role is {role!r:.80}; it can be user or assistant.", param=f"{where}.role")
        if other := sorted(set(message) - {"role", "content"}):
            raise ApiError(
                f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter"
            )
        if isinstance(content, str):
            found.append({"role": role, "content": content})
        elif not isinstance(content, list) or not content:
            raise ApiError(f"{where}.content must be a text or a list of blocks.", param=f"{where}.content")
        elif role == "assistant":
            found.append(assistant_message(content, f"{where}.content"))
        else:
            found += user_messages(role, content, f"{where}.content")
    return found


def user_messages(role: str, blocks: Sequence[Any], where: str) -> list[Message]:
    """Return the results of tools, each a message, and then the texts as one. Raises ApiError."""
    found: list[Message] = []
    parts = []
    for number, block in enumerate(blocks):
        place = f"{where}[{number}]"
        if kind_of(block, place) == "tool_result":
            found.append(tool_result(block, place))
        else:
            parts.append(block_text(block, place))
    return [*found, {"role": role, "content": "\n".join(parts)}] if parts else found


def tool_result(block: Mapping[str, Any], where: str) -> Message:
    """Return the result of a tool. Raises ApiError."""
    check_fields(block, {"tool_use_id", "content", "is_error"}, where)
    content, number = block.get("content") or "", block.get("tool_use_id")
    if not isinstance(number, str):
        raise ApiError(f"{where}.tool_use_id must be a text.", param=f"{where}.tool_use_id")
    text = content if isinstance(content, str) else texts(content, f"{where}.content")
    # templates know no failed calls; the word is what a model can read
    return {"role": "tool", "tool_call_id": number, "content": f"Error: {text}" if block.get("is_error") else text}


def assistant_message(blocks: Sequence[Any], where: str) -> Message:
    """Return a message of the model: texts, thinking, calls. Raises ApiError."""
    parts, thoughts, calls = [], [], []
    for number, block in enumerate(blocks):
        place = f"{where}[{number}]"
        kind = kind_of(block, place)
        if kind == "thinking" and isinstance(block.get("thinking"), str):
            check_fields(block, {"thinking", "signature"}, place)
            thoughts.append(block["thinking"])
        elif kind == "tool_use":
            check_fields(block, {"id", "name", "input"}, place)
            if not isinstance(block.get("name"), str) or not isinstance(block.get("input"), Mapping):
                raise ApiError(f"{place} must have a name and an input, an object.", param=place)
            function = {"name": block["name"], "arguments": dict(block["input"])}
            calls.append({"type": "function", "id": str(block.get("id", "")), "function": function})
        else:
            parts.append(block_text(block, place))
    message: Message = {"role": "assistant", "content": "\n".join(parts)}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    return {**message, "tool_calls": calls} if calls else message


def texts(blocks: Any, where: str) -> str:
    """Return blocks of text as one text. Raises ApiError."""
    if not isinstance(blocks, list):
        raise ApiError(f"{where} must be a text or a list of blocks.", param=where)
    return "\n".join(block_text(block, f"{where}[{number}]") for number, block in enumerate(blocks))


def block_text(block: Mapping[str, Any], where: str) -> str:
    """Return the text of a block. Raises ApiError for one of another type."""
    kind = kind_of(block, where)
    if kind != "text":
        raise ApiError(
            f"{where}.type is {kind!r:.80}, which this model cannot read.", param=f"{where}.type",
            code="unsupported_content",
        )  # fmt: skip
    check_fields(block, {"text"}, where)
    if not isinstance(block.get("text"), str):
        raise ApiError(f"{where}.text must be a text.", param=f"{where}.text")
    return str(block["text"])


def kind_of(block: Any, where: str) -> str:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        raise ApiError(f'{where} must be a block such as {{"type": "text", "text": ...}}.', param=where)
    return kind


def check_fields(block: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise ApiError for a field that a block cannot have."""
    if other := sorted(name for name in set(block) - known - HINTS - {"type"} if block[name] is not None):
        raise ApiError(f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter")
