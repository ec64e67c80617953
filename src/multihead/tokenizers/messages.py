"""Conversations as chat templates read them: plain data under the names that templates use."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ChatTemplateError, InvalidInput

MEDIA = re.compile(r"(input_)?(image|video|audio)(_url)?$")  # types of parts of a message that are no text
REASONING = ("reasoning_content", "thinking", "reasoning")  # names of what a model thought; templates read the first
MARK = "\ue000\ue001\ue000"  # where a message is gone on with: of private use, so in no text


def plain_data(value: Any) -> Any:
    """Convert values to dicts, lists, strings, numbers and None; other objects become text such as `<Image>`.

    Objects of other classes have methods that a template could call, so it never sees one.

    Raises:
        InvalidInput: a value that holds itself.
    """
    try:
        return copy_message(value)
    except RecursionError:
        raise InvalidInput("A conversation, tool or document is nested too deeply, or holds itself.") from None


def copy_message(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of a subclass, too: an Enum's, say
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {copy_message(key): copy_message(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [copy_message(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if any(f"{base.__module__}.{base.__name__}" == "numpy.generic" for base in type(value).__mro__):
        return copy_message(value.item())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: copy_message(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):  # pydantic's
        return copy_message(value.model_dump())
    return f"<{type(value).__name__}>"


def normalize_conversations(given: Any) -> tuple[list[list[Any]], bool]:
    """Normalize a conversation or a batch; return the list and whether it was a batch.

    Raises:
        ChatTemplateError: no messages, messages that are no dicts, or images and sound in one.
    """
    if not isinstance(given, (list, tuple)) and not hasattr(given, "messages"):
        raise ChatTemplateError(f'A conversation is a list of {{"role": ..., "content": ...}}, not {given!r:.80}.')
    batched = isinstance(given, (list, tuple)) and bool(given)
    batched = batched and (isinstance(given[0], (list, tuple)) or hasattr(given[0], "messages"))
    return [normalize_conversation(chat) for chat in (given if batched else [given])], batched


def normalize_conversation(chat: Any) -> list[Any]:
    """Copy a conversation's messages without None entries, with the reasoning text under all of its names."""
    found = plain_data(getattr(chat, "messages", chat))
    if not found:
        raise ChatTemplateError("The conversation is empty; give at least one message.")
    for message in found:
        if not isinstance(message, dict):
            raise ChatTemplateError(
                f'A message is a dict such as {{"role": ..., "content": ...}}, not {message!r:.80}.'
            )
        refuse_media(message)
    return [with_reasoning({key: value for key, value in message.items() if value is not None}) for message in found]


def refuse_media(message: Mapping[str, Any]) -> None:
    """Raise ChatTemplateError for an image or sound in a message: a template would write its token as text."""
    content = message.get("content")
    for part in content if isinstance(content, (list, tuple)) else ():
        if isinstance(part, Mapping) and MEDIA.match(str(part.get("type", ""))):
            raise ChatTemplateError(
                f"A message has a part of type {part['type']!r}. This library computes text alone: give parts such as "
                '{"type": "text", "text": ...}.'
            )


def with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Copy a message with its reasoning text as `reasoning_content` and as `thinking`."""
    thought = next((message[name] for name in REASONING if name in message), None)
    return message if thought is None else {"thinking": thought, **message, "reasoning_content": thought}


def normalize_documents(given: Any) -> Any:
    """Normalize documents. Raises InvalidInput for other values than a list of dicts."""
    if given is None:
        return None
    if not isinstance(given, (list, tuple)) or not all(isinstance(document, Mapping) for document in given):
        raise InvalidInput('documents is a list of dicts such as {"title": ..., "text": ...}.')
    return plain_data(given)


def mark_last_message(chat: list[Any], source: str, part: bool | str) -> tuple[str, list[Any]]:
    """Return the last message's text, and a conversation with a mark and a space after it.

    Args:
        source: the template, which has to read the part. part: of the message, `content` for True.

    Raises:
        ChatTemplateError: no such part, or one without text.
    """
    name, last = part if isinstance(part, str) else "content", dict(chat[-1])
    content = last.get(name)
    names = [each for each in REASONING if last.get(each) == content] if name in REASONING else [name]
    if content is not None and not any(each in source for each in names):
        raise ChatTemplateError(f"continue_final_message = {name!r}: the chat template does not read it.")
    if isinstance(content, str):
        return content, [*chat[:-1], {**last, **dict.fromkeys(names, f"{content}{MARK} ")}]
    parts = list(content) if isinstance(content, (list, tuple)) else []
    for number, piece in reversed(list(enumerate(parts))):
        if isinstance(piece, Mapping) and isinstance(piece.get("text"), str):
            parts[number] = {**piece, "text": f"{piece['text']}{MARK} "}
            return str(piece["text"]), [*chat[:-1], {**last, name: parts}]
    raise ChatTemplateError(f"continue_final_message: the last message has no text ({name}) to go on with.")


def text_before_mark(text: str, words: str) -> str:
    """Return the text before the mark. Raises ChatTemplateError where the last message is not found."""
    place = text.rfind(MARK)
    if place < 0 or words.strip() not in text[:place]:
        raise ChatTemplateError(
            "continue_final_message: the last message does not stand in the text that the template writes."
        )
    whole = text.startswith(f"{MARK} ", place)  # else the template trims its messages
    text = text[:place].replace(f"{MARK} ", "").replace(MARK, "")  # where it writes them more than once
    return text if whole else text.rstrip()
