"""How alike vectors are: all pairs of two sets (`a, b -> (a, b)`), or row by row (`-> (rows,)`)."""

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
    """A measure; greater is more alike. Distances count negative."""

    every: Measure
    pairwise: Measure


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def _far(power: float) -> Similarity:
    """The negative distance: 1 for steps along the axes, 2 for the straight line."""

    def every(a: Tensor, b: Tensor) -> Tensor:
        return -torch.cdist(a, b, p=power, compute_mode="donot_use_mm_for_euclid_dist")

    return Similarity(every, lambda a, b: -torch.linalg.vector_norm(a - b, ord=power, dim=-1))


SIMILARITIES: Mapping[str, Similarity] = {
    "cosine": Similarity(lambda a, b: _unit(a) @ _unit(b).T, lambda a, b: (_unit(a) * _unit(b)).sum(-1)),
    "dot": Similarity(lambda a, b: a @ b.T, lambda a, b: (a * b).sum(-1)),
    "euclidean": _far(2.0),
    "manhattan": _far(1.0),
}


def similarity(name: Any) -> Similarity:
    """Raises UnsupportedConfig for a name that is not computed here."""
    if name not in SIMILARITIES:
        raise UnsupportedConfig(f"The similarity {name!r} is not computed here. {nearest(str(name), SIMILARITIES)}")
    return SIMILARITIES[name]


def vectors_of(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two sets of vectors as tensors (rows, width) of one dtype and place; a single vector is a set of one.

    Raises:
        InvalidInput: no vectors, or of unlike width.
    """
    first, second = _tensor(a), _tensor(b)
    if first.shape[-1] != second.shape[-1]:
        raise InvalidInput(f"Vectors of {first.shape[-1]} and {second.shape[-1]} numbers cannot be compared.")
    kind = torch.promote_types(first.dtype, second.dtype)
    return first.to(kind), second.to(first.device, kind)


def _tensor(x: Any) -> Tensor:
    try:
        rows = x if isinstance(x, Tensor) else torch.stack([_tensor(r)[0] for r in x]) if _nested(x) else _plain(x)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InvalidInput(f"Vectors are a tensor, an array or a list of them, all of one width: {error}.") from error
    rows = rows if rows.is_floating_point() else rows.float()
    if rows.ndim not in (1, 2):
        raise InvalidInput(f"Vectors have shape (rows, width) or (width,), not {list(rows.shape)}.")
    return rows[None] if rows.ndim == 1 else rows


def _nested(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and len(x) > 0 and isinstance(x[0], Tensor)


def _plain(x: Any) -> Tensor:
    import numpy as np

    return torch.tensor(np.asarray(x, dtype=x.dtype if isinstance(x, np.ndarray) else np.float32))
