"""Input of a decision as one text: a text itself, or a conversation as a transcript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .fields import InvalidField, read_fields, read_list, read_parts, read_text
from .questions import Question, read_questions

ROLES = ("system", "developer", "user", "assistant", "tool")
MOST_MESSAGES = 10_000
INDENT = "\n  "  # of the later lines of a message, so that none of them looks like another message


@dataclass(frozen=True)
class DecisionInput:
    """Request of the decision pipeline that was read.

    Args:
        state: the text that the questions are about.
    """

    state: str
    questions: Sequence[Question]


def read_request(given: Any) -> DecisionInput:
    """Return a request `{"input", "questions"}`. Raises InvalidField."""
    fields = read_fields(given, "", ("input", "questions"))
    return DecisionInput(read_input(fields["input"]), read_questions(fields["questions"]))


def read_input(given: Any, path: str = "input") -> str:
    """Return the text of an input: a string, or messages `{"role", "content"}`. Raises InvalidField."""
    if isinstance(given, str):
        return read_text(given, path)
    if not isinstance(given, (list, tuple)):
        raise InvalidField(f"{path} is a text or a list of messages, not {given!r:.80}.", path)
    messages = read_list(given, path, 1, MOST_MESSAGES)
    return transcript([read_message(each, f"{path}[{number}]") for number, each in enumerate(messages)], path)


def read_message(given: Any, path: str) -> tuple[str, str]:
    """Return the speaker and the text of a message. Raises InvalidField."""
    fields = read_fields(given, path, ("role", "content"))
    return read_role(fields, path, ROLES), read_parts(fields["content"], f"{path}.content")


def read_role(fields: Mapping[str, Any], path: str, roles: Sequence[str]) -> str:
    """Return the role of a message. Raises InvalidField."""
    role = fields["role"]
    if not isinstance(role, str) or role not in roles:
        raise InvalidField(f"{path}.role is one of {', '.join(roles)}, not {role!r:.80}.", f"{path}.role")
    return role


def transcript(messages: Sequence[tuple[str, str]], path: str) -> str:
    """Return messages (speaker, text) as one text: a single message of the user as it is, else one line or more each.

    Raises:
        InvalidField: no message says anything.
    """
    if not any(text.strip() for _, text in messages):
        raise InvalidField(f"{path} is empty.", path)
    if len(messages) == 1 and messages[0][0] == "user":
        return messages[0][1]
    return "\n".join(f"{who.capitalize()}: {INDENT.join(text.splitlines())}" for who, text in messages)
