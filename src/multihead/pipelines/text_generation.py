"""text-generation: continues texts, answers conversations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput, MultiheadError, UnsupportedOption
from .base import PipelineOptions, text_of
from .conversation import Conversation
from .generation_base import CausalLMPipeline, GenerationOptions, Message, check_messages
from .streaming_batcher import ModelInput, Preprocessed


@dataclass(frozen=True, kw_only=True)
class TextGenerationOptions(GenerationOptions):
    """Options of text-generation.

    Args:
        return_full_text: puts the prompt in front; for a conversation, returns all of it with the answer added.
        prefix: text before every prompt, not shown. add_special_tokens: adds the tokenizer's special tokens to prompts.
        handle_long_generation: "hole" drops the beginning of a prompt that leaves no room.
        continue_final_message: continues a conversation's last message. Default: if it is the assistant's.
        tools, documents: for chat templates that know them. skip_special_tokens: of the generated text.
    """

    return_full_text: bool | None = None
    prefix: str | None = None
    add_special_tokens: bool = True
    handle_long_generation: str | None = None
    continue_final_message: bool | None = None
    tools: Any = None
    documents: Any = None
    skip_special_tokens: bool = True

    def check(self) -> None:
        super().check()
        if self.return_tensors and self.return_full_text is not None:
            raise InvalidInput("return_full_text and return_tensors exclude each other.")
        if self.handle_long_generation not in (None, "hole"):
            raise UnsupportedOption(f"handle_long_generation is 'hole' or None, not {self.handle_long_generation!r}.")


class TextGeneration(CausalLMPipeline):
    """Continues texts with a language model; conversations go through the tokenizer's chat template.

    A text is a string, a conversation a list of `{"role": ..., "content": ...}`. The answer to each is
    `[{"generated_text": ...}]`, one record for each of `num_return_sequences`.
    """

    says_finish_reason = True
    Options: ClassVar[type[PipelineOptions]] = TextGenerationOptions
    input_name = "text_inputs"

    def usual_prefix(self, model: Any) -> str:
        return model.architecture.prefix

    def is_single(self, inputs: Any, o: TextGenerationOptions) -> bool:
        if isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], Mapping):
            return "role" in inputs[0] or "content" in inputs[0]
        return super().is_single(inputs, o)

    def validate(self, item: Any, o: TextGenerationOptions) -> str | list[Message]:
        if isinstance(item, Mapping) and isinstance(item.get("messages"), Sequence):
            item = item["messages"]
        if isinstance(item, (list, tuple)) and item and not isinstance(item[0], str):
            return check_messages(item)
        return text_of(item)

    def preprocess(self, items: Sequence[str | list[Message]], o: TextGenerationOptions) -> list[Preprocessed]:
        texts = {number: item for number, item in enumerate(items) if isinstance(item, str)}
        prefix = o.prefix if o.prefix is not None else self.prefix
        ids = self.tokenizer.encode_ids([prefix + text for text in texts.values()], special=o.add_special_tokens)
        prompts: dict[int, Any] = dict(zip(texts, ids, strict=True))
        for number, item in enumerate(items):
            if not isinstance(item, str):
                prompts[number] = self.encode_conversation(item, o)
        return [self.cut(prompts[number], o) for number in range(len(items))]

    def encode_conversation(self, messages: list[Message], o: TextGenerationOptions) -> list[int] | MultiheadError:
        """Return the ids of a conversation, or the error of its chat template."""
        try:
            return self.chat_ids(messages, o.tools, o.documents, continues_last(messages, o))
        except MultiheadError as error:
            return error

    def cut(self, ids: list[int] | MultiheadError, o: TextGenerationOptions) -> Preprocessed:
        """Return a prompt as model input, cut at its beginning or end if the call asks for it."""
        if isinstance(ids, MultiheadError):
            return ids
        if not ids:
            start = self.full_config(o).bos_token_id
            if start is None:
                return InvalidInput("has no tokens, and the model knows none to begin a text with.")
            ids = [start]
        if (o.handle_long_generation or o.truncation) and self.context_length is not None:
            room = self.context_length - (self.full_config(o).max_new_tokens or 1)
            if room < 1:
                return InvalidInput(
                    f"leaves no room for a prompt: max_new_tokens takes all {self.context_length} tokens."
                )
            ids = ids[-room:] if o.handle_long_generation else ids[:room]
        return [ModelInput(ids)]

    def postprocess(
        self, item: Any, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TextGenerationOptions
    ) -> Any:
        return self.finished([self.full_record(item, inputs[0], ids, o) for ids in outputs[0]], inputs, outputs, o)

    def full_record(
        self, item: Any, prompt: ModelInput, ids: Sequence[int], o: TextGenerationOptions
    ) -> dict[str, Any]:
        """Return generated ids as a record, with the prompt or conversation before them unless the call refuses it."""
        if o.return_tensors:
            return {"generated_token_ids": torch.tensor([*prompt.ids, *ids])}
        text = self.decode(ids, o, prompt.ids)
        if o.return_full_text is False:
            return {"generated_text": text}
        if isinstance(item, str):
            return {"generated_text": item + text}
        if continues_last(item, o):
            last = {**item[-1], "content": item[-1]["content"] + text}
            return {"generated_text": [*item[:-1], last]}
        return {"generated_text": [*item, {"role": "assistant", "content": text}]}

    def format_list(self, answers: list[Any], o: Any) -> Any:
        return answers

    def guard_default(self) -> None:
        """Guard greedy texts against repetition: of the task's default model, which the reference does not have."""
        self.guards_repetition = True
        text = "greedy texts of a default model avoid repeated runs; dry_multiplier=0 turns this off"
        self.note = f"{self.note}; {text}" if self.note else text

    def conversation(self, messages: Iterable[Message] = (), **options: Any) -> Conversation:
        """Return a conversation, which keeps the KV cache between its turns; the arguments are `Conversation`'s."""
        return Conversation(self, messages, **options)


def continues_last(messages: Sequence[Message], o: TextGenerationOptions) -> bool:
    """Return whether the last message is continued."""
    if o.continue_final_message is not None:
        return o.continue_final_message
    return bool(messages[-1].get("role") == "assistant")
