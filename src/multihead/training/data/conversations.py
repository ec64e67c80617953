"""Texts of which only a part is learned: prompts with their completions, and conversations by a chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ChatTemplateError, InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.chat import Spans, render_with_spans
from ...tokenizers.tokenizer import Tokenizer
from .reading import encoded, short
from .source import Rows

ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """A text and its parts that are learned.

    Args:
        spans: (first, one past the last) character of each. special: whether the tokenizer frames the text; a chat
            template has written the frame itself. ended: whether the end-of-text token follows and is learned.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    special: bool = True
    ended: bool = False


def is_chat(value: Any) -> bool:
    """Whether this is a list of messages."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(m, Mapping) for m in value)


def messages(rows: Rows, number: int, value: Any) -> list[Message]:
    """Messages as templates read them; `{"from": "human", "value": ...}` is read, too. Raises InvalidInput."""
    if not is_chat(value):
        raise InvalidInput(f"{rows.at(number)} must have a list of messages, not {short(value)}.")
    found: list[Message] = []
    for place, message in enumerate(value):
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str) or (content is None and "tool_calls" not in message):
            raise InvalidInput(
                f'{rows.at(number)} has a message {place} that is no {{"role": ..., "content": ...}}: {short(message)}.'
            )
        rest = {k: v for k, v in message.items() if k not in ("role", "from", "content", "value") and v is not None}
        found.append({"role": ROLES.get(role, role), "content": content, **rest})
    return found


def conversation(
    rows: Rows, number: int, chat: Sequence[Message], tokenizer: Tokenizer, *, everything: bool = False, after: int = 0,
    last: bool = False, **variables: Any,
) -> Written:  # fmt: skip
    """A conversation as the chat template writes it; what the assistant says is learned.

    What that is, the template's `{% generation %}` marks tell where it has some, and the messages' roles where not.

    Args:
        everything: all of the text is learned. after: messages that are only read. last: what the assistant says last
            is learned alone. variables: of the template.

    Raises:
        InvalidInput: no assistant's message, or a template that writes the beginning of a conversation otherwise once
            it goes on. ChatTemplateError: the template refuses the conversation.
    """

    def write(count: int, prompt: bool = False) -> str:
        try:
            return tokenizer.apply_chat_template(
                list(chat[:count]), tokenize=False, add_generation_prompt=prompt, **variables
            )
        except ChatTemplateError as error:
            raise ChatTemplateError(f"{rows.at(number)}: {error}") from error

    whole = write(len(chat))
    if everything:
        return Written(whole, ((0, len(whole)),), special=False)
    marked = marks(rows, number, chat, tokenizer, variables)
    said = [place for place, message in enumerate(chat) if message["role"] == "assistant"]
    if marked and last and (not after or after <= said[-1]):
        return Written(whole, tuple(marked[-1:]), special=False)
    if last and said:
        after = max(after, said[-1])
    if marked is not None:
        read = write(after) if after else ""
        if not whole.startswith(read):
            raise unstable(rows, number, after - 1)
        return Written(whole, behind(marked, len(read), rows, number), special=False)
    spans = []
    for place, message in enumerate(chat):
        if message["role"] != "assistant" or place < after:
            continue
        end = whole if place + 1 == len(chat) else write(place + 1)
        if not whole.startswith(end):
            raise unstable(rows, number, place)
        begins = [write(place, prompt=True), write(place)] if place else [""]
        begin = next((text for text in begins if end.startswith(text)), None)
        if begin is None:
            raise unstable(rows, number, place)
        spans.append((len(begin), len(end)))
    if not spans:
        raise InvalidInput(f"{rows.at(number)} has no message of the assistant, so there is nothing to learn.")
    return Written(whole, tuple(spans), special=False)


def marks(
    rows: Rows, number: int, chat: Sequence[Message], tokenizer: Tokenizer, variables: Mapping[str, Any]
) -> Spans | None:
    """Where the chat template's `{% generation %}` marks stand; None for a template without any."""
    try:
        found = render_with_spans(tokenizer, list(chat), **variables)
    except ChatTemplateError as error:
        raise ChatTemplateError(f"{rows.at(number)}: {error}") from error
    return None if found is None else found[1]


def behind(spans: Spans, place: int, rows: Rows, number: int) -> Spans:
    """The spans that begin there or later. Raises InvalidInput where there are none."""
    found = tuple(span for span in spans if span[0] >= place)
    if not found:
        raise InvalidInput(
            f"{rows.at(number)} has nothing inside the chat template's {{% generation %}} marks, so there is nothing "
            "to learn."
        )
    return found


def unstable(rows: Rows, number: int, place: int) -> InvalidInput:
    return InvalidInput(
        f"{rows.at(number)}: the chat template writes the conversation up to message {place} otherwise than the whole, "
        "so what the assistant says in it cannot be told apart. Learn its last answer with learn='last' (a row for "
        "each answer teaches all), everything with learn='all', or pass a chat_template with {% generation %} marks."
    )


def tokenized(
    written: Sequence[Written], tokenizer: Tokenizer, rows: Rows, numbers: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of each text; labels are -100 but for tokens with a character that is learned."""
    found: list[Any] = [None] * len(written)
    end = tokenizer.eos_token_id
    for special in (True, False):
        places = [place for place, one in enumerate(written) if one.special == special]
        if not places:
            continue
        texts, of = [written[p].text for p in places], [numbers[p] for p in places]
        for place, one in zip(places, encoded(tokenizer, texts, rows, of, None, special=special), strict=True):
            ids, labels = list(one.ids), labeled(one, written[place].spans)
            if special and doubled(ids, tokenizer):
                ids, labels = ids[1:], labels[1:]
            if written[place].ended and end is not None and (not ids or ids[-1] != end):
                ids, labels = [*ids, end], [*labels, end]
            found[place] = ids, labels
    return found


def doubled(ids: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Whether a text begins with the begin-of-text token itself, before which the tokenizer has put another."""
    begin = tokenizer.bos_token_id
    return begin is not None and list(ids[:2]) == [begin, begin]


def labeled(encoding: Any, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Ids of the tokens that touch a span, and of those that frame a text behind its last span; -100 else."""
    labels = [IGNORED] * len(encoding.ids)
    ids, offsets, framing = encoding.ids, encoding.offsets, encoding.special_tokens_mask
    number, last = 0, -1
    for place, ((first, end), special) in enumerate(zip(offsets, framing, strict=True)):
        if special:
            continue
        while number < len(spans) and spans[number][1] <= first:
            number += 1
        if number < len(spans) and end > spans[number][0] and first < spans[number][1]:
            labels[place] = ids[place]
            last = place
    for place in range(last + 1, len(ids) if last >= 0 else 0):
        if framing[place]:
            labels[place] = ids[place]
    return labels
