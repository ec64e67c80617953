"""Preference: a prompt with an answer that was chosen and one that was rejected (Rafailov et al., arXiv:2305.18290)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.tokenizer import Tokenizer
from .causal_lm import COMPANIONS, PROMPT
from .conversations import Message, Written, conversation, is_chat, messages, tokenized
from .features import Builder, Features
from .reading import DECODER, Reading, cell, column, cut_note, maybe, short, taken, text, told
from .source import Row, Rows

SIDES = ("chosen", "rejected")


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Of preference; max_length is that of a prompt with one of its answers.

    Args:
        prompt_column, chosen_column, rejected_column: guessed when left out; without a prompt it is what both answers
            begin with. append_eos: the end-of-text token follows answers that are texts.
        chat_template: instead of the tokenizer's own. template_options: variables that the template reads.
    """

    prompt_column: str | None = None
    chosen_column: str | None = None
    rejected_column: str | None = None
    append_eos: bool = True
    chat_template: str | None = None
    template_options: dict[str, Any] = field(default_factory=dict)


def prepare(source: Any, tokenizer: Tokenizer, options: Options) -> Features:
    """Features with `chosen_input_ids`, `chosen_labels` and the same of `rejected`; labels of a prompt are -100.

    Raises:
        InvalidInput: columns that are not there, answers that are alike or nothing but a prompt, with their row.
        ChatTemplateError: the chat template refuses a conversation.
    """
    rows = Rows.of(source)
    names = (
        maybe(rows, options.prompt_column, PROMPT, "prompt_column"),
        column(rows, options.chosen_column, ("chosen", "preferred"), "chosen_column"),
        column(rows, options.rejected_column, ("rejected", "dispreferred"), "rejected_column"),
    )
    named = None not in (options.prompt_column, options.chosen_column, options.rejected_column)
    used = taken(rows, names, options, COMPANIONS, named=named)
    length = options.limit(tokenizer, DECODER)
    kinds = {f"{side}_{part}": "int32" for side in SIDES for part in ("input_ids", "labels")}
    builder, cut, empty = Builder(kinds), 0, 0
    for begin, chunk in rows.chunks(500):
        numbers = range(begin, begin + len(chunk))
        both = [pair(rows, number, row, names, tokenizer, options) for number, row in enumerate(chunk, begin)]
        each = [tokenized([one[side] for one in both], tokenizer, rows, numbers) for side in (0, 1)]
        for number, *made in zip(numbers, *each, strict=True):
            cut += any(len(ids) > length for ids, _ in made)
            example: dict[str, list[int]] = {}
            for side, (ids, labels) in zip(SIDES, made, strict=True):
                example |= {f"{side}_input_ids": ids[:length], f"{side}_labels": labels[:length]}
            if any(all(label == IGNORED for label in example[f"{side}_labels"]) for side in SIDES):
                empty += 1
                continue
            builder.add(number, **example)
    notes = cut_note(cut, len(rows), length, "examples") + told(
        empty, len(rows), f"prompts leave no room for an answer within {length} tokens and were left out."
    )
    return builder.done(
        rows, counted=tuple(f"{side}_input_ids" for side in SIDES), notes=notes + used.notes, **used.told
    )


def pair(
    rows: Rows, number: int, row: Row, names: tuple[str | None, str, str], tokenizer: Tokenizer, options: Options
) -> tuple[Written, Written]:
    """What both examples of a row read and learn. Raises InvalidInput with the row."""
    prompt = cell(rows, number, row, names[0]) if names[0] is not None else None
    answers = [cell(rows, number, row, name) for name in names[1:]]
    if answers[0] == answers[1]:
        raise InvalidInput(f"{rows.at(number)} has the same answer as {names[1]} and {names[2]}: {short(answers[0])}.")
    if all(map(is_chat, answers)):
        chats = [messages(rows, number, answer) for answer in answers]
        asked = messages(rows, number, prompt) if is_chat(prompt) else []
        if isinstance(prompt, str) and all(chat[0]["role"] == "assistant" for chat in chats):
            asked = [{"role": "user", "content": prompt}]
        return of_chats(rows, number, chats, asked, tokenizer, options)
    found = [text(rows, number, row, name) or "" for name in names[1:]]
    if prompt is None:
        prompt = shared(found)
        found = [one[len(prompt) :] for one in found]
    elif not isinstance(prompt, str):
        raise InvalidInput(f"{rows.at(number)} has a prompt of messages and answers of text; both must be of a kind.")
    if not prompt or not all(found):
        raise InvalidInput(
            f"{rows.at(number)} has no prompt that both answers begin with, or an answer of nothing else."
        )
    first, second = (
        Written(prompt + one, ((len(prompt), len(prompt) + len(one)),), ended=options.append_eos) for one in found
    )
    return first, second


def of_chats(
    rows: Rows, number: int, chats: Sequence[list[Message]], asked: list[Message], tokenizer: Tokenizer,
    options: Options,
) -> tuple[Written, Written]:  # fmt: skip
    """Of conversations, which may hold the prompt or follow it."""
    whole = [chat if chat[: len(asked)] == asked else [*asked, *chat] for chat in chats]
    same = next((i for i, (a, b) in enumerate(zip(*whole, strict=False)) if a != b), min(map(len, whole)))
    if same == 0 or same == min(map(len, whole)):
        raise InvalidInput(
            f"{rows.at(number)} has conversations without a prompt that they share and answers that differ."
        )
    variables = {"chat_template": options.chat_template, **options.template_options}
    first, second = (conversation(rows, number, chat, tokenizer, after=same, **variables) for chat in whole)
    return first, second


def shared(texts: Sequence[str]) -> str:
    """What both texts begin with, up to the last white space in it."""
    end = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    spaces = [match.end() for match in re.finditer(r"\s+", texts[0][:end])]
    return texts[0][: spaces[-1]] if spaces else ""
