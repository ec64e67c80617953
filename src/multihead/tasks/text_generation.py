"""text-generation: continues texts, answers conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import InvalidInput
from ..generation.generate import continued, with_ids
from .task import Task, texts_of

NEW_TOKENS = 256  # where neither the call nor the checkpoint says how many
TOGETHER = 16  # texts that are continued at once

Message = Mapping[str, Any]


class TextGeneration(Task):
    """Continues texts with a language model; conversations go through the tokenizer's chat template."""

    auto = "AutoModelForCausalLM"

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

    def prompt(self, chat: Sequence[Message], tools: list[Any] | None = None) -> list[int]:
        """A conversation's ids, up to where the answer begins."""
        ids = self.tokenizer.apply_chat_template(chat, tools=tools, add_generation_prompt=True, return_dict=False)
        return list(ids)

    def complete(self, prompts: Sequence[Sequence[int]], *, streamer: Any = None, **options: Any) -> list[str]:
        """What follows each prompt, without special tokens."""
        config = self.model.generation_config
        if config.max_new_tokens is None and config.max_length is None and "max_length" not in options:
            options = {"max_new_tokens": NEW_TOKENS, **options}
        config = with_ids(config.changed(**options), self.model.generation_config)
        config = config.changed(eos_token_id=sorted(config.ends | ends(self.tokenizer)) or None)
        if streamer is not None and len(prompts) > 1:
            raise InvalidInput("A streamer shows one text; this call has several.")
        found: list[str] = []
        for begin in range(0, len(prompts), TOGETHER):
            part = [list(prompt) for prompt in prompts[begin : begin + TOGETHER]]
            for ids in continued(self.model, part, config, streamer=streamer):
                found.append(self.tokenizer.decode(ids, skip_special_tokens=True))
        return found

    def likelihoods(self, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> list[float]:
        """Mean log-probability a token of each answer after the prompt, all in one ragged pass."""
        texts = [[*prompt, *answer] for answer in answers]
        with torch.inference_mode():
            result = self.model.run(texts)
        found = []
        for begin, text, answer in zip(result.runs.begins, texts, answers, strict=True):
            last = begin + len(text) - 1
            scores = result.scores[last - len(answer) : last].float().log_softmax(-1)
            found.append(scores[range(len(answer)), list(answer)].mean().item())
        return found


def ends(tokenizer: Any) -> set[int]:
    """The tokenizer's own end, which an instruction-tuned checkpoint may know better than its config."""
    return set() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id}


def conversations(inputs: Any) -> tuple[list[Sequence[Message]] | None, bool]:
    """The inputs as conversations, and whether it was a single one; None when they are texts.

    Raises:
        InvalidInput: an empty list, or messages without a role or content.
    """
    if isinstance(inputs, str):
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
