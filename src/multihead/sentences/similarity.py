"""Similarity of embeddings: all pairs of two sets, or row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InvalidInput, UnsupportedConfig, nearest

Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Similarity:
    """Measure of similarity. Greater is more similar; distances are negative.

    Args:
        all_pairs: (a, width), (b, width) -> (a, b). pairwise: (rows, width) twice -> (rows,).
    """

    all_pairs: Measure
    pairwise: Measure


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def _negative_distance(power: float) -> Similarity:
    """Return the negative Lp distance: L1 for power 1, L2 for power 2."""

    def all_pairs(a: Tensor, b: Tensor) -> Tensor:
        return -torch.cdist(a, b, p=power, compute_mode="donot_use_mm_for_euclid_dist")

    return Similarity(all_pairs, lambda a, b: -torch.linalg.vector_norm(a - b, ord=power, dim=-1))


SIMILARITIES: Mapping[str, Similarity] = {
    "cosine": Similarity(lambda a, b: _unit(a) @ _unit(b).T, lambda a, b: (_unit(a) * _unit(b)).sum(-1)),
    "dot": Similarity(lambda a, b: a @ b.T, lambda a, b: (a * b).sum(-1)),
    "euclidean": _negative_distance(2.0),
    "manhattan": _negative_distance(1.0),
}


def similarity(name: Any) -> Similarity:
    """Return a measure by name. Raises UnsupportedConfig for an unknown name."""
    if name not in SIMILARITIES:
        raise UnsupportedConfig(f"The similarity {name!r} is not computed here. {nearest(str(name), SIMILARITIES)}")
    return SIMILARITIES[name]


def to_vectors(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Return two sets of vectors as tensors (rows, width) of one dtype on one device. A single vector is one row.

    Raises:
        InvalidInput: no vectors, or different widths.
    """
    first, second = _tensor(a), _tensor(b)
    if first.shape[-1] != second.shape[-1]:
        raise InvalidInput(f"Vectors of {first.shape[-1]} and {second.shape[-1]} numbers cannot be compared.")
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(first.device, dtype)


def _tensor(x: Any) -> Tensor:
    """Return one vector or several as (rows, width)."""
    try:
        rows = x if isinstance(x, Tensor) else torch.stack([_tensor(r)[0] for r in x]) if _nested(x) else _from_numpy(x)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InvalidInput(f"Vectors are a tensor, an array or a list of them, all of one width: {error}.") from error
    rows = rows if rows.is_floating_point() else rows.float()
    if rows.ndim not in (1, 2):
        raise InvalidInput(f"Vectors have shape (rows, width) or (width,), not {list(rows.shape)}.")
    return rows[None] if rows.ndim == 1 else rows


def _nested(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and len(x) > 0 and isinstance(x[0], Tensor)


def _from_numpy(x: Any) -> Tensor:
    import numpy as np

    return torch.tensor(np.asarray(x, dtype=x.dtype if isinstance(x, np.ndarray) else np.float32))
