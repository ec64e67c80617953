"""Requests and answers of OpenAI's `/v1/decisions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .fields import InvalidField, read_fields, read_list, read_parts, read_text
from .questions import read_questions
from .state import MOST_MESSAGES, DecisionInput, read_role, transcript

ROLES = ("user", "developer", "system", "assistant")
# Fields that change no answer, and of which this library keeps nothing: only null is accepted.
NOT_COMPUTED = ("prompt_cache_key", "prompt_cache_options", "safety_identifier")
CALLS: Mapping[str, str] = {"function_call": "arguments", "custom_tool_call": "input"}  # type -> field of its text
OUTPUTS = ("function_call_output", "custom_tool_call_output")


@dataclass(frozen=True)
class DecisionsRequest:
    """Request that was read.

    Args:
        model: name. input: for the pipeline.
    """

    model: str
    input: DecisionInput

    def answer(self, answers: Sequence[Mapping[str, Any]], input_tokens: int) -> dict[str, Any]:
        """Return the response.

        Args:
            answers: of the pipeline. input_tokens: of all prompts (`answer.metadata.tokens`).
        """
        usage = {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens,
        }
        return {"model": self.model, "answers": [dict(each) for each in answers], "usage": usage}


def read_request(given: Any) -> DecisionsRequest:
    """Return a request. Raises InvalidField, which names an unknown, missing, wrong or not computed field."""
    fields = read_fields(given, "", ("model", "input", "questions"), NOT_COMPUTED)
    for name in NOT_COMPUTED:
        if fields.get(name) is not None:
            raise InvalidField(f"{name} has no effect here and is refused: leave it out.", name)
    model, given_input = read_text(fields["model"], "model"), fields["input"]
    if isinstance(given_input, str):
        state = read_text(given_input, "input")
    else:
        items = read_list(given_input, "input", 1, MOST_MESSAGES)
        state = transcript(read_items(items), "input")
    return DecisionsRequest(model, DecisionInput(state, read_questions(fields["questions"])))


def read_items(items: Sequence[Any]) -> list[tuple[str, str]]:
    """Return the speaker and the text of each item of an input. Raises InvalidField."""
    calls: dict[tuple[str, str], str] = {}  # (type of the output, call id) -> name of the tool
    messages = []
    for number, item in enumerate(items):
        path = f"input[{number}]"
        kind = str(item.get("type", "message")) if isinstance(item, Mapping) else ""
        if kind in CALLS:
            name, text = read_call(item, path, kind)
            calls[f"{kind}_output", item["call_id"]] = name
            messages.append((f"assistant calls {name}", text))
        elif kind in OUTPUTS:
            fields = read_fields(item, path, ("type", "call_id", "output"), ("id", "status"))
            name = calls.get((kind, str(fields["call_id"])), "")
            if not name:
                raise InvalidField(f"{path}.call_id matches no call before it.", f"{path}.call_id")
            messages.append(
                (f"result of {name}", read_parts(fields["output"], f"{path}.output", texts=("input_text",)))
            )
        elif kind == "message":
            messages.append(read_message(item, path))
        else:
            known = ("message", *CALLS, *OUTPUTS)
            raise InvalidField(f"{path}.type is one of {', '.join(known)}, not {kind!r:.80}.", f"{path}.type")
    return messages


def read_call(item: Mapping[str, Any], path: str, kind: str) -> tuple[str, str]:
    """Return the name and the arguments of a call of a tool. Raises InvalidField."""
    text = CALLS[kind]
    fields = read_fields(item, path, ("type", "call_id", "name", text), ("id", "namespace", "status"))
    read_text(fields["call_id"], f"{path}.call_id")
    name = read_text(fields["name"], f"{path}.name")
    if fields.get("namespace") is not None:
        name = f"{read_text(fields['namespace'], f'{path}.namespace')}.{name}"
    return name, read_text(fields[text], f"{path}.{text}", empty=True)


def read_message(item: Mapping[str, Any], path: str) -> tuple[str, str]:
    """Return the role and the text of a message. Raises InvalidField."""
    role = item.get("role")
    more = ("type", "phase") if role == "assistant" else ("type",)
    fields = read_fields(item, path, ("role", "content"), more)
    role, content = read_role(fields, path, ROLES), fields["content"]
    if role != "assistant":
        return role, read_parts(content, f"{path}.content", texts=("input_text",))
    parts = content if isinstance(content, (list, tuple)) else []
    plain = [
        {"type": "output_text", "text": part.get("refusal")}
        if isinstance(part, Mapping) and set(part) == {"type", "refusal"} and part["type"] == "refusal"
        else part
        for part in parts
    ]
    return role, read_parts(plain or content, f"{path}.content", texts=("output_text",))
