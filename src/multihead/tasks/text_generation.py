"""text-generation: continues texts, answers conversations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import InvalidInput
from .language import LanguageTask, Message
from .task import texts_of


class TextGeneration(LanguageTask):
    """Continues texts with a language model; conversations go through the tokenizer's chat template."""

    def __call__(
        self,
        inputs: str | Sequence[Any],
        *,
        return_full_text: bool = True,
        streamer: Any = None,
        tools: list[Any] | None = None,
        **options: Any,
    ) -> Any:
        """Answers in the reference's shape.

        Args:
            inputs: a string, a conversation (a list of `{"role": ..., "content": ...}`), or a list of either.
            return_full_text: the prompt in front; for a conversation, the whole of it with the answer added.
            streamer: gets tokens as they come; for one input. tools: for chat templates that know them.
            options: fields of GenerationConfig.

        Returns:
            `[{"generated_text": ...}]` for one input, a list of such lists for several.
        """
        chats, single = conversations(inputs)
        if chats is None:
            texts, single = texts_of(inputs)
            prompts = self.tokenizer.encode_ids(texts)
            shown: list[Any] = texts
        else:
            prompts, shown = [self.prompt(chat, tools) for chat in chats], list(chats)
        answers = []
        for prompt, given, text in zip(
            prompts, shown, self.complete(prompts, streamer=streamer, **options), strict=True
        ):
            if chats is not None:
                reply = {"role": "assistant", "content": text}
                answers.append([{"generated_text": [*given, reply] if return_full_text else text}])
            else:
                whole = self.tokenizer.decode(prompt, skip_special_tokens=True)
                front = given if whole == given or not whole else whole
                answers.append([{"generated_text": front + text if return_full_text else text}])
        return answers[0] if single else answers


def conversations(inputs: Any) -> tuple[list[Sequence[Message]] | None, bool]:
    """The inputs as conversations, and whether it was a single one; None when they are texts.

    Raises:
        InvalidInput: an empty list, or messages without a role or content.
    """
    if isinstance(inputs, str) or not isinstance(inputs, Iterable):
        return None, True
    items = list(inputs)
    if not items:
        raise InvalidInput("There is nothing to continue: the list of inputs is empty.")
    if isinstance(items[0], Mapping):
        return [checked(items)], True
    if isinstance(items[0], Sequence) and not isinstance(items[0], str):
        return [checked(list(item)) for item in items], False
    return None, False


def checked(messages: list[Any]) -> list[Message]:
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise InvalidInput(f'Message {number} must be {{"role": ..., "content": ...}}, not {message!r}.')
    return messages
