"""Similarity of texts to labels by a sentence encoder, relative to that of other texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..sentences.encoder import SentenceEncoder
from .reference_texts import VARIED_TEXTS

# Sentences whose preferences differ: their mean beside a language model was right more often than each of them.
TEMPLATES = ("This is a {} message.", "This example is {}.", "{}", "This text is about {}.")
KEPT = 16  # sets of labels whose vectors are kept


class LabelSimilarity:
    """Similarity of texts to labels: the mean over `TEMPLATES`, less the mean of the reference texts."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        self._labels: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def __call__(self, texts: Sequence[str], labels: Sequence[str]) -> Tensor:
        """Return the similarity of each text to each label (texts, labels)."""
        vectors, usual = self._vectors(tuple(labels))
        return self._similar(self._encode(texts), vectors) - usual

    def _vectors(self, labels: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Return the vectors of the sentences about labels (templates * labels, width), and their usual similarity.

        The latter is (labels,).
        """
        if labels not in self._labels:
            if len(self._labels) == KEPT:
                self._labels.clear()
            vectors = self._encode([template.format(label) for template in TEMPLATES for label in labels])
            usual = self._similar(self._encode(VARIED_TEXTS), vectors).mean(0)
            self._labels[labels] = vectors, usual
        return self._labels[labels]

    def _encode(self, texts: Sequence[str]) -> Tensor:
        vectors: Tensor = self.encoder.encode(list(texts), convert_to_tensor=True, prompt="")
        return vectors.float().cpu()

    def _similar(self, texts: Tensor, vectors: Tensor) -> Tensor:
        """Return the similarity of texts (texts, width) to labels, the mean over templates: (texts, labels)."""
        found: Tensor = self.encoder.similarity(texts, vectors)
        return torch.as_tensor(found).view(len(texts), len(TEMPLATES), -1).mean(1)
