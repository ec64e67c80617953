"""Prompts of decisions for language models: the reference's, whose answer is the label of an option."""

from __future__ import annotations

import string
from collections.abc import Sequence

from ..chat_prompts import ChatPrompt
from .questions import CHOICE, PREDICATE, Question

LETTERS = tuple(string.ascii_uppercase)
YES_NO = ("Yes", "No")
# Examples before a predicate: small models answer most questions alike without them.
EXAMPLES = (
    ("The train to Leeds was cancelled again.", "Is it about food?", "No"),
    ("She baked three loaves of rye bread.", "Is it about food?", "Yes"),
    ("I love this garden.", "Is the writer happy?", "Yes"),
    ("My bag was stolen at the station.", "Is the writer happy?", "No"),
    ("Please call me back before noon.", "Is it a request?", "Yes"),
    ("The lake is frozen.", "Is it a request?", "No"),
    ("Our team lost by two goals.", "Is it about music?", "No"),
    ("The choir sang until midnight.", "Is it about music?", "Yes"),
)


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


def example_messages() -> list[dict[str, str]]:
    """Return `EXAMPLES` as messages of a chat."""
    return [
        {"role": role, "content": content}
        for text, asked, answer in EXAMPLES
        for role, content in (("user", f"{text}\n\n{asked}"), ("assistant", f"{answer}."))
    ]


def predicate_prompt(state: str, question: Question) -> str:
    """Return the message that Yes or No answers, in the form of the examples."""
    meanings = [
        f"{YES_NO[0] if option.value is True else YES_NO[1]}: {option.description}"
        for option in question.options
        if option.description
    ]
    return f"{state}\n\n" + "\n".join([line for line in (question.instructions, *meanings) if line])
