"""Positions in attention: rotary embeddings of queries and keys, or biases of the scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedConfig, nearest
from ..kernels.backend import Bias
from ..kernels.hardware import kept_on
from ..kernels.ops import backend
from ..kernels.ragged import AttentionMask
from .forward_context import ForwardContext
from .weights import Float32Parameters


class Positions(nn.Module):
    """No positions in attention; base class of those that have some."""

    def rotate(self, q: Tensor, k: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Rotate queries (tokens, heads, width) and keys (tokens, key heads, width) by their positions."""
        return q, k

    def turns(self, context: ForwardContext) -> tuple[Tensor, Tensor] | None:
        """Return cosines and sines (tokens, rotated / 2) of the rotation, or None without one."""
        return None

    def biases(self, count: int) -> tuple[Tensor, bool] | None:
        """Return biases of a query's scaled scores, (heads, count) in float32, or None without biases.

        Of the keys that are count - 1 to 0 places before it; where the second says so, of the first `count` keys.
        """
        return None

    def bias(self, q: Tensor, k: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias | None:
        """Return a function that gives the bias (heads, queries, keys) of each sequence, or None.

        Args:
            q: (tokens, heads, width), not yet turned. k: (rows, key heads, width), turned, those remembered included.
        """
        return None


class Rotary(Positions):
    """Rotary embeddings: rotate pairs of channels by position times frequency (Su et al., arXiv:2104.09864).

    Args:
        frequencies: (rotated / 2,), radians a token; channels past `rotated` are left alone. Pair i is channels i and
            i + rotated / 2.
        scale: of what is turned (YaRN's attention factor).
    """

    def __init__(self, frequencies: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.frequencies = frequencies  # derived, float32 whatever the model's precision: no buffer
        self.scale = scale

    def rotate(self, q: Tensor, k: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        def table() -> tuple[Tensor, Tensor]:
            return context.cached(self, lambda: self._table(context, q.dtype))

        return backend(q).rotary(q, k, lambda: self.angles(context), table)

    def turns(self, context: ForwardContext) -> tuple[Tensor, Tensor]:
        return self.angles(context)

    def angles(self, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (tokens, rotated / 2) in float32, computed once per pass."""
        return context.cached((self, "angles"), lambda: self._angles(context))

    def inverse(self) -> Rotary:
        """Return positions that rotate the other way round (nanochat)."""
        return Rotary(-self.frequencies, self.scale)

    def of(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (positions, rotated / 2) of given positions."""
        return self._turns(places, self._known(places.device))

    def turned(self, x: Tensor, places: Tensor) -> Tensor:
        """Return x (positions, heads, width), turned by given positions (positions,)."""
        cos, sin = (part[:, None].to(x.dtype) for part in self.of(places))  # (positions, 1, rotated / 2) each
        half = cos.shape[-1]
        one, other, rest = x.split((half, half, x.shape[-1] - 2 * half), -1)
        return torch.cat([one * cos - other * sin, other * cos + one * sin, rest], -1)

    def _angles(self, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Compute cosines and sines (tokens, rotated / 2) of the pass's positions."""
        return self._turns(context.positions, self._frequencies(context))

    def _turns(self, places: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        # (tokens, rotated / 2). Frequencies are (rotated / 2,) or, where the length decides, (tokens, 1, rotated / 2).
        # In float32, since bfloat16 rounds positions above 256.
        angles = (places[:, None, None].float() * frequencies).squeeze(1)
        return angles.cos() * self.scale, angles.sin() * self.scale

    def _table(self, context: ForwardContext, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (tokens, 1, rotated), the sines of the first half negated."""
        angles = context.positions[:, None, None].float() * self._frequencies(context)  # (tokens, 1, rotated / 2)
        cos, sin = angles.cos() * self.scale, angles.sin() * self.scale
        # The signs are in the table, so that a rotation is two products and one roll: (tokens, 1, rotated) each.
        return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)

    def _frequencies(self, context: ForwardContext) -> Tensor:
        return self._known(context.positions.device)

    def _known(self, device: torch.device) -> Tensor:
        """Return the frequencies (rotated / 2,) of texts of any length, on a device."""
        return kept_on(device, self, "frequencies")


class TunedRotary(Rotary, Float32Parameters):
    """Rotary embeddings whose frequencies are multiplied by exponentials of stored numbers (LeRoPE, Mistral Large 4).

    These numbers do not learn.

    Args:
        base: positions with the frequencies before that.
    """

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, base: Rotary) -> None:
        super().__init__(base.frequencies, base.scale)
        self.base = base
        self.alpha = nn.Parameter(torch.empty(len(base.frequencies)), requires_grad=False)  # (rotated / 2,)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to the frequencies of `base`."""
        parameter.zero_()

    def _frequencies(self, context: ForwardContext) -> Tensor:
        return self.base._frequencies(context) * self.alpha.exp()

    def _known(self, device: torch.device) -> Tensor:
        return self.base._known(device) * self.alpha.exp()


class RotaryByLength(Rotary):
    """Rotary embeddings whose frequencies depend on the length of a sequence, not of the batch.

    Keys that were turned by other frequencies are of no use to a text, so whoever keeps keys asks for the `variant`.

    Args:
        by_length: tokens of a text, those of this pass included -> its frequencies (rotated / 2,).
        variant: tokens of a text -> a number; texts with the same one have the same frequencies.
    """

    def __init__(self, by_length: Callable[[int], Tensor], variant: Callable[[int], int], scale: float = 1.0) -> None:
        super().__init__(by_length(0), scale)
        self.by_length, self.variant = by_length, variant

    def inverse(self) -> Rotary:
        return RotaryByLength(lambda length: -self.by_length(length), self.variant, self.scale)

    def _frequencies(self, context: ForwardContext) -> Tensor:
        totals = context.total_lengths
        known = {total: self.by_length(total) for total in set(totals)}  # one computation for each length
        if len(known) == 1:
            return next(iter(known.values())).to(context.positions.device)  # (rotated / 2,)
        # (new tokens, 1, rotated / 2) each
        parts = [known[total].expand(new, 1, -1) for total, new in zip(totals, context.runs.lengths, strict=True)]
        return torch.cat(parts).to(context.positions.device)  # (tokens, 1, rotated / 2)


class LogScaledRotary(RotaryByLength):
    """Rotary embeddings that also multiply queries past the trained length by its logarithm (Qwen).

    The factor of a query at place n, counted from 1, is log n to the base of the trained length.

    Args:
        trained: length from which queries are multiplied.
    """

    def __init__(self, by_length: Callable[[int], Tensor], variant: Callable[[int], int], *, trained: int) -> None:
        super().__init__(by_length, variant)
        self.trained = trained

    def rotate(self, q: Tensor, k: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        # (tokens, 1, 1)
        factors = ((context.positions[:, None, None] + 1).float().log() / math.log(self.trained)).clamp(min=1.0)
        return super().rotate(q * factors.to(q.dtype), k, context)


def rotary(width: int, rope: Mapping[str, Any], limit: int) -> Rotary:
    """Build rotary embeddings from a config's `rope_parameters`.

    Args:
        width: of a head. limit: the config's max_position_embeddings.
        rope: `rope_theta`, and for a scaled kind `rope_type` and its numbers; `partial_rotary_factor` turns only the
            first channels.

    Raises:
        UnsupportedConfig: a kind or number that is not computed here.
    """
    kind = rope.get("rope_type", "default")
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise UnsupportedConfig(f"rope_type {kind!r} is not computed here. {nearest(str(kind), SCALINGS)}")
    known = {"original_max_position_embeddings": limit, **{k: v for k, v in rope.items() if v is not None}}
    for name in ("rope_theta", "factor"):
        value = known.get(name, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise UnsupportedConfig(f"rope_parameters: {name} must be a number above 0, not {value!r}.")
    try:
        part = 1.0 if kind == "proportional" else known.get("partial_rotary_factor", 1.0)
        rotated = int(width * part)  # channels of a head that are turned
        if rotated % 2:
            raise UnsupportedConfig(f"Rotary positions turn pairs of channels; {rotated} of a head's are to be turned.")
        return SCALINGS[kind](rotated, known, limit)
    except KeyError as error:
        raise UnsupportedConfig(f"rope_parameters of rope_type {kind!r} lack {error}.") from error
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise UnsupportedConfig(f"rope_parameters {dict(rope)} are no numbers to compute with: {error}.") from error


def frequencies_of(width: int, base: float) -> Tensor:
    """Return base ** (2 i / width) for each pair i, (width / 2,), float32."""
    return base ** (torch.arange(0, width, 2, dtype=torch.int64, device="cpu").float() / width)


def _plain(width: int, rope: Mapping[str, Any], limit: int) -> Rotary:
    return Rotary(1.0 / frequencies_of(width, rope["rope_theta"]))


def _linear(width: int, rope: Mapping[str, Any], limit: int) -> Rotary:
    return Rotary(1.0 / frequencies_of(width, rope["rope_theta"]) / rope["factor"])


def _dynamic(width: int, rope: Mapping[str, Any], limit: int) -> Rotary:
    """Raise the base with the length, once it exceeds the trained length (NTK-aware scaling)."""
    base, factor = rope["rope_theta"], rope["factor"]

    def by_length(length: int) -> Tensor:
        stretch = factor * max(length, limit) / limit - (factor - 1)  # 1 up to the trained length
        # With this exponent the lowest frequency is divided by `stretch` exactly, and the highest stays.
        return 1.0 / frequencies_of(width, base * stretch ** (width / (width - 2)))

    return RotaryByLength(by_length, lambda length: max(length, limit))


def _proportional(width: int, rope: Mapping[str, Any], limit: int) -> Rotary:
    """Turn the first pairs of a whole head with its frequencies, and leave the others (Gemma 4)."""
    turned = int(rope.get("partial_rotary_factor", 1.0) * width // 2)  # pairs
    # (width / 2,); a frequency of 0 turns nothing
    frequencies = (1.0 / frequencies_of(width, rope["rope_theta"])) / rope.get("factor", 1.0)
    return Rotary(torch.cat([frequencies[:turned], torch.zeros_like(frequencies[turned:])]))


def _llama3(width: int, rope: Mapping[str, Any], limit: int) -> Rotary:
    """Divide low frequencies by `factor`, keep high ones, blend between (Llama 3.1, arXiv:2407.21783)."""
    plain = 1.0 / frequencies_of(width, rope["rope_theta"])  # (rotated / 2,)
    turns = rope["original_max_position_embeddings"] * plain / (2 * math.pi)  # full turns within the trained length
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 1 keeps a frequency, 0 divides it
    return Rotary(keep * plain + (1 - keep) * plain / rope["factor"])


def _yarn(width: int, rope: Mapping[str, Any], limit: int) -> Rotary:
    """Keep frequencies that turn often within the trained length, lower the others (Peng et al., arXiv:2309.00071)."""
    base, trained = rope["rope_theta"], rope["original_max_position_embeddings"]
    factor = rope.get("factor") or limit / trained

    # The pair of channels that turns so many times within the trained length.
    def channel(turns: float) -> float:
        return width * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    # Pairs below `low` turn often and stay as they are; pairs above `high` are divided by `factor`.
    low, high = channel(rope.get("beta_fast") or 32), channel(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    # (rotated / 2,); 0.001 avoids a division by 0, and a negative span (a trained length below one turn) keeps all
    ramp = (torch.arange(width // 2, dtype=torch.float32, device="cpu") - low) / (high - low or 0.001)
    slow = ramp.clamp(0, 1)  # 0 keeps a frequency, 1 divides it
    plain = 1.0 / frequencies_of(width, base)
    return Rotary(plain / factor * slow + plain * (1 - slow), yarn_scale(factor, rope))


def yarn_scale(factor: float, rope: Mapping[str, Any]) -> float:
    """Return YaRN's attention factor, or the ratio of two that DeepSeek's checkpoints specify."""
    if "attention_factor" in rope:
        return float(rope["attention_factor"])
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return yarn_mscale(factor, rope["mscale"]) / yarn_mscale(factor, rope["mscale_all_dim"])
    return yarn_mscale(factor)


def yarn_mscale(factor: float, weight: float = 1.0) -> float:
    """Return YaRN's factor of the scores for positions stretched by `factor`."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _longrope(width: int, rope: Mapping[str, Any], limit: int) -> Rotary:
    """Divide each frequency by its own factor: one set up to the trained length, one past it (arXiv:2402.13753)."""
    trained = rope["original_max_position_embeddings"]
    factor = rope.get("factor") or limit / trained
    scale = rope.get("attention_factor")
    if scale is None:
        scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained))
    short, long = (  # (rotated / 2,) each
        1.0 / (torch.tensor(rope[name], dtype=torch.float32, device="cpu") * frequencies_of(width, rope["rope_theta"]))
        for name in ("short_factor", "long_factor")
    )
    # With one set for all lengths, cached keys stay valid when a sequence grows.
    if torch.equal(short, long):
        return Rotary(short, scale)
    return RotaryByLength(
        lambda length: long if length > trained else short, lambda length: int(length > trained), scale
    )


SCALINGS: Mapping[str, Callable[[int, Mapping[str, Any], int], Rotary]] = {
    "default": _plain,
    "dynamic": _dynamic,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "proportional": _proportional,
    "su": _longrope,
    "yarn": _yarn,
}
