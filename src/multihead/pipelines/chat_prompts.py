"""Prompts of one message, in the format that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..tokenizers.tokenizer import Tokenizer


def prompt_ids(
    tokenizer: Tokenizer, text: str, before: Sequence[Mapping[str, str]] = (), **variables: Any
) -> list[int]:
    """Return the ids of a request: of a chat with one message, or without a chat template of a line of text.

    Control tokens in the text are plain text: a document must not end its message and begin another one.

    Args:
        before: messages before it, such as examples. variables: of the chat template, such as `enable_thinking`.
    """
    if tokenizer.chat_template is None:
        lines = [*(message["content"] for message in before), text, ""]
        return tokenizer.encode_ids(["\n".join(lines)], controls=False)[0]
    chat = [*before, {"role": "user", "content": text}]
    # most texts hold no control token, and marking them costs as much as all else
    sanitize = any(token in text for token in tokenizer.added_tokens_encoder)
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, sanitize_control_tokens=sanitize, return_dict=False, **variables
    )
    return list(ids)


class ChatPrompt(NamedTuple):
    """Prompt of a chat: a message, and the beginning of its answer."""

    message: str
    begin: str


def encode_prompts(
    tokenizer: Tokenizer, prompts: Sequence[str | ChatPrompt], *, controls: bool = False
) -> list[list[int]]:
    """Return the ids of prompts: plain texts, or chats up to the beginning of the answer.

    Args:
        controls: control tokens in plain prompts are such; else plain text.
    """
    plain = iter(tokenizer.encode_ids([prompt for prompt in prompts if isinstance(prompt, str)], controls=controls))
    begins = {prompt.begin for prompt in prompts if isinstance(prompt, ChatPrompt)}
    encoded = dict(zip(begins, tokenizer.encode_ids(list(begins), special=False), strict=True))
    return [
        next(plain)
        if isinstance(prompt, str)
        else prompt_ids(tokenizer, prompt.message, enable_thinking=False) + encoded[prompt.begin]
        for prompt in prompts
    ]
