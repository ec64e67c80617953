"""Prompts: conversations through the model's chat template, texts through its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...tokenizers.chat import select_template
from ..errors import ApiError
from ..models.served_model import ServedModel
from ..text_limits import beginning
from .generic_tools import GENERIC, generic_messages
from .template_reads import check_messages, check_variables

RESERVED = frozenset(
    "tokenize chat_template conversation messages tools documents add_generation_prompt continue_final_message "
    "return_dict return_assistant_tokens_mask sanitize_control_tokens tokenizer_kwargs padding truncation max_length "
    "return_tensors".split()
)  # names that variables of a template cannot have: they would change how it is applied


@dataclass(frozen=True, kw_only=True)
class Template:
    """Settings of a chat template for one conversation.

    Args:
        source: another template than the model's own. variables: more variables of the template.
        add_generation_prompt: ends where the answer begins. continue_final_message: ends inside the last message.
        add_special_tokens: adds those of the tokenizer, which templates usually write themselves.
    """

    source: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    documents: Sequence[Any] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False

    def check(self) -> Template:
        """Return this. Raises ApiError for what excludes each other, and for reserved variables."""
        if self.add_generation_prompt and self.continue_final_message:
            raise ApiError(
                "continue_final_message needs add_generation_prompt to be false.", param="continue_final_message"
            )
        if wrong := sorted(RESERVED & set(self.variables)):
            raise ApiError(
                f"chat_template_kwargs cannot have {wrong[0]!r}: it decides how a template is applied, and is no "
                "variable of one.", param="chat_template_kwargs",
            )  # fmt: skip
        return self


def chat_prompt(
    model: ServedModel,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None,
    template: Template,
    most: int | None = None,
) -> list[int]:
    """Return the token ids of a conversation. `most`: see `text_prompts`.

    Raises:
        ApiError: variables or messages that the template leaves out. ChatTemplateError: it refuses the conversation.
    """
    variables = template.check().variables
    if generic_tools(model, template):
        messages, tools = generic_messages(messages, tools), None
    source = select_template(model.tokenizer, template.source, tools)
    check_variables(source, variables)

    def render(conversation: Sequence[Mapping[str, Any]]) -> str:
        return str(model.tokenizer.apply_chat_template(
            list(conversation), tools, template.documents, chat_template=template.source, tokenize=False,
            add_generation_prompt=template.add_generation_prompt,
            continue_final_message=template.continue_final_message, **variables,
        ))  # fmt: skip

    text = render(messages)
    check_messages(source, messages, text, render)
    return text_prompts(model, [text], most, add_special_tokens=template.add_special_tokens)[0]


def generic_tools(model: ServedModel, template: Template) -> bool:
    """Return whether tools are told in plain words: the server was asked to, and the chat template has no place."""
    return model.server.tool_template == GENERIC and "tools" not in template_text(model, template)


def template_text(model: ServedModel, template: Template) -> str:
    """Return the text of the chat template, or of all that the model has; empty for none."""
    own = model.tokenizer.chat_template if template.source is None else template.source
    return "\n".join(map(str, own.values())) if isinstance(own, Mapping) else str(own or "")


def text_prompts(
    model: ServedModel, texts: Sequence[str], most: int | None = None, *, add_special_tokens: bool = True
) -> list[list[int]]:
    """Return the token ids of texts.

    Args:
        most: tokens of a text; one with many more is refused before it is tokenized whole. None for no limit.

    Raises:
        ApiError: such a text.
    """
    if most is not None and any(beginning(model.tokenizer, text, most) is not text for text in texts):
        raise ApiError(
            f"The context of this model has {most} tokens, and the prompt alone has more. Shorten it.",
            code="context_length_exceeded",
        )
    ids: list[list[int]] = model.tokenizer.encode_ids(list(texts), special=add_special_tokens)
    return ids
