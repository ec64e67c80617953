"""Texts of which only parts are learned: prompts with completions, and chats rendered by a chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ChatTemplateError, InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.chat import Spans, render_with_spans
from ...tokenizers.tokenizer import Tokenizer
from .columns import encode_rows, shorten
from .source import Rows

ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
Message = Mapping[str, Any]


@dataclass(frozen=True)
class LabeledText:
    """A text and the parts of it that are learned.

    Args:
        spans: (begin, end) characters of each learned part. special: the tokenizer adds special tokens; a chat
            template writes them itself. append_eos: the end-of-text token is appended and learned.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    special: bool = True
    append_eos: bool = False


def is_chat(value: Any) -> bool:
    """Return whether a value is a list of messages."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(m, Mapping) for m in value)


def messages(rows: Rows, number: int, value: Any) -> list[Message]:
    """Return messages as templates read them; accepts `{"from": "human", "value": ...}` too. Raises InvalidInput."""
    if not is_chat(value):
        raise InvalidInput(f"{rows.subject(number)} must have a list of messages, not {shorten(value)}.")
    chat: list[Message] = []
    for index, message in enumerate(value):
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str) or (content is None and "tool_calls" not in message):
            raise InvalidInput(
                f'{rows.subject(number)} has a message {index} that is no {{"role": ..., "content": ...}}: '
                f"{shorten(message)}."
            )
        rest = {k: v for k, v in message.items() if k not in ("role", "from", "content", "value") and v is not None}
        chat.append({"role": ROLES.get(role, role), "content": content, **rest})
    return chat


def render_chat(
    rows: Rows, number: int, chat: Sequence[Message], tokenizer: Tokenizer, *, everything: bool = False, after: int = 0,
    last: bool = False, **variables: Any,
) -> LabeledText:  # fmt: skip
    """Render a chat by the chat template; the messages of the assistant are learned.

    The `{% generation %}` marks of the template delimit these messages if it has them, otherwise the message roles do.

    Args:
        everything: learn the whole text. after: number of first messages that are not learned.
        last: learn only the last message of the assistant. variables: of the template.

    Raises:
        InvalidInput: no message of the assistant, or the template renders a prefix of the chat differently from the
            whole chat.
        ChatTemplateError: the template refuses the chat.
    """

    def render(count: int, prompt: bool = False) -> str:
        try:
            return tokenizer.apply_chat_template(
                list(chat[:count]), tokenize=False, add_generation_prompt=prompt, **variables
            )
        except ChatTemplateError as error:
            raise ChatTemplateError(f"{rows.subject(number)}: {error}") from error

    whole = render(len(chat))
    if everything:
        return LabeledText(whole, ((0, len(whole)),), special=False)
    marked = generation_spans(rows, number, chat, tokenizer, variables)
    answers = [index for index, message in enumerate(chat) if message["role"] == "assistant"]
    if marked and last and (not after or after <= answers[-1]):
        return LabeledText(whole, tuple(marked[-1:]), special=False)
    if last and answers:
        after = max(after, answers[-1])
    if marked is not None:
        prefix = render(after) if after else ""
        if not whole.startswith(prefix):
            raise unstable_template(rows, number, after - 1)
        return LabeledText(whole, spans_from(marked, len(prefix), rows, number), special=False)
    spans = []
    for index, message in enumerate(chat):
        if message["role"] != "assistant" or index < after:
            continue
        end = whole if index + 1 == len(chat) else render(index + 1)
        if not whole.startswith(end):
            raise unstable_template(rows, number, index)
        begins = [render(index, prompt=True), render(index)] if index else [""]
        begin = next((text for text in begins if end.startswith(text)), None)
        if begin is None:
            raise unstable_template(rows, number, index)
        spans.append((len(begin), len(end)))
    if not spans:
        raise InvalidInput(f"{rows.subject(number)} has no message of the assistant, so there is nothing to learn.")
    return LabeledText(whole, tuple(spans), special=False)


def generation_spans(
    rows: Rows, number: int, chat: Sequence[Message], tokenizer: Tokenizer, variables: Mapping[str, Any]
) -> Spans | None:
    """Return the spans of the template's `{% generation %}` marks; None for a template without marks."""
    try:
        rendered = render_with_spans(tokenizer, list(chat), **variables)
    except ChatTemplateError as error:
        raise ChatTemplateError(f"{rows.subject(number)}: {error}") from error
    return None if rendered is None else rendered[1]


def spans_from(spans: Spans, begin: int, rows: Rows, number: int) -> Spans:
    """Return the spans from a character on. Raises InvalidInput if there are none."""
    later = tuple(span for span in spans if span[0] >= begin)
    if not later:
        raise InvalidInput(
            f"{rows.subject(number)} has nothing inside the chat template's {{% generation %}} marks, so there is "
            "nothing to learn."
        )
    return later


def unstable_template(rows: Rows, number: int, index: int) -> InvalidInput:
    """Return the error for a template that renders a prefix of a chat differently from the whole chat."""
    return InvalidInput(
        f"{rows.subject(number)}: the chat template writes the conversation up to message {index} otherwise than the "
        "whole, so the messages of the assistant cannot be located in it. Learn the last answer with learn='last' "
        "(give a row for each answer to learn all), everything with learn='all', or pass a chat_template with "
        "{% generation %} marks."
    )


def tokenize_labeled(
    texts: Sequence[LabeledText], tokenizer: Tokenizer, rows: Rows, numbers: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """Return (ids, labels) of each text; a label is -100 unless a character of the token is learned."""
    encoded: list[Any] = [None] * len(texts)
    end = tokenizer.eos_token_id
    for special in (True, False):
        indices = [index for index, text in enumerate(texts) if text.special == special]
        if not indices:
            continue
        inputs, of = [texts[i].text for i in indices], [numbers[i] for i in indices]
        encodings = encode_rows(tokenizer, inputs, rows, of, None, special=special)
        for index, encoding in zip(indices, encodings, strict=True):
            ids, labels = list(encoding.ids), token_labels(encoding, texts[index].spans)
            if special and has_double_bos(ids, tokenizer):
                ids, labels = ids[1:], labels[1:]
            if texts[index].append_eos and end is not None and (not ids or ids[-1] != end):
                ids, labels = [*ids, end], [*labels, end]
            encoded[index] = ids, labels
    return encoded


def has_double_bos(ids: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Return whether ids begin with two begin-of-text tokens: one of the text and one of the tokenizer."""
    begin = tokenizer.bos_token_id
    return begin is not None and list(ids[:2]) == [begin, begin]


def token_labels(encoding: Any, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the ids of tokens that touch a span or are special tokens after the last span; -100 for all others."""
    labels = [IGNORED] * len(encoding.ids)
    ids, offsets, specials = encoding.ids, encoding.offsets, encoding.special_tokens_mask
    number, last = 0, -1
    for position, ((first, end), special) in enumerate(zip(offsets, specials, strict=True)):
        if special:
            continue
        while number < len(spans) and spans[number][1] <= first:
            number += 1
        if number < len(spans) and end > spans[number][0] and first < spans[number][1]:
            labels[position] = ids[position]
            last = position
    for position in range(last + 1, len(ids) if last >= 0 else 0):
        if specials[position]:
            labels[position] = ids[position]
    return labels
