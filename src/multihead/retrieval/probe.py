"""The check that two encoders give the same vectors: embeddings of fixed texts, stored with an index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..sentences.encoder import SentenceEncoder

TEXTS = (
    "The library opens at nine, and the last train home leaves an hour before midnight.",
    "Quarterly revenue fell by 3.2 % after the recall.",
    "Why does bread rise?",
    "Zwei Kinder spielen im Garten; el perro duerme bajo la mesa.",
)
SAME = 0.95  # mean cosine: 0.999 for all-MiniLM-L6-v2 in int8 and 0.977 in int4, compared with float32


def probe_vectors(encoder: SentenceEncoder, truncate_dim: int | None) -> NDArray[np.float32]:
    """Return the embeddings (4, width) of the fixed texts, without a prompt."""
    rows = encoder.encode(TEXTS, prompt="", truncate_dim=truncate_dim, convert_to_tensor=True)
    return np.asarray(rows.float().cpu().numpy())


def check_encoder(encoder: SentenceEncoder, expected: Any, made_by: str, truncate_dim: int | None) -> None:
    """Raise InvalidInput if an encoder gives other embeddings of the fixed texts than `expected`.

    Args:
        made_by: name of the encoder that gave them.
    """
    found = probe_vectors(encoder, truncate_dim)
    if found.shape != expected.shape:
        raise InvalidInput(
            f"The index holds vectors of {made_by} with {expected.shape[1]} numbers, and {encoder.name_or_path} gives "
            f"{found.shape[1]}. Search with the model that made the index, or build it again."
        )
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float(((found * expected).sum(axis=1) / np.maximum(lengths, 1e-30)).mean())
    if not cosine >= SAME:
        raise InvalidInput(
            f"The index was made by {made_by}, and {encoder.name_or_path} gives other vectors (cosine {cosine:.2f} for "
            "the same texts). Search with the model that made the index, or build it again."
        )
