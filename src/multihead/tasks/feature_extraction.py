"""feature-extraction: a vector a token. sentence-similarity: a vector a text, and how alike two are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..sentences.encoder import SentenceEncoder
from ..tokenizers.tokenizer import Tokenizer
from .task import Task, batches, check_room, texts_of


class FeatureExtraction(Task):
    """The last hidden states of each text."""

    auto = "AutoModel"

    def __call__(self, inputs: str | Sequence[str], *, return_tensors: bool = False, truncation: bool = False) -> Any:
        """[1][tokens][width] nested lists for each text, or tensors (1, tokens, width) with return_tensors.

        Raises:
            InvalidInput: an input that is no string. TextTooLong: without truncation, more tokens than positions.
        """
        texts, single = texts_of(inputs)
        answers = [states[None] if return_tensors else [states.tolist()] for states in self.states(texts, truncation)]
        return answers[0] if single else answers

    def states(self, texts: Sequence[str], truncation: bool = False) -> list[Tensor]:
        """Each text's last hidden states (tokens, width), float32."""
        found: list[Tensor] = [torch.empty(0)] * len(texts)
        for numbers, hidden, lengths in self._passes(texts, truncation):
            for number, states in zip(numbers, hidden.float().split(lengths), strict=True):
                found[number] = states.cpu()
        return found

    def _passes(self, texts: Sequence[str], truncation: bool) -> Any:
        """(numbers, states (tokens, width), lengths) of each batch."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        ids = self.tokenizer.encode_ids(texts)
        if truncation and limit is not None:
            long = [number for number, text in enumerate(ids) if len(text) > limit]
            short = (
                self.tokenizer([texts[n] for n in long], truncation=True, max_length=limit)["input_ids"] if long else []
            )
            for number, text in zip(long, short, strict=True):
                ids[number] = text
        check_room(list(map(len, ids)), limit)
        for numbers in batches(list(map(len, ids))):
            with torch.inference_mode():
                result = self.model.run([ids[n] for n in numbers])
            yield numbers, result.hidden, list(result.runs.lengths)


class SentenceSimilarity(Task):
    """How alike sentences are, by the vectors and the measure of a sentence encoder.

    Args:
        model: a `SentenceEncoder`; of any other model, the means of its states are compared by their cosine.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, name: str) -> None:
        super().__init__(model, tokenizer, name)
        self.encoder = model if isinstance(model, SentenceEncoder) else SentenceEncoder(model, tokenizer)

    @classmethod
    def load(cls, name: str | os.PathLike[str], **options: Any) -> SentenceEncoder:
        return SentenceEncoder.from_pretrained(name, **options)

    def __call__(self, inputs: Mapping[str, Any], *, truncation: bool = False) -> list[float]:
        """A number (most often a cosine) for each of `inputs["sentences"]` with `inputs["source_sentence"]`.

        Raises:
            InvalidInput: an input without these two entries. TextTooLong: without truncation, more tokens than the
                encoder reads.
        """
        if not isinstance(inputs, Mapping) or not {"source_sentence", "sentences"} <= set(inputs):
            raise InvalidInput('sentence-similarity needs {"source_sentence": "...", "sentences": ["...", ...]}.')
        sentences, _ = texts_of(inputs["sentences"], "sentence")
        texts = [inputs["source_sentence"], *sentences]
        vectors = self.encoder.encode(texts, convert_to_tensor=True, truncation=truncation).float()
        found: list[float] = self.encoder.similarity(vectors[:1], vectors[1:])[0].tolist()
        return found
