"""Embeddings of texts by a model of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ScoresNotFinite
from ...pipelines.base import token_types_of
from ...pipelines.streaming_batcher import ModelInput
from ...sentences.encoder import SentenceEncoder
from ...sentences.modules import Normalize
from .batcher import Times
from .embedding_inputs import EmbeddingOptions, Texts, check_dimensions, encoder_of, prompt_before, tokenize_texts
from .served_model import ServedModel


@dataclass
class Embeddings:
    """Embeddings of a request.

    Args:
        rows: float32 (texts, width). lengths: tokens of each text.
    """

    rows: NDArray[np.float32]
    lengths: Sequence[int]
    times: Times = field(default_factory=Times)

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


@dataclass(frozen=True)
class EmbeddingPass:
    """Forward pass of embeddings.

    Args:
        prompt: tokens of the prompt at the start of each text that are not pooled.
    """

    encoder: SentenceEncoder
    prompt: int = 0
    single = True

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[ModelInput]) -> Sequence[Any]:
        """Return an embedding (width,) for each input."""
        result = hidden_states(self.encoder.model, inputs)
        vectors = self.encoder.vectors(result.hidden, result.runs, self.prompt)
        return list(vectors.float().cpu().numpy())


@dataclass(frozen=True)
class TokenStatePass:
    """Forward pass of the last hidden states."""

    encoder: SentenceEncoder
    single = True

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[ModelInput]) -> Sequence[Any]:
        """Return hidden states (tokens, width) for each input."""
        result = hidden_states(self.encoder.model, inputs)
        return [rows.numpy() for rows in result.hidden.float().cpu().split(result.runs.lengths)]


def hidden_states(model: Any, inputs: Sequence[ModelInput]) -> Any:
    """Return the last hidden states of packed inputs, without the head's scores."""
    return model.run([each.ids for each in inputs], token_types_of(inputs), at=())


async def embed(model: ServedModel, texts: Texts, options: EmbeddingOptions) -> Embeddings:
    """Return the embeddings of texts or of lists of token ids. Raises ApiError, TextTooLong."""
    encoder, batcher = encoder_of(model), model.batcher
    width = check_dimensions(encoder, options.dimensions)
    prompt = prompt_before(encoder, texts, options)
    with batcher.admit(sum(map(len, texts))):
        inputs = await batcher.in_thread(lambda: tokenize_texts(encoder, texts, options, prompt))
        before = 0 if encoder.steps[0].include_prompt or not prompt else encoder.prompt_length(prompt)
        times, lengths = Times(), [len(each.ids) for each in inputs]
        found = await batcher.compute(EmbeddingPass(encoder, before), inputs, lengths, times)
        rows = await batcher.in_thread(lambda: finish_rows(found, width, normalizes(encoder, options)))
    return Embeddings(rows, lengths, times)


async def token_states(
    model: ServedModel, texts: Texts, options: EmbeddingOptions
) -> tuple[list[NDArray[np.float32]], list[int], Times]:
    """Return the last hidden states (tokens, width) of each text, and the number of its tokens."""
    encoder, batcher = encoder_of(model), model.batcher
    prompt = prompt_before(encoder, texts, options)
    with batcher.admit(sum(map(len, texts))):
        inputs = await batcher.in_thread(lambda: tokenize_texts(encoder, texts, options, prompt))
        times, lengths = Times(), [len(each.ids) for each in inputs]
        found = await batcher.compute(TokenStatePass(encoder), inputs, lengths, times)
    if not all(np.isfinite(rows).all() for rows in found):
        raise ScoresNotFinite("The model computed hidden states that are not numbers, or infinite.")
    return found, lengths, times


def normalizes(encoder: SentenceEncoder, options: EmbeddingOptions) -> bool:
    """Return whether embeddings are divided by their length, in float32: so are those of models with length 1."""
    if options.normalize is not None:
        return options.normalize
    return isinstance(encoder.steps[-1], Normalize)


def finish_rows(found: Sequence[Any], width: int, normalize: bool) -> NDArray[np.float32]:
    """Return embeddings (texts, width) of a pass's outputs. Raises ScoresNotFinite."""
    rows = np.stack(found)[:, :width]
    if not np.isfinite(rows).all():
        raise ScoresNotFinite("The model computed an embedding that is not a number, or infinite.")
    if normalize:
        rows = torch.nn.functional.normalize(torch.from_numpy(rows), dim=-1).numpy()
    return np.ascontiguousarray(rows)
