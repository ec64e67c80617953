"""translation: a text in another language, by an encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import InvalidInput
from ..generation.generate import continued, with_ids
from .task import Task, batches, texts_of

LENGTH_FACTOR = 2  # a translation has at most this many times its source's tokens,
LENGTH_SPARE = 20  # and so many more


class Translation(Task):
    """Translates texts with an encoder-decoder, each text as one sequence."""

    auto = "AutoModelForSeq2SeqLM"

    def __call__(self, inputs: str | Sequence[str], **options: Any) -> list[dict[str, str]]:
        """`[{"translation_text": ...}]`, in the inputs' order.

        Args:
            options: fields of GenerationConfig.

        Raises:
            InvalidInput: an input that is no string.
        """
        texts, _ = texts_of(inputs)
        sources = self.tokenizer.encode_ids(texts)
        found = [""] * len(texts)
        base = with_ids(self.model.generation_config.changed(**options), self.model.generation_config)
        first = base.decoder_start_token_id
        if first is None:
            raise InvalidInput("The config names no decoder_start_token_id to begin a translation with.")
        for numbers in batches(list(map(len, sources)), 2048):
            longest = max(len(sources[number]) for number in numbers)
            config = base
            if base.max_new_tokens is None and base.max_length is None:
                config = base.changed(max_new_tokens=LENGTH_FACTOR * longest + LENGTH_SPARE)
            with torch.inference_mode():
                encoded = self.model.encode_texts([sources[number] for number in numbers])  # type: ignore[operator]
            for number, ids in zip(
                numbers, continued(self.model, [[first]] * len(numbers), config, encoded=encoded), strict=True
            ):
                found[number] = self.tokenizer.decode(ids, skip_special_tokens=True)
        return [{"translation_text": text} for text in found]
