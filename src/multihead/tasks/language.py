"""What every task of a language model shares: prompts from conversations, continuations, the likelihood of answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import torch

from ..errors import InvalidInput
from ..generation.generate import continued, with_ids
from ..generation.job import Extras
from .task import Task

NEW_TOKENS = 256  # where neither the call nor the checkpoint says how many
TOGETHER = 32  # texts that are continued at once; another begins when one has ended

Message = Mapping[str, Any]


class LanguageTask(Task):
    """A task that a decoder answers by continuing a text."""

    auto = "AutoModelForCausalLM"

    def prompt(self, chat: Sequence[Message], tools: list[Any] | None = None) -> list[int]:
        """A conversation's ids, up to where the answer begins."""
        ids = self.tokenizer.apply_chat_template(chat, tools=tools, add_generation_prompt=True, return_dict=False)
        return list(ids)

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        streamer: Any = None,
        ends: AbstractSet[int] = frozenset(),
        **options: Any,
    ) -> list[str]:
        """What follows each prompt, without special tokens.

        Args:
            ends: more tokens that end a text. options: fields of GenerationConfig.
        """
        config = self.model.generation_config
        if config.max_new_tokens is None and config.max_length is None and "max_length" not in options:
            options = {"max_new_tokens": NEW_TOKENS, **options}
        config = with_ids(config.changed(**options), self.model.generation_config)
        config = config.changed(eos_token_id=sorted(config.ends | own_ends(self.tokenizer) | ends) or None)
        if streamer is not None and len(prompts) > 1:
            raise InvalidInput("A streamer shows one text; this call has several.")
        extras = Extras(tokenizer=self.tokenizer)
        texts = [list(prompt) for prompt in prompts]
        found = (
            continued(self.model, texts, config, extras=extras, streamer=streamer, together=TOGETHER) if texts else []
        )
        return [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in found]

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


def own_ends(tokenizer: Any) -> set[int]:
    """The tokenizer's own end, which an instruction-tuned checkpoint may know better than its config."""
    return set() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id}


def filled(prompt: str, **given: str) -> str:
    """The prompt with `{name}` replaced by what is given; braces in the given texts stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda found: given.get(found[1], found[0]), prompt)
