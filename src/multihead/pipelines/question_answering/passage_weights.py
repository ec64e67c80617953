"""Log-weights of the passages of a long context: how well each fits a question, by shared words or by an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..defaults import MINILM
from ..encoders import AUTO, EncoderSlot
from .passages import passage_numbers, split_passages, term_coverage

SHARED_WORDS_WEIGHT = 8.0  # default log-weight of a passage that repeats the question over one that shares no term
SIMILARITY_WEIGHT = 24.0  # default log-weight of a passage for each 1.0 of its similarity
CONTEXTS = 8  # contexts whose passages stay embedded, because several questions are asked of one


class PassageWeights:
    """Weights of the passages of contexts for a model that answers. Default encoders are loaded when first needed."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.encoder = EncoderSlot()
        self.embedded: list[tuple[Any, str, Tensor]] = []  # encoder, context, vectors of its passages

    def choose_retriever(self, choice: Any) -> Any:
        """Return the retriever that an option stands for; one that the user names is loaded. Raises InvalidInput.

        "auto" is the default sentence encoder for answerers over it, where it is on the disk already.
        """
        if choice == AUTO:
            return MINILM.name if str(self.model.name_or_path) == MINILM.name else None
        return self.encoder.get(choice, self.model.device)

    def of_tokens(
        self, question: str, context: str, begins: Sequence[int], weight: float | None, retriever: Any
    ) -> Tensor:
        """Return the log-weight (tokens,) of each token's passage: 0 in the best passage, less elsewhere.

        Args:
            begins: first characters of the tokens. weight: of a fit of 1. retriever: an encoder, its name, or None for
                shared words.
        """
        spans = split_passages(context)
        if not weight or len(spans) < 2 or not begins:
            return torch.zeros(len(begins))
        passages = [context[begin:end] for begin, end in spans]
        if retriever is None:
            fit = torch.tensor(term_coverage(question, passages))
        else:
            fit = self.similarities(self.encoder.get(retriever, self.model.device), question, context, passages)
        return weight * (fit - fit.max())[passage_numbers(spans, begins)]

    def similarities(self, encoder: Any, question: str, context: str, passages: Sequence[str]) -> Tensor:
        """Return the similarity (passages,) of each passage to a question."""
        vectors = next((own for used, text, own in self.embedded if used is encoder and text == context), None)
        if vectors is None:
            vectors = encoder.encode(passages, convert_to_tensor=True)
            self.embedded = [*self.embedded[1 - CONTEXTS :], (encoder, context, vectors)]
        asked = encoder.encode([question], convert_to_tensor=True)
        found: Tensor = encoder.similarity(asked, vectors)[0].float().cpu()
        return found
