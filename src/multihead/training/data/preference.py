"""Reader of preferences: a prompt with a chosen and a rejected answer (Rafailov et al., arXiv:2305.18290)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from ...heads.losses import IGNORED
from ...tokenizers.tokenizer import Tokenizer
from .causal_lm import COMPANIONS, PROMPT
from .columns import (
    DECODER_LIMIT,
    ReaderOptions,
    column_use,
    count_note,
    cut_note,
    find_column,
    require_cell,
    require_column,
    require_text,
    shorten,
)
from .conversations import LabeledText, Message, is_chat, messages, render_chat, tokenize_labeled
from .features import FeatureBuilder, Features
from .source import Row, Rows

SIDES = ("chosen", "rejected")


@dataclass(frozen=True, kw_only=True)
class PreferenceOptions(ReaderOptions):
    """Options of preferences; max_length is the length of a prompt with one answer.

    Args:
        prompt_column, chosen_column, rejected_column: detected by name when None; without a prompt column the common
            beginning of both answers is the prompt. append_eos: append the end-of-text token to answers of text.
        chat_template: replaces the tokenizer's template. template_options: variables of the template.
    """

    prompt_column: str | None = None
    chosen_column: str | None = None
    rejected_column: str | None = None
    append_eos: bool = True
    chat_template: str | None = None
    template_options: dict[str, Any] = field(default_factory=dict)


def prepare(source: Any, tokenizer: Tokenizer, options: PreferenceOptions) -> Features:
    """Build features with `chosen_input_ids`, `chosen_labels` and the same of `rejected`; prompt labels are -100.

    Raises:
        InvalidInput: a missing column, equal answers, or an answer without text after the prompt, with its row.
        ChatTemplateError: the chat template refuses a chat.
    """
    rows = Rows.of(source)
    names = (
        find_column(rows, options.prompt_column, PROMPT, "prompt_column"),
        require_column(rows, options.chosen_column, ("chosen", "preferred"), "chosen_column"),
        require_column(rows, options.rejected_column, ("rejected", "dispreferred"), "rejected_column"),
    )
    named = None not in (options.prompt_column, options.chosen_column, options.rejected_column)
    use = column_use(rows, names, options, COMPANIONS, named=named)
    length = options.limit(tokenizer, DECODER_LIMIT)
    kinds = {f"{side}_{part}": "int32" for side in SIDES for part in ("input_ids", "labels")}
    builder, cut, empty = FeatureBuilder(kinds), 0, 0
    for begin, chunk in rows.chunks(500):
        numbers = range(begin, begin + len(chunk))
        pairs = [answer_pair(rows, number, row, names, tokenizer, options) for number, row in enumerate(chunk, begin)]
        sides = [tokenize_labeled([pair[side] for pair in pairs], tokenizer, rows, numbers) for side in (0, 1)]
        for number, *encoded in zip(numbers, *sides, strict=True):
            cut += any(len(ids) > length for ids, _ in encoded)
            example: dict[str, list[int]] = {}
            for side, (ids, labels) in zip(SIDES, encoded, strict=True):
                example |= {f"{side}_input_ids": ids[:length], f"{side}_labels": labels[:length]}
            if any(all(label == IGNORED for label in example[f"{side}_labels"]) for side in SIDES):
                empty += 1
                continue
            builder.add(number, **example)
    notes = cut_note(cut, len(rows), length, "examples") + count_note(
        empty, len(rows), f"prompts leave no room for an answer within {length} tokens and were left out."
    )
    return builder.build(
        rows, counted=tuple(f"{side}_input_ids" for side in SIDES), notes=notes + use.notes, **use.feature_fields
    )


def answer_pair(
    rows: Rows,
    number: int,
    row: Row,
    names: tuple[str | None, str, str],
    tokenizer: Tokenizer,
    options: PreferenceOptions,
) -> tuple[LabeledText, LabeledText]:
    """Return the prompt with the chosen and with the rejected answer. Raises InvalidInput, naming the row."""
    prompt = require_cell(rows, number, row, names[0]) if names[0] is not None else None
    answers = [require_cell(rows, number, row, name) for name in names[1:]]
    if answers[0] == answers[1]:
        raise InvalidInput(
            f"{rows.subject(number)} has the same answer as {names[1]} and {names[2]}: {shorten(answers[0])}."
        )
    if all(map(is_chat, answers)):
        chats = [messages(rows, number, answer) for answer in answers]
        shared = messages(rows, number, prompt) if is_chat(prompt) else []
        if isinstance(prompt, str) and all(chat[0]["role"] == "assistant" for chat in chats):
            shared = [{"role": "user", "content": prompt}]
        return chat_pair(rows, number, chats, shared, tokenizer, options)
    texts = [require_text(rows, number, row, name) or "" for name in names[1:]]
    if prompt is None:
        prompt = common_prompt(texts)
        texts = [text[len(prompt) :] for text in texts]
    elif not isinstance(prompt, str):
        raise InvalidInput(
            f"{rows.subject(number)} has a prompt of messages and answers of text; both must have one form."
        )
    if not prompt or not all(texts):
        raise InvalidInput(
            f"{rows.subject(number)} has no prompt that both answers begin with, or an answer of nothing else."
        )
    first, second = (
        LabeledText(prompt + text, ((len(prompt), len(prompt) + len(text)),), append_eos=options.append_eos)
        for text in texts
    )
    return first, second


def chat_pair(
    rows: Rows, number: int, chats: Sequence[list[Message]], prompt: list[Message], tokenizer: Tokenizer,
    options: PreferenceOptions,
) -> tuple[LabeledText, LabeledText]:  # fmt: skip
    """Render both chats, which may contain the prompt or follow it."""
    whole = [chat if chat[: len(prompt)] == prompt else [*prompt, *chat] for chat in chats]
    same = next((i for i, (a, b) in enumerate(zip(*whole, strict=False)) if a != b), min(map(len, whole)))
    if same == 0 or same == min(map(len, whole)):
        raise InvalidInput(
            f"{rows.subject(number)} has conversations without a prompt that they share and answers that differ."
        )
    variables = {"chat_template": options.chat_template, **options.template_options}
    first, second = (render_chat(rows, number, chat, tokenizer, after=same, **variables) for chat in whole)
    return first, second


def common_prompt(texts: Sequence[str]) -> str:
    """Return the common beginning of both texts, up to its last white space."""
    end = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    spaces = [match.end() for match in re.finditer(r"\s+", texts[0][:end])]
    return texts[0][: spaces[-1]] if spaces else ""
