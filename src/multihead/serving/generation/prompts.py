"""Prompts: conversations through the model's chat template, texts through its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ApiError
from ..models.served_model import ServedModel

RESERVED = frozenset(
    "tokenize chat_template conversation tools documents add_generation_prompt continue_final_message return_dict "
    "return_assistant_tokens_mask sanitize_control_tokens tokenizer_kwargs padding truncation max_length "
    "return_tensors messages".split()
)  # names that variables of a template cannot have: they would change how it is applied


def chat_prompt(
    model: ServedModel,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    documents: Sequence[Any] | None = None,
    continue_final_message: bool = False,
    add_generation_prompt: bool = True,
    add_special_tokens: bool = False,
    chat_template: str | None = None,
    variables: Mapping[str, Any] | None = None,
) -> list[int]:
    """Return the token ids of a conversation.

    Args:
        variables: more variables of the template.

    Raises:
        ApiError: a variable with a name that is not a template's to read. ChatTemplateError: see `apply_chat_template`.
    """
    if wrong := RESERVED & set(variables or ()):
        raise ApiError(
            f"chat_template_kwargs: {min(wrong)} is no variable of a template. Use the request's own field of this "
            "name if it has one.", param="chat_template_kwargs",
        )  # fmt: skip
    ids = model.tokenizer.apply_chat_template(
        list(messages), tools, documents, chat_template=chat_template, return_dict=False,
        add_generation_prompt=add_generation_prompt, continue_final_message=continue_final_message,
        tokenizer_kwargs={"add_special_tokens": add_special_tokens}, **(variables or {}),
    )  # fmt: skip
    return list(ids)


def text_prompt(model: ServedModel, text: str, *, add_special_tokens: bool = True) -> list[int]:
    """Return the token ids of a text."""
    ids: list[int] = model.tokenizer.encode_ids([text], special=add_special_tokens)[0]
    return ids
