"""Messages of OpenAI's chat interface as chat templates read them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ApiError

ROLES: Mapping[str, frozenset[str]] = {  # role -> its fields beside role and content
    "system": frozenset({"name"}),
    "developer": frozenset({"name"}),
    "user": frozenset({"name"}),
    "assistant": frozenset({
        "name", "tool_calls", "function_call", "refusal", "audio", "annotations", "reasoning_content", "reasoning",
    }),
    "tool": frozenset({"tool_call_id", "name"}),
    "function": frozenset({"name"}),
}  # fmt: skip
Message = dict[str, Any]


def read_messages(given: Sequence[Mapping[str, Any]], template: str, where: str = "messages") -> list[Message]:
    """Return messages for a chat template.

    Arguments of tool calls become objects, parts of text one text. `developer` becomes `system` where the template does
    not know it, and `function` becomes `tool`.

    Args:
        template: the text of the chat template.

    Raises:
        ApiError: a message that is none, or has what a text model cannot read.
    """
    return [read_message(message, template, f"{where}[{number}]") for number, message in enumerate(given)]


def read_message(given: Mapping[str, Any], template: str, where: str) -> Message:
    """Return one message. Raises ApiError."""
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ApiError(f"{where}.role is {role!r:.80}; it can be {', '.join(ROLES)}.", param=f"{where}.role")
    fields = {name: value for name, value in given.items() if value is not None and name != "role"}
    if other := sorted(set(fields) - ROLES[role] - {"content"}):
        raise ApiError(
            f"{where} has the field {other[0]!r:.80}, which a message of the role {role} cannot have.",
            param=f"{where}.{other[0]}", code="unknown_parameter",
        )  # fmt: skip
    if fields.get("audio") or fields.get("annotations"):
        name = "audio" if fields.get("audio") else "annotations"
        raise ApiError(f"{where}.{name} cannot be read by a model of text.", param=f"{where}.{name}")
    if role == "assistant":
        return assistant_message(fields, template, where)
    if "content" not in fields:
        raise ApiError(f"{where} has no content.", param=f"{where}.content")
    text = content_text(fields["content"], f"{where}.content")
    if role in ("tool", "function"):
        more: Message = {name: text_field(fields, name, where) for name in ("tool_call_id", "name") if name in fields}
        return {"role": "tool", "content": text, **more}
    if role == "developer" and "developer" not in template:
        role = "system"
    return {"role": role, "content": text, **name_field(fields, template, where)}


def assistant_message(fields: Mapping[str, Any], template: str, where: str) -> Message:
    """Return a message of the model: content, reasoning, tool calls. Raises ApiError."""
    content = fields.get("content", fields.get("refusal"))
    calls = fields.get("tool_calls") or ()
    if not isinstance(calls, (list, tuple)):
        raise ApiError(f"{where}.tool_calls must be a list.", param=f"{where}.tool_calls")
    found = [tool_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
    if (older := fields.get("function_call")) is not None:
        found.append({"type": "function", "function": called_function(older, f"{where}.function_call")})
    if content is None and not found:
        raise ApiError(f"{where} has neither content nor tool_calls.", param=f"{where}.content")
    message: Message = {
        "role": "assistant", "content": "" if content is None else content_text(content, f"{where}.content"),
        **name_field(fields, template, where),
    }  # fmt: skip
    for name in ("reasoning_content", "reasoning"):
        if name in fields:
            message["reasoning_content"] = text_field(fields, name, where)
    return message if not found else {**message, "tool_calls": found}


def tool_call(given: Any, where: str) -> dict[str, Any]:
    """Return a call of a message. Raises ApiError."""
    if not isinstance(given, Mapping) or given.get("type", "function") != "function":
        raise ApiError(f"{where} must be the call of a function.", param=where)
    if other := sorted(name for name in given if name not in ("id", "type", "function", "index")):
        raise ApiError(f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter")
    call: dict[str, Any] = {"type": "function", "function": called_function(given.get("function"), f"{where}.function")}
    if given.get("id") is not None:
        call["id"] = text_field(given, "id", where)
    return call


def called_function(given: Any, where: str) -> dict[str, Any]:
    """Return name and arguments of a call, the arguments as an object, which templates write. Raises ApiError."""
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ApiError(f"{where} must have a name and arguments.", param=where)
    if other := sorted(set(given) - {"name", "arguments"}):
        raise ApiError(f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter")
    arguments = given.get("arguments")
    try:
        arguments = json.loads(arguments or "{}") if isinstance(arguments, str) or arguments is None else arguments
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, Mapping):
        raise ApiError(f"{where}.arguments must be the JSON text of an object.", param=f"{where}.arguments")
    return {"name": given["name"], "arguments": dict(arguments)}


def content_text(given: Any, where: str) -> str:
    """Return content as one text; its parts of text are joined by line breaks. Raises ApiError for other parts."""
    if isinstance(given, str):
        return given
    if not isinstance(given, (list, tuple)) or not given:
        raise ApiError(f"{where} must be a text or a list of parts.", param=where)
    return "\n".join(part_text(part, f"{where}[{number}]") for number, part in enumerate(given))


def part_text(part: Any, where: str) -> str:
    """Return the text of a part. Raises ApiError."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    names = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
    if not isinstance(kind, str):
        raise ApiError(f'{where} must be a part such as {{"type": "text", "text": ...}}.', param=where)
    if kind not in names:
        raise ApiError(
            f"{where}.type is {kind!r:.80}; this model reads text only.", param=f"{where}.type",
            code="unsupported_content",
        )  # fmt: skip
    text = part.get(names[kind])
    if not isinstance(text, str):
        raise ApiError(f"{where}.{names[kind]} must be a text.", param=f"{where}.{names[kind]}")
    # hints for caches, and what answers of a model carry when they are sent back
    neutral = {"prompt_cache_breakpoint", "cache_control"} | {
        name for name in ("annotations", "logprobs") if not part.get(name)
    }
    if other := sorted(set(part) - {"type", names[kind]} - neutral):
        raise ApiError(f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter")
    return text


def name_field(fields: Mapping[str, Any], template: str, where: str) -> dict[str, str]:
    """Return the name of a message's author. Raises ApiError if the chat template does not read it."""
    if "name" not in fields:
        return {}
    if not re.search(r"""message(\.name|\[['"]name['"]\])""", template):
        raise ApiError(
            f"{where}.name: the chat template of this model does not read names. Write the name into the content.",
            param=f"{where}.name", code="unsupported_parameter",
        )  # fmt: skip
    return {"name": text_field(fields, "name", where)}


def text_field(fields: Mapping[str, Any], name: str, where: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ApiError(f"{where}.{name} must be a text.", param=f"{where}.{name}")
    return value
