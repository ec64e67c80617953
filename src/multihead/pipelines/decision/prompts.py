"""Prompts of decisions for language models: the reference's, whose answer is the label of an option."""

from __future__ import annotations

import string
from collections.abc import Sequence

from ..chat_prompts import ChatPrompt
from .questions import CHOICE, PREDICATE, Question

LETTERS = tuple(string.ascii_uppercase)
YES_NO = ("Yes", "No")


def label_prompt(state: str, question: Question, labels: Sequence[str]) -> str:
    """Return the prompt after which a label is the answer, in the words of the reference's `/v1/systemone`.

    Args:
        labels: of the options, in their order.
    """
    lines = [question.instructions]
    if question.type == PREDICATE:
        for option, label in zip(question.options, labels, strict=True):
            meaning = option.description or ("" if tuple(labels) == YES_NO else option.text)
            lines.append(f"{label}: {meaning}" if meaning else "")
        asked = f"Answer {labels[0]} or {labels[1]} only."
    else:
        lines += [f"{label}. {option.words}" for option, label in zip(question.options, labels, strict=True)]
        kind = "letter" if tuple(labels) == LETTERS[: len(labels)] else "label"
        what = "option" if question.type == CHOICE else "level"
        asked = f"Answer with the {kind} of the {what} that fits best ({labels[0]} to {labels[-1]}) only."
    return f"{state}\n\n" + "\n".join(line for line in lines if line) + f"\n{asked}"


def word_prompts(state: str, question: Question) -> tuple[ChatPrompt, str]:
    """Return the prompts that the words of an option follow: a chat and a plain text, whose preferences differ."""
    chat = ChatPrompt(f"{state}\n\n{question.instructions}".rstrip(), "The answer is")
    return chat, f'"{state}"\n{question.instructions} It is'
