"""Check of what a chat template reads: messages, calls and variables that it leaves out are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...errors import ChatTemplateError
from ...tokenizers.chat import make_environment
from ..errors import ApiError

MARK = "xq7z{}zq7x"  # behind the content of a message; letters and digits, which no template changes


def check_variables(source: str, variables: Mapping[str, Any]) -> None:
    """Raise ApiError for a variable that a template does not read."""
    other = sorted(set(variables) - variables_of(source)) if variables else ()
    if other:
        raise ApiError(
            f"chat_template_kwargs: the chat template of this model does not read {other[0]!r:.80}.",
            param="chat_template_kwargs", code="unsupported_parameter",
        )  # fmt: skip


@lru_cache(maxsize=16)
def variables_of(source: str) -> frozenset[str]:
    """Return the names that a template reads and does not set itself; none for one that does not parse."""
    from jinja2 import TemplateError, meta

    try:
        return frozenset(meta.find_undeclared_variables(make_environment().parse(source)))
    except TemplateError:  # rendering tells the line
        return frozenset()


def check_messages(
    source: str, messages: Sequence[Mapping[str, Any]], text: str, render: Callable[[list[dict[str, Any]]], str]
) -> None:
    """Raise ApiError for a message that a template leaves out.

    Of the model's own messages a template may leave out what it chooses, such as earlier reasoning, but not all calls.

    Args:
        source: the template. text: the rendered conversation. render: renders another conversation.
    """
    calls = next((number for number, message in enumerate(messages) if message.get("tool_calls")), None)
    if calls is not None and "tool_calls" not in source:
        raise ApiError(
            f"The message {calls} has calls of tools, which the chat template of this model does not read. Write the "
            "call into its content.", param="messages", code="unsupported_parameter",
        )  # fmt: skip
    doubtful = [number for number, message in enumerate(messages) if content_of(message) not in text]
    if not doubtful:
        return
    # a template may write a content in another form, for instance as JSON: only a mark tells what it leaves out
    marked = [dict(message) for message in messages]
    for number in doubtful:
        marked[number]["content"] = f"{marked[number]['content']}{MARK.format(number)}"
    try:
        found = render(marked)
    except ChatTemplateError:  # a template that demands a form of contents has read them
        return
    left = next((number for number in doubtful if MARK.format(number) not in found), None)
    if left is not None:
        raise ApiError(
            f"The chat template of this model leaves out the message {left}, of the role {messages[left].get('role')}. "
            "Write it into another message.", param="messages", code="unsupported_parameter",
        )  # fmt: skip


def content_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message that a template has to read; empty for none."""
    content = message.get("content")
    return content.strip() if isinstance(content, str) and message.get("role") != "assistant" else ""
