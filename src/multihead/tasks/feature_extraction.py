"""feature-extraction: a vector a token. sentence-similarity: a vector a text, and how alike two are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InvalidInput
from ..kernels.sight import Runs
from ..nn.ragged import mean
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

    def means(self, texts: Sequence[str], truncation: bool = False) -> Tensor:
        """Each text's mean state, of length one: (texts, width), float32 (Sentence-BERT, arXiv:1908.10084)."""
        found = torch.zeros(len(texts), self.model.config.hidden_size)
        for numbers, hidden, lengths in self._passes(texts, truncation):
            found[numbers] = F.normalize(mean(hidden, Runs.of(tuple(lengths))).float(), dim=-1).cpu()
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


class SentenceSimilarity(FeatureExtraction):
    """How alike sentences are, by the cosine of their mean states."""

    def __call__(self, inputs: Mapping[str, Any], **options: Any) -> Any:  # type: ignore[override]
        """A cosine (-1 to 1) for each of `inputs["sentences"]` with `inputs["source_sentence"]`.

        Raises:
            InvalidInput: an input without these two entries.
        """
        if not isinstance(inputs, Mapping) or not {"source_sentence", "sentences"} <= set(inputs):
            raise InvalidInput('sentence-similarity needs {"source_sentence": "...", "sentences": ["...", ...]}.')
        sentences, _ = texts_of(inputs["sentences"], "sentence")
        vectors = self.means([inputs["source_sentence"], *sentences], **options)
        return (vectors[1:] @ vectors[0]).tolist()
