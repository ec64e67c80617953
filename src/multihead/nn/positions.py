"""How attention learns where tokens are: by turning queries and keys, or by a bias on the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedConfig, nearest
from ..kernels.attention import Bias
from ..kernels.sight import Sight
from .call import Call


class Positions(nn.Module):
    """Attention that ignores order: the embeddings carry it."""

    def rotate(self, q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """Queries (tokens, heads, width) and keys (tokens, key heads, width), turned by their positions."""
        return q, k

    def bias(self, q: Tensor, sight: Sight, call: Call) -> Bias | None:
        """Gives each text's (heads, queries, keys) to add to the scaled scores; q is not yet rotated."""
        return None


class Rotary(Positions):
    """Turns pairs of channels by position times frequency (Su et al., 2021, arXiv:2104.09864).

    Args:
        frequencies: (rotated / 2,), radians a token; channels past `rotated` are left alone. Pair i is channels i and
            i + rotated / 2.
    """

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self.frequencies = frequencies  # derived, float32 whatever the model's precision: no buffer

    def rotate(self, q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        cos, sin = call.once(self, lambda: self._table(call.positions, q.dtype))
        return turned(q, cos, sin), turned(k, cos, sin)

    def _table(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (tokens, 1, rotated), the sines of the first half negated."""
        angles = positions[:, None, None].float() * self.frequencies.to(positions.device)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (tokens, heads, width) with its first channels rotated; a pair's partner is half the rotated width away."""
    width = cos.shape[-1]
    rotated = x if width == x.shape[-1] else x[..., :width]
    mixed = rotated * cos + rotated.roll(width // 2, -1) * sin
    return mixed if width == x.shape[-1] else torch.cat([mixed, x[..., width:]], -1)


def rope_frequencies(width: int, rope: Mapping[str, Any]) -> Tensor:
    """Radians a token of each channel pair, (width / 2,), after a checkpoint's own rule of scaling.

    Args:
        rope: `rope_theta`, and for a scaled kind `rope_type` and its numbers, as in config.json.

    Raises:
        UnsupportedConfig: a kind or number that is not computed here.
    """
    kind = rope.get("rope_type", "default")
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise UnsupportedConfig(f"rope_type {kind!r} is not computed here. {nearest(str(kind), SCALINGS)}")
    exponents = torch.arange(0, width, 2, dtype=torch.int64, device="cpu").float() / width
    try:
        plain = 1.0 / (rope["rope_theta"] ** exponents)
        return SCALINGS[kind](plain, rope)
    except KeyError as error:
        raise UnsupportedConfig(f"rope_parameters of rope_type {kind!r} lack {error}.") from error
    except (TypeError, ZeroDivisionError) as error:
        raise UnsupportedConfig(f"rope_parameters {dict(rope)} are no numbers to compute with: {error}.") from error


def _llama3(plain: Tensor, rope: Mapping[str, Any]) -> Tensor:
    """Slow channels are slowed by `factor`, fast ones kept, those between blended (Llama 3.1, arXiv:2407.21783)."""
    turns = rope["original_max_position_embeddings"] * plain / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return keep * plain + (1 - keep) * plain / rope["factor"]


SCALINGS = {
    "default": lambda plain, rope: plain,
    "linear": lambda plain, rope: plain / rope["factor"],
    "llama3": _llama3,
}
