"""text-generation: continues texts, answers conversations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput, MultiheadError, UnsupportedOption
from .base import Options, text_of
from .streaming_batcher import Piece
from .writing import Message, Speaker, Writing


@dataclass(frozen=True, kw_only=True)
class Continuing(Writing):
    """Of text-generation, beside those of every task that writes.

    Args:
        return_full_text: the prompt in front; for a conversation, the whole of it with the answer added.
        prefix: text before every prompt, not shown. add_special_tokens: frames prompts as the tokenizer does.
        handle_long_generation: "hole" drops the beginning of a prompt that leaves no room.
        continue_final_message: goes on with a conversation's last message; when left out, if it is the assistant's.
        tools, documents: for chat templates that know them. skip_special_tokens: of what is shown.
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


class TextGeneration(Speaker):
    """Continues texts with a language model; conversations go through the tokenizer's chat template.

    A text is a string, a conversation a list of `{"role": ..., "content": ...}`. The answer to each is
    `[{"generated_text": ...}]`, one record for each of `num_return_sequences`.
    """

    Options: ClassVar[type[Options]] = Continuing

    def is_single(self, inputs: Any, o: Continuing) -> bool:
        if isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], Mapping):
            return "role" in inputs[0] or "content" in inputs[0]
        return super().is_single(inputs, o)

    def accept(self, item: Any, o: Continuing) -> str | list[Message]:
        if isinstance(item, Mapping) and isinstance(item.get("messages"), Sequence):
            item = item["messages"]
        if isinstance(item, (list, tuple)) and item and not isinstance(item[0], str):
            return checked(item)
        return text_of(item)

    def pieces(self, items: Sequence[str | list[Message]], o: Continuing) -> list[list[Piece] | MultiheadError]:
        places = [place for place, item in enumerate(items) if isinstance(item, str)]
        before = o.prefix if o.prefix is not None else self.prefix
        texts = self.tokenizer.encode_ids([before + items[p] for p in places], special=o.add_special_tokens)  # type: ignore[operator]
        prompts: dict[int, Any] = dict(zip(places, texts, strict=True))
        for place, item in enumerate(items):
            if not isinstance(item, str):
                prompts[place] = self.conversation(item, o)
        return [self.cut(prompts[place], o) for place in range(len(items))]

    def conversation(self, messages: list[Message], o: Continuing) -> list[int] | MultiheadError:
        try:
            return self.chat(messages, o.tools, o.documents, goes_on(messages, o))
        except MultiheadError as error:
            return error

    def cut(self, ids: list[int] | MultiheadError, o: Continuing) -> list[Piece] | MultiheadError:
        """A prompt's piece, with its beginning dropped where that is asked."""
        if isinstance(ids, MultiheadError):
            return ids
        if not ids:
            start = self.settled(o).bos_token_id
            if start is None:
                return InvalidInput("has no tokens, and the model knows none to begin a text with.")
            ids = [start]
        if (o.handle_long_generation or o.truncation) and self.room is not None:
            room = self.room - (self.settled(o).max_new_tokens or 1)
            if room < 1:
                return InvalidInput(f"leaves no room for a prompt: max_new_tokens takes all {self.room} tokens.")
            ids = ids[-room:] if o.handle_long_generation else ids[:room]
        return [Piece(ids)]

    def finish(self, item: Any, pieces: Sequence[Piece], found: Sequence[Any], o: Continuing) -> list[dict[str, Any]]:
        return [self.written(item, pieces[0], ids, o) for ids in found[0]]

    def written(self, item: Any, piece: Piece, ids: Sequence[int], o: Continuing) -> dict[str, Any]:
        if o.return_tensors:
            return {"generated_token_ids": torch.tensor([*piece.ids, *ids])}
        text = self.tokenizer.decode(
            ids,
            skip_special_tokens=o.skip_special_tokens,
            clean_up_tokenization_spaces=o.clean_up_tokenization_spaces,
        )
        if o.return_full_text is False:
            return {"generated_text": text}
        if isinstance(item, str):
            return {"generated_text": item + text}
        if goes_on(item, o):
            last = {**item[-1], "content": item[-1]["content"] + text}
            return {"generated_text": [*item[:-1], last]}
        return {"generated_text": [*item, {"role": "assistant", "content": text}]}

    def together(self, found: list[Any], o: Any) -> Any:
        return found


def goes_on(messages: Sequence[Message], o: Continuing) -> bool:
    """Whether the last message is continued."""
    if o.continue_final_message is not None:
        return o.continue_final_message
    return bool(messages[-1].get("role") == "assistant")


def checked(messages: Iterable[Any]) -> list[Message]:
    """Messages. Raises InvalidInput for one without a role or content."""
    found = list(messages)
    for number, message in enumerate(found):
        if not isinstance(message, Mapping) or "role" not in message or not ({"content", "tool_calls"} & set(message)):
            raise InvalidInput(f'has no {{"role": ..., "content": ...}} as Message {number}, but {message!r}.')
    return found
