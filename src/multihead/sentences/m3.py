"""BGE-M3 (Chen et al., 2024, arXiv:2402.03216): dense, sparse and token vectors of a text from one forward pass."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.torch_files import read
from ..errors import CheckpointMismatch, ModelNotFound, read_errors
from ..hub import Want
from ..hub.options import DownloadOptions
from ..nn.modes import in_evaluation
from ..nn.weights import Linear
from ..token_batches import TOKENS, texts_of
from .base import forward_batches, tokenize
from .encoder import SentenceEncoder
from .modules import unit_length

TOKENS_FILE, WORDS_FILE = "colbert_linear.pt", "sparse_linear.pt"


class M3Encoder(SentenceEncoder):
    """Sentence encoder with two further heads: a weight of each token, and a vector of each token.

    Attributes:
        token_linear: from states to token vectors. word_linear: from states to weights of tokens.
    """

    token_linear: Linear
    word_linear: Linear

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> M3Encoder:
        """Load a folder of BGE-M3: a sentence encoder's, with `colbert_linear.pt` and `sparse_linear.pt`.

        Raises:
            ModelNotFound: no such files. Others as `SentenceEncoder.from_pretrained` does.
        """
        place = DownloadOptions.pop_from(options)
        root = place.resolve(name, Want.CONFIG, Want.TOKENIZER, Want.WEIGHTS, Want.MODULES)
        encoder = super().from_pretrained(root, **options)
        assert isinstance(encoder, cls)
        width = encoder.model.config.hidden_size
        encoder.token_linear = read_linear(root / TOKENS_FILE, width).to(encoder.device, encoder.dtype)
        encoder.word_linear = read_linear(root / WORDS_FILE, width).to(encoder.device, encoder.dtype)
        return encoder

    @in_evaluation
    @torch.inference_mode()
    def encode_all(
        self,
        sentences: str | Iterable[str],
        *,
        batch_size: int | None = None,
        token_budget: int = TOKENS,
        show_progress_bar: bool = False,
    ) -> dict[str, Any]:
        """Return `dense_vecs`, `lexical_weights` and `colbert_vecs`, of several texts a list each.

        Dense vectors are (texts, width) with length 1. Lexical weights are token id -> greatest weight of the token,
        special tokens left out. Token vectors are (tokens - 1, width) with length 1, the first token left out.
        """
        texts, single = texts_of(sentences, "sentence")
        ids = tokenize(self.model, self.tokenizer, texts)
        dense: list[Any] = [None] * len(texts)
        words, vectors = list(dense), list(dense)
        for numbers, result in forward_batches(
            self.model, ids, budget=token_budget, most=batch_size, show=show_progress_bar
        ):
            rows = unit_length(self.vectors(result.hidden, result.runs))
            weights = self.word_linear(result.hidden).relu().squeeze(-1).float().split(result.runs.lengths)
            states = unit_length(self.token_linear(result.hidden)).split(result.runs.lengths)
            for place, number in enumerate(numbers):
                dense[number], vectors[number] = rows[place], states[place][1:]
                words[number] = self._lexical(ids.ids[number], weights[place].tolist())
        if single:
            return {"dense_vecs": dense[0], "lexical_weights": words[0], "colbert_vecs": vectors[0]}
        whole = torch.stack(dense) if dense else torch.zeros(0, self.width)
        return {"dense_vecs": whole, "lexical_weights": words, "colbert_vecs": vectors}

    def _lexical(self, ids: list[int], weights: list[float]) -> dict[int, float]:
        found: dict[int, float] = {}
        special = {self.tokenizer.cls_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        special.add(self.tokenizer.unk_token_id)
        for number, weight in zip(ids, weights, strict=True):
            if number not in special and weight > found.get(number, 0.0):
                found[number] = weight
        return found

    @staticmethod
    def lexical_score(a: Mapping[int, float], b: Mapping[int, float]) -> float:
        """Return the sum of products of the weights that two texts share."""
        return sum(weight * b[number] for number, weight in a.items() if number in b)

    @staticmethod
    def token_score(query: Tensor, document: Tensor) -> float:
        """Return the mean over a query's vectors of the best product with a document's."""
        return float((query.float() @ document.float().T).amax(1).mean())


def read_linear(path: Path, width: int) -> Linear:
    """Read a linear layer from `width` states. Raises ModelNotFound, CheckpointMismatch."""
    if not path.is_file():
        raise ModelNotFound(f"{path.parent} has no {path.name}, which a BGE-M3 has beside its transformer.")
    with read_errors(path):
        stored = read(path)
    if set(stored) != {"weight", "bias"} or stored["weight"].shape[-1:] != (width,):
        shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
        raise CheckpointMismatch(str(path), misshapen={"weight": ((width,), shapes.get("weight", ()))})
    layer = Linear(width, len(stored["weight"]))
    layer.weight, layer.bias = (nn.Parameter(stored[name]) for name in ("weight", "bias"))
    return layer
